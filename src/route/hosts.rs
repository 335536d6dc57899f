//! From a destination to the addresses to connect to, in the order in which they are tried.
//!
//! Asks the DNS; waits for it. What it answered goes into the notes, for the transcript.
//!
//! Within one host IPv4 comes before IPv6: hosts without IPv6 connectivity are common, and the other way round a
//! dead route would cost each of them a time-out per attempt.
//!
//! `after_direct`: the smart host is also the answer when the DNS cannot find the domain, temporarily or at all –
//! behind a firewall whose DNS knows only inside names that is what it is there for. A null MX and a loop to
//! ourselves are statements about the domain, and are final.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::destination::{Destination, NextHop, host_words};
use super::domain::Domain;
use super::mx::{self, Chosen};
use crate::config::{Host, HostPort};
use crate::dns::{Dns, DnsFailure};
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// One address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// The host's name (or its address, when it was given as one): what a certificate must be for.
    pub name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// It is an MX host of the recipient's domain (or stands in for one), not a smart host.
    pub from_mx: bool,
}

/// The addresses of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// In the order in which they are tried. Never empty.
    pub list: Vec<HostAddress>,
    /// What the DNS answered, a line each.
    pub notes: Vec<String>,
}

/// Names asked for in one attempt, of MX hosts or of smart hosts.
pub(super) const MAX_MX: usize = 20;
/// Addresses tried of one host.
const MAX_PER_HOST: usize = 10;
/// Addresses tried in one attempt.
const MAX_ADDRESSES: usize = 50;
/// Of these, kept free for the smart hosts that follow MX hosts.
const KEPT_FOR_SMART_HOSTS: usize = 10;

/// The addresses of `dest`, or what becomes of its recipients without one. `own_name` is `server.hostname`: mail
/// that would come back to it is a loop. The notes come with either.
pub fn hosts(dest: &Destination, dns: &Dns, own_name: &str) -> Result<Hosts, (Outcome, Vec<String>)> {
    let mut search = Search {
        dns,
        port: dest.port,
        found: Vec::new(),
        seen: HashSet::new(),
        room: MAX_ADDRESSES,
        notes: Vec::new(),
    };
    let result = match &dest.hop {
        NextHop::Literal(ip) => {
            search.literal(*ip);
            Ok(())
        }
        NextHop::Mx(domain) => search.direct(domain, own_name),
        NextHop::SmartHosts(list) => search.smart_hosts(list),
        NextHop::MxThenSmartHosts(domain, list) => search.direct_then_smart_hosts(domain, list, own_name),
    };
    match result {
        Ok(()) => Ok(Hosts {
            list: search.found,
            notes: search.notes,
        }),
        Err(outcome) => Err((outcome, search.notes)),
    }
}

/// A host name in the form that is asked and compared: lower-case A-labels. What is no domain stays as it is and
/// will not be found.
pub(super) fn normal_name(name: &str) -> String {
    match Domain::parse(name) {
        Ok(Domain::Name(name)) => name.into_owned(),
        _ => name.to_ascii_lowercase(),
    }
}

struct Search<'a> {
    dns: &'a Dns,
    port: u16,
    found: Vec<HostAddress>,
    seen: HashSet<SocketAddr>,
    /// Addresses that `found` may hold.
    room: usize,
    notes: Vec<String>,
}

impl Search<'_> {
    fn literal(&mut self, ip: IpAddr) {
        self.found.push(HostAddress {
            name: ip.to_string(),
            address: SocketAddr::new(ip, self.port),
            from_mx: true,
        });
    }

    fn direct_then_smart_hosts(
        &mut self,
        domain: &str,
        list: &[HostPort],
        own_name: &str,
    ) -> Result<(), Outcome> {
        self.room = MAX_ADDRESSES - KEPT_FOR_SMART_HOSTS;
        let direct = match Domain::parse(domain) {
            Ok(Domain::Literal(ip)) => {
                self.literal(ip);
                Ok(())
            }
            _ => self.direct(domain, own_name),
        };
        if let Err(outcome) = &direct {
            if is_final(outcome) {
                return direct;
            }
            self.notes.push(format!(
                "no MX host can be tried directly ({}); the smart host follows",
                outcome.text
            ));
        }
        self.room = MAX_ADDRESSES;
        match self.smart_hosts(list) {
            Err(outcome) if self.found.is_empty() => Err(outcome),
            _ => Ok(()),
        }
    }

    /// RFC 5321 §5.1.
    fn direct(&mut self, domain: &str, own_name: &str) -> Result<(), Outcome> {
        let records = match self.dns.mx(domain) {
            Ok(records) => {
                self.notes
                    .push(format!("MX of {domain}: {}", records_words(&records)));
                records
            }
            Err(DnsFailure::NoRecords) => {
                self.notes.push(format!(
                    "MX of {domain}: none, so the domain's own address counts (RFC 5321 §5.1)"
                ));
                vec![(0, domain.to_owned())]
            }
            Err(DnsFailure::NoSuchDomain) => {
                self.notes
                    .push(format!("MX of {domain}: the domain does not exist"));
                return Err(failed(NO_DOMAIN, format!("the domain {domain} does not exist")));
            }
            Err(DnsFailure::Temporary(why)) => {
                self.notes.push(why.clone());
                return Err(dns_trouble(&why));
            }
        };
        match mx::choose(records, &normal_name(own_name), MAX_MX, &mut self.notes) {
            Chosen::Hosts(names) => self.mx_hosts(domain, &names),
            Chosen::Null => Err(failed(
                NULL_MX,
                format!("the domain {domain} accepts no mail (null MX, RFC 7505)"),
            )),
            Chosen::OurOwn => Err(failed(
                LOOP,
                format!(
                    "mail for {domain} loops back to us: its best MX is {own_name}, our own name; \
                     if the domain is local, add it to domains.aliases"
                ),
            )),
            Chosen::NoHost => Err(failed(NO_ROUTE, format!("no MX record of {domain} names a host"))),
        }
    }

    fn mx_hosts(&mut self, domain: &str, names: &[String]) -> Result<(), Outcome> {
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut doubt = None;
        for (name, answer) in names.iter().zip(self.dns.addresses_of(&asked)) {
            self.take(name, self.port, answer, true, &mut doubt);
        }
        if !self.found.is_empty() {
            return Ok(());
        }
        Err(match doubt {
            Some(why) => dns_trouble(&why),
            None => failed(
                NO_ROUTE,
                format!("no host that takes mail for {domain} has an address"),
            ),
        })
    }

    /// Never fails for good: a smart host that cannot be found is an outage or a mistake in the settings, and no
    /// reason to return mail.
    fn smart_hosts(&mut self, list: &[HostPort]) -> Result<(), Outcome> {
        let list = self.first_smart_hosts(list);
        let asked: Vec<&str> = list
            .iter()
            .filter_map(|host| match &host.host {
                Host::Name(name) => Some(name.as_str()),
                Host::Ip(_) => None,
            })
            .collect();
        let mut answers = self.dns.addresses_of(&asked).into_iter();
        let mut doubt = None;
        let before = self.found.len();
        for host in list {
            let port = host.port.unwrap_or(self.port);
            match &host.host {
                Host::Ip(ip) => self.add(&ip.to_string(), port, vec![*ip], false),
                Host::Name(name) => {
                    let answer = answers.next().unwrap_or(Err(DnsFailure::NoRecords));
                    self.take(name, port, answer, false, &mut doubt);
                }
            }
        }
        if self.found.len() > before {
            return Ok(());
        }
        Err(match doubt {
            Some(why) => dns_trouble(&why),
            None => Outcome::deferred(
                EnhancedStatus::new(4, 4, 4),
                format!(
                    "no smart host has an address: {}; look at smart_host in mailroot.toml",
                    list.iter()
                        .map(|host| host_words(host, self.port))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ),
        })
    }

    fn first_smart_hosts<'l>(&mut self, list: &'l [HostPort]) -> &'l [HostPort] {
        match list.get(..MAX_MX) {
            Some(first) if list.len() > MAX_MX => {
                self.notes.push(format!(
                    "{} smart hosts: only the first {MAX_MX} are tried",
                    list.len()
                ));
                first
            }
            _ => list,
        }
    }

    /// Enters what the DNS said about one host; `doubt` keeps the first answer that may be different later.
    fn take(
        &mut self,
        name: &str,
        port: u16,
        answer: Result<Vec<IpAddr>, DnsFailure>,
        from_mx: bool,
        doubt: &mut Option<String>,
    ) {
        match answer {
            Ok(addresses) => {
                self.notes
                    .push(format!("address of {name}: {}", addresses_words(&addresses)));
                self.add(name, port, in_random_order(addresses), from_mx);
            }
            Err(DnsFailure::Temporary(why)) => {
                self.notes.push(why.clone());
                doubt.get_or_insert(why);
            }
            Err(none) => {
                self.notes.push(format!("address of {name}: {none}; left out"));
            }
        }
    }

    fn add(&mut self, name: &str, port: u16, addresses: Vec<IpAddr>, from_mx: bool) {
        for ip in addresses.into_iter().take(MAX_PER_HOST) {
            if !can_be_a_host(ip) {
                self.notes
                    .push(format!("{ip} of {name}: left out, no host has this address"));
                continue;
            }
            let address = SocketAddr::new(ip, port);
            if self.found.len() < self.room && self.seen.insert(address) {
                self.found.push(HostAddress {
                    name: name.to_owned(),
                    address,
                    from_mx,
                });
            }
        }
    }
}

const NO_DOMAIN: EnhancedStatus = EnhancedStatus::new(5, 1, 2);
const NULL_MX: EnhancedStatus = EnhancedStatus::new(5, 1, 10);
const NO_ROUTE: EnhancedStatus = EnhancedStatus::new(5, 4, 4);
const LOOP: EnhancedStatus = EnhancedStatus::new(5, 4, 6);

/// What the smart host of `after_direct` would not change.
fn is_final(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Failed && matches!(outcome.status, NULL_MX | LOOP)
}

fn failed(status: EnhancedStatus, text: String) -> Outcome {
    Outcome::failed(status, text)
}

fn dns_trouble(why: &str) -> Outcome {
    Outcome::deferred(
        EnhancedStatus::new(4, 4, 3),
        format!("the DNS gave no answer: {why}"),
    )
}

/// The order within a family is the resolver's, which a cache keeps the same; spreading load is left to us.
fn in_random_order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    mx::shuffle(&mut addresses);
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// `0.0.0.0` would reach ourselves, and a multicast group answers no connection.
fn can_be_a_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

fn records_words(records: &[(u16, String)]) -> String {
    let mut sorted: Vec<_> = records.iter().collect();
    sorted.sort();
    few(sorted
        .iter()
        .map(|(preference, host)| format!("{preference} {host}")))
}

fn addresses_words(addresses: &[IpAddr]) -> String {
    few(addresses.iter().map(IpAddr::to_string))
}

/// A transcript line stays a line.
fn few(words: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 20;
    let more = words.len().saturating_sub(SHOWN);
    let mut text = words.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests;
