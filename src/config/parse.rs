//! Text → [`Config`]: one function per section, in the order of the file that `mailroot init` writes.
//!
//! Pure but for making paths absolute. The defaults stand here, each beside its key.

use super::section::Section;
use super::source::{self, Source};
use super::*;
use crate::mail::Address;
use std::ops::RangeInclusive;
use std::path::Path;
use toml::de::DeTable;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const MILLI: Duration = Duration::from_millis(1);
/// Nothing in a mail spool takes longer; keeps all arithmetic on times far from its limits.
pub(super) const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What is given in lists stays bounded, so that looking through them does.
const MAX_REMOTES: usize = 10_000;
const MAX_ALIASES: usize = 10_000;
const MAX_PATTERNS: usize = 200;
const MAX_DNS_SERVERS: usize = 20;

/// Where a text comes from, and where its relative paths are meant from.
pub(super) struct Place<'a> {
    /// As named in messages.
    pub file: &'a Path,
    /// The mailroot: for `[folders]`.
    pub dir: &'a Path,
    /// The settings file's folder: for passwords, tokens, certificates.
    pub beside: &'a Path,
}

/// Reads the whole text; finds all mistakes in one pass. With the warnings.
pub(super) fn parse(
    text: &str,
    place: &Place<'_>,
    hostname: &str,
) -> Result<(Config, Vec<String>), ConfigError> {
    // Windows editors put it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(place.file, text);
    let config = read(&source, place, hostname);
    let (problems, warnings) = source.finish();
    match config {
        Some(config) if problems.is_empty() => Ok((config, warnings)),
        _ => Err(ConfigError { problems }),
    }
}

/// Every section; mistakes are left in the source. `None` when the text is not TOML.
pub(super) fn read(source: &Source<'_>, place: &Place<'_>, machine: &str) -> Option<Config> {
    source::tree(source).map(|table| whole(source, table, place, machine))
}

fn whole(source: &Source<'_>, table: DeTable<'_>, place: &Place<'_>, machine: &str) -> Config {
    let mut root = Section::new(source, "", table);
    let server = server(section(&mut root, "server", "[server]"), machine);
    let folders = folders(section(&mut root, "folders", "[folders]"), place.dir);
    let domains = domains(section(&mut root, "domains", "[domains]"), &server.hostname);
    let delivery = transport::delivery(section(&mut root, "delivery", "[delivery]"), place.beside);
    let remote = root
        .tables("remote", MAX_REMOTES)
        .into_iter()
        .filter_map(|(table, span)| {
            let entry = Section::new(source, "[[remote]]", table);
            transport::remote(entry, &span, place.beside, &delivery.smart_host)
        })
        .collect();
    let config = Config {
        reports: reports(section(&mut root, "reports", "[reports]"), &domains.default),
        pickup: pickup(section(&mut root, "pickup", "[pickup]"), &domains.default),
        messages: messages(section(&mut root, "messages", "[messages]")),
        dns: dns(section(&mut root, "dns", "[dns]")),
        drop: drop_folder(section(&mut root, "drop", "[drop]")),
        badmail: badmail(section(&mut root, "badmail", "[badmail]")),
        durability: durability(section(&mut root, "durability", "[durability]")),
        cluster: cluster(section(&mut root, "cluster", "[cluster]")),
        log: log(section(&mut root, "log", "[log]")),
        listeners: listener::listeners(&mut root, place.beside),
        remote: rules::remotes(source, remote, &domains),
        server,
        folders,
        domains,
        delivery,
    };
    root.done();
    config
}

/// A section of the file, or an empty one: its keys must be asked for in any case.
fn section<'i, 's>(root: &mut Section<'i, 's>, key: &'static str, shown: &'static str) -> Section<'i, 's> {
    match root.table(key, shown, shown) {
        Some((section, _)) => section,
        None => Section::new(root.source, shown, DeTable::new()),
    }
}

fn server(mut s: Section<'_, '_>, machine: &str) -> Server {
    let given = s.read("hostname", "\"mail.example.com\"", hosts::hostname);
    s.done();
    Server {
        hostname_is_set: given.is_some(),
        hostname: given.map_or_else(|| machine.to_owned(), |(name, _)| name),
    }
}

fn folders(mut s: Section<'_, '_>, dir: &Path) -> Folders {
    let mut seen = Vec::new();
    let mut folder = |key: &'static str, default: &str| {
        let given = s.read(key, "\"Pickup\"", |text| path(text, dir));
        let (path, span) = given.map_or_else(
            || (plain(&dir.join(default)), None),
            |(path, span)| (path, Some(span)),
        );
        seen.push(rules::Place {
            key,
            path: path.clone(),
            span,
        });
        path
    };
    let folders = Folders {
        pickup: folder("pickup", "Pickup"),
        queue: folder("queue", "Queue"),
        drop: folder("drop", "Drop"),
        badmail: folder("badmail", "Badmail"),
        status: folder("status", "Status"),
        logs: folder("logs", "Logs"),
    };
    rules::folders(s.source, &seen);
    s.done();
    folders
}

/// A path from the settings, made absolute.
pub(super) fn path(text: &str, from: &Path) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty; leave the line out for the default".into()),
        text => Ok(plain(&from.join(text))),
    }
}

/// Absolute, without `.` and with `..` taken back as far as names alone allow.
fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.parent().is_some() => {
                out.pop();
            }
            Component::ParentDir => {}
            other => out.push(other),
        }
    }
    out
}

fn domains(mut s: Section<'_, '_>, hostname: &str) -> Domains {
    let default = s.read("default", "\"example.com\"", hosts::domain);
    let aliases = s.texts("aliases", "[\"example.org\"]", MAX_ALIASES, hosts::domain);
    s.done();
    Domains {
        default: default.map_or_else(|| hostname.to_owned(), |(name, _)| name),
        aliases: aliases
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| name)
            .collect(),
    }
}

fn pickup(mut s: Section<'_, '_>, default_domain: &str) -> Pickup {
    let modes = [
        ("auto", DotsSetting::Auto),
        ("stuffed", DotsSetting::Stuffed),
        ("literal", DotsSetting::Literal),
    ];
    let pickup = Pickup {
        poll: s.duration("poll", SECOND * 2, MILLI * 10..=DAY),
        quiet: s.duration("quiet", MILLI * 100, Duration::ZERO..=DAY),
        settle: s.duration("settle", SECOND, Duration::ZERO..=DAY),
        incomplete_grace: s.duration("incomplete_grace", MINUTE, Duration::ZERO..=TEN_YEARS),
        dots: s
            .choice("dots", &modes)
            .map_or(DotsSetting::Auto, |(dots, _)| dots),
        ignore: s
            .texts("ignore", "[\"*.tmp\"]", MAX_PATTERNS, rules::ignore_pattern)
            .map_or_else(default_ignore, |list| {
                list.into_iter().map(|(pattern, _)| pattern).collect()
            }),
        default_sender: address(&mut s, "default_sender", default_domain)
            .map(|address| address.as_str().to_owned())
            .unwrap_or_default(),
    };
    s.done();
    pickup
}

/// Names that begin with `.` or `~` need no pattern: they are left alone whatever the setting says.
fn default_ignore() -> Vec<String> {
    [
        "*~",
        "*.tmp",
        "*.part",
        "*.partial",
        "*.swp",
        "*.filepart",
        "*.crdownload",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// An address, or `None` for an empty text.
fn address(s: &mut Section<'_, '_>, key: &'static str, default_domain: &str) -> Option<Address> {
    let given = s.read(key, "\"postmaster@example.com\"", |text| match text {
        "" => Ok(None),
        text => Address::parse(text, default_domain)
            .map(Some)
            .map_err(|error| error.to_string()),
    });
    given.and_then(|(address, _)| address)
}

fn messages(mut s: Section<'_, '_>) -> Messages {
    let messages = Messages {
        max_size: s.size("max_size", 32 << 20),
        max_recipients: s.count("max_recipients", 100, 1..=100_000),
        max_per_connection: s.count("max_per_connection", 100, 0..=1_000_000),
        max_hops: s.count("max_hops", 30, 1..=1000),
    };
    s.done();
    messages
}

fn dns(mut s: Section<'_, '_>) -> Dns {
    let servers = s.texts("servers", "[\"192.0.2.53\"]", MAX_DNS_SERVERS, hosts::dns_server);
    s.done();
    Dns {
        servers: servers
            .unwrap_or_default()
            .into_iter()
            .map(|(server, _)| server)
            .collect(),
    }
}

fn drop_folder(mut s: Section<'_, '_>) -> DropFolder {
    let drop = DropFolder {
        quota: s.size("quota", 0),
        schedule: transport::schedule(&mut s),
    };
    s.done();
    drop
}

fn badmail(mut s: Section<'_, '_>) -> Badmail {
    let badmail = Badmail {
        keep_days: s.number("keep_days", 0..=36_500).unwrap_or(0),
        max_size: s.size("max_size", 0),
    };
    s.done();
    badmail
}

fn reports(mut s: Section<'_, '_>, default_domain: &str) -> Reports {
    let postmaster = address(&mut s, "postmaster", default_domain)
        // Every domain that passed `hosts::domain` makes an address; the text is what a report would show.
        .unwrap_or_else(|| {
            Address::parse("postmaster", default_domain).unwrap_or_else(|_| Address::unroutable("postmaster"))
        });
    let reports = Reports {
        postmaster,
        copy_to: address(&mut s, "copy_to", default_domain),
    };
    s.done();
    reports
}

fn durability(mut s: Section<'_, '_>) -> Durability {
    let durability = Durability {
        flush: s.duration("flush", MILLI * 200, MILLI..=HOUR),
    };
    s.done();
    durability
}

fn cluster(mut s: Section<'_, '_>) -> Cluster {
    let heartbeat = s.duration("heartbeat", SECOND * 2, MILLI * 10..=HOUR);
    let range: RangeInclusive<Duration> = MILLI * 10..=DAY;
    let lease = s.duration_at("lease", range);
    if let Some((lease, span)) = lease
        .as_ref()
        .filter(|(lease, _)| *lease < heartbeat * rules::BEATS_PER_LEASE)
    {
        s.problem("lease", span, &rules::short_lease(*lease, heartbeat));
    }
    // A longer heartbeat alone must not make every node look dead.
    let default = (SECOND * 15).max(heartbeat * rules::BEATS_PER_LEASE);
    s.done();
    Cluster {
        heartbeat,
        lease: lease.map_or(default, |(lease, _)| lease),
    }
}

fn log(mut s: Section<'_, '_>) -> Log {
    let levels = [
        ("info", LogLevel::Info),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("debug", LogLevel::Debug),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        level: s
            .choice("level", &levels)
            .map_or(LogLevel::Info, |(level, _)| level),
        format: s
            .choice("format", &formats)
            .map_or(LogFormat::Text, |(format, _)| format),
        file: s.flag("file").is_some_and(|(yes, _)| yes),
        w3c: super::w3c::w3c(&mut s),
    };
    s.done();
    log
}
