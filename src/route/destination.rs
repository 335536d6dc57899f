//! Where a transaction goes and under which conditions; equal ones are one.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use super::HostAddress;
use crate::config::{Auth, Host, HostPort, SecretSource, TlsMode};

/// One queue of the engine: everything that decides about a connection and its dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Names it in logs and is unique: equal keys mean equal conditions, also across a reload of the settings.
    /// `mx:example.net`, `smart host [127.0.0.1]:2525`; what is not usual stands in parentheses.
    pub key: String,
    /// Which hosts.
    pub hop: NextHop,
    /// Where a host is not given with a port of its own.
    pub port: u16,
    /// Whether TLS is tried or required.
    pub tls: TlsMode,
    /// TLS from the first byte. See [`Destination::implicit_tls_at`].
    pub implicit_tls: bool,
    /// Say HELO, never EHLO.
    pub helo_only: bool,
    /// Credentials. See [`Destination::auth_at`].
    pub auth: Option<Auth>,
    /// Its mail waits.
    pub hold: bool,
    /// It goes this way, and by one connection.
    pub door: Option<Arc<Door>>,
    /// Which rule chose it, in words: of one that several rules share, all of them.
    pub rule: String,
}

/// A port of 127.0.0.1 behind which somebody takes mail that was on hold, over a connection that he has opened (ATRN).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Unlike any other.
    pub id: String,
    /// Where to knock.
    pub port: u16,
    /// What is said there, and what is heard.
    pub words: (String, String),
}

/// Which hosts are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// The MX hosts of this A-label domain.
    Mx(String),
    /// These, in order.
    SmartHosts(Vec<HostPort>),
    /// The MX hosts of this domain (or the host of this address literal, in brackets), then these.
    MxThenSmartHosts(String, Vec<HostPort>),
    /// This one: the recipient's domain is an address literal.
    Literal(IpAddr),
}

impl Destination {
    /// The credentials for one of its hosts. After a direct attempt the smart host is a fallback: its credentials
    /// are not for the MX hosts of strangers.
    pub fn auth_at(&self, host: &HostAddress) -> Option<&Auth> {
        self.auth.as_ref().filter(|_| !self.is_stranger(host))
    }

    /// Whether TLS starts with the first byte at one of its hosts; like [`Destination::auth_at`].
    pub fn implicit_tls_at(&self, host: &HostAddress) -> bool {
        self.implicit_tls && !self.is_stranger(host)
    }

    /// The same way for mail that was on hold and has been asked for.
    pub fn released(&self) -> Self {
        Self {
            hold: false,
            ..self.clone()
        }
        .with_key()
    }

    /// Not by its route, but through this door.
    pub fn through(&self, door: Door) -> Self {
        let host = HostPort {
            host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: Some(door.port),
        };
        Self {
            key: format!("ATRN {}", door.id),
            hop: NextHop::SmartHosts(vec![host]),
            port: door.port,
            tls: TlsMode::Off,
            implicit_tls: false,
            helo_only: false,
            auth: None,
            hold: false,
            door: Some(Arc::new(door)),
            rule: format!("ATRN; else {}", self.rule),
        }
    }

    fn is_stranger(&self, host: &HostAddress) -> bool {
        host.from_mx && matches!(self.hop, NextHop::MxThenSmartHosts(..))
    }

    /// Sets the key after all else: whatever a connection depends on stands in it.
    pub(super) fn with_key(mut self) -> Self {
        let mut conditions = Vec::new();
        if self.port != SMTP && !matches!(self.hop, NextHop::SmartHosts(_)) {
            conditions.push(format!("port {}", self.port));
        }
        match self.tls {
            TlsMode::Opportunistic => {}
            TlsMode::Off => conditions.push("tls off".to_owned()),
            TlsMode::Required => conditions.push("tls required".to_owned()),
            TlsMode::Verified => conditions.push("tls verified".to_owned()),
        }
        if self.implicit_tls {
            conditions.push("implicit tls".to_owned());
        }
        if self.helo_only {
            conditions.push("helo".to_owned());
        }
        if let Some(auth) = &self.auth {
            conditions.push(auth_words(auth));
        }
        if self.hold {
            conditions.push("held".to_owned());
        }
        self.key = hop_words(&self.hop, self.port);
        if !conditions.is_empty() {
            let _ = write!(self.key, " ({})", conditions.join(", "));
        }
        self
    }
}

/// What `delivery.port` is when nobody says anything.
const SMTP: u16 = 25;

fn hop_words(hop: &NextHop, port: u16) -> String {
    match hop {
        NextHop::Mx(domain) => format!("mx:{domain}"),
        NextHop::SmartHosts(list) => format!("smart host {}", list_words(list, port)),
        NextHop::MxThenSmartHosts(domain, list) => {
            format!("mx:{domain}, then smart host {}", list_words(list, port))
        }
        NextHop::Literal(ip) => format!("[{ip}]"),
    }
}

fn list_words(list: &[HostPort], port: u16) -> String {
    let words: Vec<_> = list.iter().map(|host| host_words(host, port)).collect();
    words.join(", ")
}

/// `name:port` or `[ip]:port`.
pub(super) fn host_words(host: &HostPort, port: u16) -> String {
    let port = host.port.unwrap_or(port);
    match &host.host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Ip(ip) => format!("[{ip}]:{port}"),
    }
}

/// Enough to tell two apart, whatever the texts hold. A command's arguments may hold a secret, so only a mark of them is shown, and one
/// that means nothing outside this process.
fn auth_words(auth: &Auth) -> String {
    let mut words = format!("as {:?}", auth.user);
    if let Some(mechanism) = auth.mechanism {
        let _ = write!(words, " by {mechanism:?}");
    }
    match &auth.secret {
        SecretSource::File(path) => {
            let _ = write!(words, " with {path:?}");
        }
        SecretSource::Command(command) => {
            let program = command.first().map_or("", String::as_str);
            let _ = write!(words, " with the output of {program:?}");
            if command.len() > 1 {
                let _ = write!(words, " #{:08x}", mark(command));
            }
        }
    }
    words
}

fn mark(command: &[String]) -> u64 {
    static KEYED: OnceLock<RandomState> = OnceLock::new();
    KEYED.get_or_init(RandomState::new).hash_one(command)
}
