//! The way out: DNS, smart hosts, and the mistake of taking another's mail domain for a local one.
//!
//! Asks through [`Outside`], so that it asks exactly as the engine would. Host checks run side by side, a bounded
//! number of them; each is bounded by its own timeouts.

use super::Findings;
use crate::config::{Auth, Config, Host, HostPort, RemoteRoute, SmartHostMode, TlsMode};
use std::net::{IpAddr, UdpSocket};

/// What DNS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// This.
    Found(T),
    /// That there is nothing (no such domain, or no such records).
    Nothing,
    /// Nothing we can rely on; in words.
    Failed(String),
}

/// A host to say hello to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartHost {
    /// Which.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// With or without TLS.
    pub tls: TlsMode,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// As whom.
    pub auth: Option<Auth>,
    /// HELO, never EHLO.
    pub helo: bool,
}

/// DNS and hosts, as the engine sees them.
pub trait Outside: Sync {
    /// MX records: preference and name (`.` for the null MX).
    fn mx(&self, domain: &str) -> Lookup<Vec<(u16, String)>>;
    /// A and AAAA records.
    fn addresses(&self, name: &str) -> Lookup<Vec<IpAddr>>;
    /// Connects, says EHLO, starts TLS, logs in, quits. In words: what was offered and agreed on, or what went wrong.
    fn hello(&self, host: &SmartHost) -> Result<String, String>;
}

/// Hosts and domains that are looked at; a file with more is right or wrong in the same way.
const MOST: usize = 50;

pub(super) fn check(
    config: &Config,
    domains: &[String],
    outside: &dyn Outside,
    findings: &mut Findings<'_, '_>,
) {
    let delivery = &config.delivery;
    let hosts: Vec<String> = delivery.smart_host.iter().map(ToString::to_string).collect();
    let by_mx = match (delivery.smart_host.is_empty(), delivery.smart_host_mode) {
        (true, _) => {
            findings.note(
                "way out",
                "remote mail goes to the MX hosts of each domain (no smart_host is set)",
            );
            true
        }
        (false, SmartHostMode::Always) => {
            findings.note(
                "way out",
                &format!(
                    "remote mail goes through the smart host {}",
                    hosts.join(", then ")
                ),
            );
            config.remote.iter().any(|remote| remote.route == RemoteRoute::Mx)
        }
        (false, SmartHostMode::AfterDirect) => {
            let hosts = hosts.join(", then ");
            findings.note(
                "way out",
                &format!("remote mail goes to the MX hosts of each domain, then to the smart host {hosts}"),
            );
            true
        }
    };
    let answers = dns(config, by_mx, outside, findings);
    if answers {
        local_domains(config, outside, findings);
    }
    smart_hosts(config, outside, findings);
    for domain in domains.iter().take(MOST) {
        way_to(domain, config, outside, findings);
    }
}

/// Whether DNS answers at all. Any answer will do; we ask for something that we want to know anyway.
fn dns(config: &Config, by_mx: bool, outside: &dyn Outside, findings: &mut Findings<'_, '_>) -> bool {
    let hostname = &config.server.hostname;
    let servers = match config.dns.servers.as_slice() {
        [] => "the system's DNS servers".to_owned(),
        list => format!(
            "DNS {}",
            list.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    match outside.addresses(hostname) {
        Lookup::Found(list) => {
            let list: Vec<String> = list.iter().take(4).map(ToString::to_string).collect();
            findings.ok(
                "dns",
                &format!("{servers}: {hostname} has the address {}", list.join(", ")),
            );
        }
        Lookup::Nothing => {
            let what = format!("{servers}: {hostname}, the name we give ourselves, has no address");
            let advice = "some hosts refuse mail from it; give it an address, or set hostname under [server]";
            if by_mx {
                findings.warn("dns", &what, advice);
            } else {
                findings.note("dns", &what);
            }
        }
        Lookup::Failed(why) => {
            let needs_names = config
                .delivery
                .smart_host
                .iter()
                .any(|host| matches!(host.host, Host::Name(_)));
            let what = format!("{servers}: {why}");
            if by_mx || needs_names {
                findings.fail(
                    "dns",
                    &what,
                    "mail cannot leave without DNS; see /etc/resolv.conf, or set servers under [dns]",
                );
            } else {
                findings.note("dns", &what);
            }
            return false;
        }
    }
    true
}

/// The classic mistake: the default domain is the organisation's mail domain, and its mail fills Drop.
fn local_domains(config: &Config, outside: &dyn Outside, findings: &mut Findings<'_, '_>) {
    let domains = std::iter::once(&config.domains.default).chain(&config.domains.aliases);
    for domain in domains.take(MOST) {
        match mx_elsewhere(domain, &config.server.hostname, outside) {
            Lookup::Nothing => {}
            Lookup::Found(host) => {
                let what = format!(
                    "{domain} is local here, but its mailboxes are at {host} (MX): mail for it goes into Drop, not there"
                );
                let advice = if *domain == config.domains.default {
                    "set default under [domains] to a name without mailboxes, e.g. that of this machine"
                } else {
                    "remove it from aliases under [domains], unless Drop is what you want"
                };
                findings.warn("domains", &what, advice);
            }
            Lookup::Failed(why) => {
                findings.note(
                    "domains",
                    &format!("whether {domain} has an MX elsewhere cannot be told: {why}"),
                );
                return;
            }
        }
    }
}

/// The MX host of a local domain, when none of its MX hosts is this machine.
pub fn mx_elsewhere(domain: &str, hostname: &str, outside: &dyn Outside) -> Lookup<String> {
    let list = match outside.mx(domain) {
        Lookup::Found(list) => list,
        Lookup::Nothing => return Lookup::Nothing,
        Lookup::Failed(why) => return Lookup::Failed(why),
    };
    let mut hosts: Vec<(u16, &str)> = list
        .iter()
        .map(|(p, name)| (*p, name.trim_end_matches('.')))
        .filter(|(_, name)| !name.is_empty())
        .collect();
    hosts.sort_unstable();
    let is_us = |name: &str| {
        name.eq_ignore_ascii_case(hostname)
            || matches!(outside.addresses(name), Lookup::Found(list) if list.iter().any(is_own_address))
    };
    if hosts.iter().take(MOST).any(|(_, name)| is_us(name)) {
        return Lookup::Nothing;
    }
    hosts
        .first()
        .map_or(Lookup::Nothing, |(_, name)| Lookup::Found((*name).to_owned()))
}

/// Only an address of this machine can be bound to. Nothing is sent and nothing listens.
fn is_own_address(address: &IpAddr) -> bool {
    UdpSocket::bind((*address, 0)).is_ok()
}

/// Hello to every smart host that the settings name; one that answers is enough for each list.
fn smart_hosts(config: &Config, outside: &dyn Outside, findings: &mut Findings<'_, '_>) {
    let lists = host_lists(config);
    let mut wanted: Vec<&SmartHost> = Vec::new();
    for host in lists.iter().flat_map(|(_, list)| list) {
        if !wanted.contains(&host) && wanted.len() < MOST {
            wanted.push(host);
        }
    }
    let answers: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> = wanted
            .iter()
            .map(|host| scope.spawn(move || outside.hello(host)))
            .collect();
        let joined = asked.into_iter().map(|thread| thread.join());
        joined
            .map(|answer| answer.unwrap_or_else(|_| Err("the check itself failed".into())))
            .collect()
    });
    let answered = |host: &SmartHost| {
        let index = wanted.iter().position(|asked| *asked == host)?;
        answers.get(index).map(Result::is_ok)
    };
    for (host, answer) in wanted.iter().zip(&answers) {
        let shown = shown(host);
        match answer {
            Ok(facts) => findings.ok("smart host", &format!("{shown}: {facts}")),
            Err(why) => {
                // Another host of each list that this one is in can stand in for it.
                let replaced = lists
                    .iter()
                    .filter(|(_, list)| list.contains(host))
                    .all(|(_, list)| list.iter().any(|other| answered(other) == Some(true)));
                let what = format!("{shown}: {why}");
                if replaced {
                    findings.warn(
                        "smart host",
                        &what,
                        "mail goes to the next host of the list meanwhile",
                    );
                } else {
                    findings.fail(
                        "smart host",
                        &what,
                        "mail waits in Queue until this works; check host, port, tls and auth",
                    );
                }
            }
        }
    }
    if lists.iter().map(|(_, list)| list.len()).sum::<usize>() > MOST {
        findings.note("smart host", &format!("only {MOST} hosts were asked"));
    }
}

/// The lists of hosts that stand in for each other, with how each is spoken to.
fn host_lists(config: &Config) -> Vec<(String, Vec<SmartHost>)> {
    let delivery = &config.delivery;
    let host =
        |at: &HostPort, port: u16, tls: TlsMode, implicit_tls: bool, auth: &Option<Auth>, helo: bool| {
            SmartHost {
                host: at.host.clone(),
                port: at.port.unwrap_or(port),
                tls,
                implicit_tls,
                auth: auth.clone(),
                helo,
            }
        };
    let of_delivery = |port: u16, tls: TlsMode, auth: &Option<Auth>, helo: bool| {
        delivery
            .smart_host
            .iter()
            .map(|at| host(at, port, tls, delivery.implicit_tls, auth, helo))
            .collect::<Vec<_>>()
    };
    let mut lists = vec![(
        "[delivery]".to_owned(),
        of_delivery(delivery.port, delivery.tls, &delivery.auth, false),
    )];
    for remote in config.remote.iter().take(MOST) {
        let (port, tls) = (
            remote.port.unwrap_or(delivery.port),
            remote.tls.unwrap_or(delivery.tls),
        );
        let list = match &remote.route {
            RemoteRoute::Mx => continue,
            RemoteRoute::SmartHost(list) if list.is_empty() => {
                let auth = if remote.auth.is_some() {
                    &remote.auth
                } else {
                    &delivery.auth
                };
                of_delivery(port, tls, auth, remote.helo)
            }
            RemoteRoute::SmartHost(list) => list
                .iter()
                .map(|at| host(at, port, tls, delivery.implicit_tls, &remote.auth, remote.helo))
                .collect(),
        };
        lists.push((remote.name.clone(), list));
    }
    lists
}

fn shown(host: &SmartHost) -> String {
    HostPort {
        host: host.host.clone(),
        port: Some(host.port),
    }
    .to_string()
}

/// `--domain`: what DNS says of it, and hello to its first host that answers.
fn way_to(domain: &str, config: &Config, outside: &dyn Outside, findings: &mut Findings<'_, '_>) {
    let ascii = match crate::config::hosts::domain(domain) {
        Ok(ascii) => ascii,
        Err(why) => {
            return findings.fail(
                "domain",
                &format!("\"{domain}\" is not a domain: {why}"),
                "give a domain name",
            );
        }
    };
    let mut hosts = match outside.mx(&ascii) {
        Lookup::Found(list) => list,
        // RFC 5321 §5.1: without MX, the domain itself is the host.
        Lookup::Nothing => vec![(0, ascii.clone())],
        Lookup::Failed(why) => {
            return findings.fail(
                "domain",
                &format!("{ascii}: {why}"),
                "mail for it would wait in Queue",
            );
        }
    };
    hosts.sort_unstable();
    if hosts
        .iter()
        .all(|(_, name)| name.trim_end_matches('.').is_empty())
    {
        return findings.note("domain", &format!("{ascii} takes no mail (null MX, RFC 7505)"));
    }
    let names: Vec<String> = hosts
        .iter()
        .map(|(preference, name)| format!("{preference} {name}"))
        .collect();
    findings.ok("domain", &format!("{ascii}: hosts {}", names.join(", ")));
    let mut why_not = Vec::new();
    for (_, name) in hosts.iter().take(3) {
        let host = SmartHost {
            host: Host::Name(name.trim_end_matches('.').to_owned()),
            port: config.delivery.port,
            tls: config.delivery.tls,
            implicit_tls: false,
            auth: None,
            helo: false,
        };
        match outside.hello(&host) {
            Ok(facts) => return findings.ok("domain", &format!("{}: {facts}", shown(&host))),
            Err(why) => why_not.push(format!("{}: {why}", shown(&host))),
        }
    }
    let advice = "many networks block port 25 outwards: then set smart_host under [delivery]";
    findings.fail("domain", &why_not.join("; "), advice);
}
