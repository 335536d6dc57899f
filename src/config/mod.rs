//! Every setting with its unit, default and IIS name; text → [`Config`]; errors with line and advice.
//!
//! This file holds the words: one struct per section of `mailroot.toml`, every value valid by the time it stands
//! here. The way there, in reading order: [`load`](Loaded::read) finds and reads the file, `parse` walks its
//! sections through the typed readers of `section`, `rules` judges what only several settings together show, and
//! [`errors`] puts what is wrong into words. `mailroot.toml` beside this file is the commented settings file that
//! `mailroot init` writes; a test holds it against the defaults.
//!
//! Reads one file, the machine's host name and `/etc/hosts`; writes nothing, asks no DNS. Runs on the caller's
//! thread. Not here: whether folders, hosts and password files exist (`mailroot check` looks).

pub mod errors;
pub mod hosts;
mod listener;
mod load;
mod machine;
pub mod on_hold;
mod parse;
mod rules;
mod section;
mod source;
#[cfg(test)]
mod tests;
mod transport;
pub mod units;
mod w3c;

pub use errors::{ConfigError, Problem};
pub use listener::{Certificate, Clients, Listener, ListenerTls, Network};
pub use load::{Loaded, SETTINGS_FILE};
pub use machine::FALLBACK_HOSTNAME;
pub use w3c::W3cField;

use std::path::PathBuf;
use std::time::Duration;

/// The commented settings file that `mailroot init` writes: every key with its default, unit and IIS name.
pub const TEMPLATE: &str = include_str!("mailroot.toml");

/// All settings of one mailroot, every one valid. Immutable: a reload makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[folders]`, made absolute
    pub folders: Folders,
    /// `[domains]`
    pub domains: Domains,
    /// `[[remote]]`, in file order
    pub remote: Vec<Remote>,
    /// `[pickup]`
    pub pickup: Pickup,
    /// `[messages]`
    pub messages: Messages,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[dns]`
    pub dns: Dns,
    /// `[drop]`
    pub drop: DropFolder,
    /// `[badmail]`
    pub badmail: Badmail,
    /// `[reports]`
    pub reports: Reports,
    /// `[durability]`
    pub durability: Durability,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[log]`
    pub log: Log,
    /// `[listener]`, or each `[[listener]]`, that is enabled
    pub listeners: Vec<Listener>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What we call ourselves in HELO, Received and Message-ID. (IIS: `FullyQualifiedDomainName`)
    pub hostname: String,
    /// Whether that was set, and is not just what this machine is called.
    pub hostname_is_set: bool,
}

/// `[folders]`: absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// (IIS: `PickupDirectory`)
    pub pickup: PathBuf,
    /// (IIS: `QueueDirectory`)
    pub queue: PathBuf,
    /// (IIS: `DropDirectory`)
    pub drop: PathBuf,
    /// (IIS: `BadMailDirectory`)
    pub badmail: PathBuf,
    /// heartbeats
    pub status: PathBuf,
    /// log files. (IIS: `LogFileDirectory`)
    pub logs: PathBuf,
}

/// `[domains]`: what is local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    /// Local, and appended to addresses without a domain. (IIS: `DefaultDomain`)
    pub default: String,
    /// Further local domains. (IIS: `alias domains`)
    pub aliases: Vec<String>,
}

/// `[[remote]]`: a remote domain with a route of its own. (IIS: `IIsSmtpDomain`)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `example.com`, or `*.example.com` for every name below it.
    pub name: String,
    /// How its mail leaves. (IIS: `RouteAction`)
    pub route: RemoteRoute,
    /// `None`: that of `[delivery]`.
    pub port: Option<u16>,
    /// `None`: that of `[delivery]`.
    pub tls: Option<TlsMode>,
    /// Say HELO, never EHLO. (IIS: `RouteAction 0x400000`)
    pub helo: bool,
    /// `None`: that of `[delivery]` when the route is a smart host of `[delivery]`, else no authentication.
    pub auth: Option<Auth>,
    /// Its mail waits until it is asked for (ETRN), or this is false again. (IIS: `RouteAction 0x200`)
    pub hold: bool,
    /// Age at which mail on hold is given up; `None`: that of `[delivery]`.
    pub hold_expire: Option<Duration>,
    /// For the listener: who may take its mail over his own connection, when it is on hold (ATRN).
    pub atrn_users: Vec<String>,
    /// For the listener: others may relay to it. (IIS: `RouteAction 0x1000`)
    pub relay: bool,
}

/// Where a remote domain's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteRoute {
    /// Its own MX hosts, whatever `[delivery]` says.
    Mx,
    /// These smart hosts; empty means those of `[delivery]`.
    SmartHost(Vec<HostPort>),
}

/// `host`, `host:port`, `[ip]` or `[ip]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A host name, or an IP address without its brackets.
    pub host: Host,
    /// `None`: the port of the route.
    pub port: Option<u16>,
}

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Looked up as A/AAAA.
    Name(String),
    /// Given as `[ip]`: skips DNS. (IIS: `SmartHost`)
    Ip(std::net::IpAddr),
}

/// `[pickup]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pickup {
    /// How often the folder is listed, whatever notifications say.
    pub poll: Duration,
    /// How long a file written in place must not have been written to.
    pub quiet: Duration,
    /// How long size and times must stay the same where nobody can be asked.
    pub settle: Duration,
    /// How long a message without its closing boundary may take to get it.
    pub incomplete_grace: Duration,
    /// How lines that begin with a period are meant. (IIS: `SmtpDotStuffPickupDirFiles`)
    pub dots: DotsSetting,
    /// Name patterns that are left alone; `*` stands for anything. Names that begin with `.` or `~` are in any case.
    pub ignore: Vec<String>,
    /// Sender of a file that names none; empty: such a file goes to Badmail.
    pub default_sender: String,
}

/// `pickup.dots`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DotsSetting {
    /// Judge each file.
    #[default]
    Auto,
    /// One period is removed from each line that begins with one.
    Stuffed,
    /// Every byte is meant.
    Literal,
}

/// `[messages]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// Bytes; 0: no limit. (IIS: `MaxMessageSize`)
    pub max_size: u64,
    /// Recipients per transaction. (IIS: `MaxRecipients`)
    pub max_recipients: usize,
    /// Messages per connection; 0: no limit. (IIS: `MaxBatchedMessages`)
    pub max_per_connection: usize,
    /// `Received:` headers before a message counts as looping. (IIS: `HopCount`)
    pub max_hops: usize,
}

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Tried in order; empty: MX. (IIS: `SmartHost`)
    pub smart_host: Vec<HostPort>,
    /// (IIS: `SmartHostType`)
    pub smart_host_mode: SmartHostMode,
    /// (IIS: `RemoteSmtpPort`)
    pub port: u16,
    /// (IIS: `AlwaysUseSsl`)
    pub tls: TlsMode,
    /// TLS from the first byte (port 465), for the smart host.
    pub implicit_tls: bool,
    /// PEM file of trusted roots in place of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// For the smart host. (IIS: `RouteUserName`)
    pub auth: Option<Auth>,
    /// Send credentials over an unencrypted connection.
    pub allow_plaintext_auth: bool,
    /// When a deferred message is tried again; the last repeats. (IIS: `SmtpRemoteProgressiveRetry`)
    pub schedule: Schedule,
    /// Connections in all. (IIS: `MaxOutConnections`)
    pub max_connections: usize,
    /// Connections to one destination. (IIS: `MaxOutConnectionsPerDomain`)
    pub max_connections_per_domain: usize,
    /// Messages under way on one connection whose last reply is still due, where the host offers PIPELINING (RFC 2920);
    /// with DATA two at most. It bounds the second copies when the connection breaks; 1: one after the other.
    pub max_in_flight: usize,
    /// Until a TCP connection stands.
    pub connect_timeout: Duration,
    /// For each reply of a host. (IIS: `RemoteTimeout`)
    pub timeout: Duration,
    /// Replaces a local domain in MAIL FROM; empty: off. (IIS: `MasqueradeDomain`)
    pub masquerade_domain: String,
}

/// `retry`, `delay_notice`, `expire` of `[delivery]` and of `[drop]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Waits after the first, second … failed attempt; the last repeats. Never empty.
    pub retry: Vec<Duration>,
    /// Age at which the sender is told of the delay, once; zero: never. (IIS: `SmtpRemoteDelayExpireMinutes`)
    pub delay_notice: Duration,
    /// Age at which the message is given up. (IIS: `SmtpRemoteNDRExpireMinutes`)
    pub expire: Duration,
}

/// `smart_host_mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmartHostMode {
    /// All remote mail goes there.
    Always,
    /// MX first; the smart host when no MX host could be reached.
    AfterDirect,
}

/// `tls`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Encrypt when offered, whoever's certificate it is; plain after a failed handshake.
    Opportunistic,
    /// Never.
    Off,
    /// Encrypt or defer; the certificate is not judged.
    Required,
    /// Encrypt with a certificate that is valid for the host, or defer.
    Verified,
}

/// `auth`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name.
    pub user: String,
    /// Where the password or token comes from; read at each use, never kept in the settings.
    pub secret: SecretSource,
    /// `None`: the strongest that the host offers.
    pub mechanism: Option<Mechanism>,
}

/// `password_file`, or `token_file` / `token_command` for XOAUTH2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// The first line of this file.
    File(PathBuf),
    /// The first line that this command prints (program and arguments, no shell).
    Command(Vec<String>),
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616
    Plain,
    /// The old one that Exchange wants
    Login,
    /// RFC 2195
    CramMd5,
    /// Bearer token
    Xoauth2,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<std::net::SocketAddr>,
}

/// `[drop]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropFolder {
    /// Bytes that may lie in Drop; 0: no limit.
    pub quota: u64,
    /// For local delivery.
    pub schedule: Schedule,
}

/// `[badmail]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badmail {
    /// Days after which files go; 0: never.
    pub keep_days: u32,
    /// Bytes above which the oldest go; 0: no limit.
    pub max_size: u64,
}

/// `[reports]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reports {
    /// From address of DSNs. (IIS: `PostmasterEmail`)
    pub postmaster: crate::mail::Address,
    /// Gets a copy of each failure DSN. (IIS: `SendNdrTo`)
    pub copy_to: Option<crate::mail::Address>,
}

/// `[durability]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// At most this long until a removal is on the disk.
    pub flush: Duration,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How often a node shows that it lives.
    pub heartbeat: Duration,
    /// How long a silent node keeps its claims.
    pub lease: Duration,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What is written.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
    /// Also into `Logs/`.
    pub file: bool,
    /// The fields of W3C extended log files in `Logs/`; `None`: none are written. (IIS: `LogType`, `LogExtFileFlags`)
    pub w3c: Option<Vec<W3cField>>,
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// And what may need one.
    Warn,
    /// And one line per message taken and per final fate.
    Info,
    /// And every step.
    Debug,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
