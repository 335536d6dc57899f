//! One question to hickory-resolver, and what its many errors mean.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;

use super::{DnsFailure, Pace};

/// Answers kept in memory, each until its TTL or one of the two below ends.
const CACHE: u64 = 10_000;
/// A host that moved is found again within the hour, whatever its old TTL promised.
const KEEP_ANSWER: Duration = Duration::from_secs(3600);
/// Whoever repairs a zone and then touches the message wants it tried now.
const KEEP_REFUSAL: Duration = Duration::from_secs(60);
/// How often the system's files are looked at for changes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where the system keeps what it knows.
#[derive(Debug, Clone)]
pub(super) struct System {
    /// Looked at for changes, and named when nothing can be read.
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
    /// Reads the servers, by whatever way the operating system has.
    pub(super) servers: fn(&Path) -> Result<Vec<NameServerConfig>, NetError>,
}

impl System {
    pub(super) fn this() -> Self {
        Self {
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            hosts: PathBuf::from("/etc/hosts"),
            servers: |_| {
                let (config, _) = hickory_resolver::system_conf::read_system_conf()?;
                Ok(config.name_servers().to_vec())
            },
        }
    }

    fn name_servers(&self) -> Result<Vec<NameServerConfig>, String> {
        (self.servers)(&self.resolv_conf).map_err(|e| {
            let path = self.resolv_conf.display();
            format!(
                "no DNS server is known: {path}: {}; repair it or set dns.servers",
                plain_words(&e)
            )
        })
    }

    /// Without the file there are no names in it.
    fn known_hosts(&self) -> Hosts {
        let mut known = Hosts::default();
        let read = File::open(&self.hosts).and_then(|file| known.read_hosts_conf(file));
        if let Err(e) = read
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {e}", self.hosts.display());
        }
        known
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

/// Makes the resolver, and makes it anew when the system's files have changed: a service that starts before the
/// network, or a laptop that moves, needs no restart.
pub(super) struct Source {
    servers: Vec<SocketAddr>,
    pace: Pace,
    system: System,
    made: Option<Arc<Resolver>>,
    files: [Option<(SystemTime, u64)>; 2],
    looked: Option<Instant>,
}

impl Source {
    pub(super) fn new(servers: Vec<SocketAddr>, pace: Pace, system: System) -> Self {
        Self {
            servers,
            pace,
            system,
            made: None,
            files: [None, None],
            looked: None,
        }
    }

    /// The present resolver. While the files are unreadable, the former one goes on.
    pub(super) fn resolver(&mut self) -> Result<Arc<Resolver>, String> {
        if let Some(made) = &self.made
            && self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN)
        {
            return Ok(Arc::clone(made));
        }
        self.looked = Some(Instant::now());
        let files = self.system.stamps();
        if let Some(made) = &self.made
            && self.files == files
        {
            return Ok(Arc::clone(made));
        }
        match (Resolver::new(&self.servers, self.pace, &self.system), &self.made) {
            (Ok(new), _) => {
                let new = Arc::new(new);
                self.files = files;
                self.made = Some(Arc::clone(&new));
                Ok(new)
            }
            (Err(why), Some(former)) => {
                // said once per change
                self.files = files;
                tracing::warn!("{why}; the former DNS servers stay in use");
                Ok(Arc::clone(former))
            }
            (Err(why), None) => Err(why),
        }
    }
}

#[cfg(test)]
impl Source {
    pub(super) fn forget_the_look(&mut self) {
        self.looked = None;
    }
}

/// hickory's resolver and the hosts file.
pub(super) struct Resolver {
    dns: TokioResolver,
    hosts: Hosts,
}

impl Resolver {
    fn new(servers: &[SocketAddr], pace: Pace, system: &System) -> Result<Self, String> {
        let asked = if servers.is_empty() {
            system.name_servers()?
        } else {
            servers.iter().map(server).collect()
        };
        let config = ResolverConfig::from_name_servers(asked);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options(pace));
        // Ours is asked first, so that a name found there is not asked for its other family as well.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Ok(Self {
            dns: builder
                .build()
                .map_err(|e| format!("the resolver cannot be set up: {e}"))?,
            hosts: system.known_hosts(),
        })
    }

    /// See [`super::Dns::mx`].
    pub(super) async fn mx(&self, domain: &str) -> Result<Vec<(u16, String)>, DnsFailure> {
        let name = fqdn(domain)?;
        let lookup = self.dns.lookup(name, RecordType::MX).await;
        let lookup = lookup.map_err(|e| failure("MX", domain, &e))?;
        // A CNAME on the way stands among the answers too.
        let found: Vec<_> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, host_text(&mx.exchange))),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            return Err(DnsFailure::NoRecords);
        }
        Ok(found)
    }

    /// See [`super::Dns::addresses`].
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let name = fqdn(host)?;
        let known = self.in_hosts_file(&name);
        if !known.is_empty() {
            return Ok(known);
        }
        let mut families = JoinSet::new();
        for family in [RecordType::A, RecordType::AAAA] {
            let (dns, name) = (self.dns.clone(), name.clone());
            families.spawn(async move { (family, dns.lookup(name, family).await) });
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        while let Some(joined) = families.join_next().await {
            match joined {
                Ok((_, Ok(lookup))) => found.extend(lookup.answers().iter().filter_map(|r| r.data.ip_addr())),
                Ok((family, Err(e))) => failures.push(failure(&family.to_string(), host, &e)),
                Err(e) => failures.push(DnsFailure::Temporary(format!("address of {host}: {e}"))),
            }
        }
        found.sort_by_key(IpAddr::is_ipv6);
        let found = without_repeats(found);
        if found.is_empty() {
            return Err(gravest(failures));
        }
        Ok(found)
    }

    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let found = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|family| self.hosts.lookup_static_host(&Query::query(name.clone(), family)))
            .flat_map(|lookup| {
                lookup
                    .answers()
                    .iter()
                    .filter_map(|r| r.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .collect();
        without_repeats(found)
    }
}

fn without_repeats(mut list: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = std::collections::HashSet::new();
    list.retain(|ip| seen.insert(*ip));
    list
}

/// When neither family has an address, doubt outweighs any "no": only a certain answer may return mail.
fn gravest(failures: Vec<DnsFailure>) -> DnsFailure {
    let weight = |failure: &DnsFailure| match failure {
        DnsFailure::NoSuchDomain => 0,
        DnsFailure::NoRecords => 1,
        DnsFailure::Temporary(_) => 2,
    };
    failures
        .into_iter()
        .max_by_key(weight)
        .unwrap_or(DnsFailure::NoRecords)
}

/// A name that the DNS cannot hold does not exist in it.
fn fqdn(name: &str) -> Result<Name, DnsFailure> {
    let mut name = Name::from_ascii(name).map_err(|_| DnsFailure::NoSuchDomain)?;
    name.set_fqdn(true);
    Ok(name)
}

/// Lower case, without the final dot; `.` for the root. Odd bytes come escaped, so the text is safe in a log.
fn host_text(name: &Name) -> String {
    if name.is_root() {
        return ".".to_owned();
    }
    let mut text = name.to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text.make_ascii_lowercase();
    text
}

pub(super) fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn options(pace: Pace) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = pace.timeout;
    // hickory counts what follows the first try
    options.attempts = pace.tries.saturating_sub(1);
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(KEEP_ANSWER);
    options.negative_max_ttl = Some(KEEP_REFUSAL);
    options
}

/// Only NXDOMAIN and an empty NOERROR are certain; everything else may be different later.
fn failure(kind: &str, name: &str, error: &NetError) -> DnsFailure {
    let words = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => return DnsFailure::NoSuchDomain,
            ResponseCode::NoError if !is_referral(none) => return DnsFailure::NoRecords,
            ResponseCode::NoError => {
                "the DNS server names others to ask instead of answering (it does not recurse)".to_owned()
            }
            code => format!("the DNS server answered: {code}"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the DNS server answered: {code}"),
        other => plain_words(other),
    };
    DnsFailure::Temporary(format!("{kind} of {name}: {words}"))
}

/// RFC 2308 §2.2: name servers without an SOA are no answer. Read as "no records", it would return mail because
/// `dns.servers` names a server that does not recurse.
fn is_referral(none: &NoRecords) -> bool {
    none.soa.is_none() && none.ns.as_ref().is_some_and(|servers| !servers.is_empty())
}

fn plain_words(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no DNS server answered in time".to_owned(),
        NetError::NoConnections => "no DNS server could be reached".to_owned(),
        NetError::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}
