//! One question to hickory-resolver, and what its many errors mean.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;

use super::system::System;
use super::{DnsFailure, Pace};

/// Answers kept in memory, each until its TTL or one of the two below ends.
const CACHE: u64 = 10_000;
/// A host that moved is found again within the hour, whatever its old TTL promised.
const KEEP_ANSWER: Duration = Duration::from_secs(3600);
/// Whoever repairs a zone and then touches the message wants it tried now.
const KEEP_REFUSAL: Duration = Duration::from_secs(60);

/// hickory's resolver and the hosts file.
pub(super) struct Resolver {
    dns: TokioResolver,
    hosts: Hosts,
}

impl Resolver {
    pub(super) fn new(servers: &[SocketAddr], pace: Pace, system: &System) -> Result<Self, String> {
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

    /// The PTR records of an address, as [`host_text`] writes names; never empty.
    pub(super) async fn names(&self, address: IpAddr) -> Result<Vec<String>, DnsFailure> {
        let lookup = self.dns.lookup(Name::from(address), RecordType::PTR).await;
        let lookup = lookup.map_err(|e| failure("name", &address.to_string(), &e))?;
        let found: Vec<String> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::PTR(name) => Some(host_text(&name.0)),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            return Err(DnsFailure::NoRecords);
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

pub(super) fn plain_words(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no DNS server answered in time".to_owned(),
        NetError::NoConnections => "no DNS server could be reached".to_owned(),
        NetError::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}
