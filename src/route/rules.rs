//! What the settings say of remote domains, each `[[remote]]` entry and `[delivery]` as one rule.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::destination::{Destination, NextHop};
use super::domain::Domain;
use super::hosts;
use crate::config::{Auth, Delivery, Host, HostPort, Remote, RemoteRoute, SmartHostMode, TlsMode};
use crate::mail::{EnhancedStatus, Outcome};

/// What one `[[remote]]` entry, or `[delivery]`, says.
#[derive(Debug)]
pub(super) enum Rule {
    /// The same for every domain.
    Shared(Arc<Destination>),
    /// One for each domain.
    PerDomain(PerDomain),
    /// The settings contradict themselves.
    Broken(Outcome),
}

/// All but the domain.
#[derive(Debug, Clone)]
pub(super) struct PerDomain {
    conditions: Conditions,
    /// Tried after the MX hosts.
    fallback: Vec<HostPort>,
    rule: String,
}

#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub(super) port: u16,
    pub(super) tls: TlsMode,
    pub(super) implicit_tls: bool,
    pub(super) helo_only: bool,
    pub(super) auth: Option<Auth>,
    pub(super) hold: bool,
}

/// The rule for domains without an entry, and those of the entries, in their order.
pub(super) fn rules(remote: &[Remote], delivery: &Delivery) -> (Rule, Vec<Rule>) {
    let delivery = Delivery {
        smart_host: normal_hosts(&delivery.smart_host),
        ..delivery.clone()
    };
    let mut shared = Shared::default();
    let mut otherwise = default_rule(&delivery, &mut shared);
    let mut entries: Vec<_> = remote
        .iter()
        .map(|entry| entry_rule(entry, &delivery, &mut shared))
        .collect();
    // Only now is it known which rules lead to the same place.
    for rule in entries.iter_mut().chain([&mut otherwise]) {
        shared.settle(rule);
    }
    (otherwise, entries)
}

impl PerDomain {
    pub(super) fn destination(&self, name: &str, domain: &Domain<'_>) -> Destination {
        let hop = match (domain, self.fallback.is_empty()) {
            (Domain::Literal(ip), true) => NextHop::Literal(*ip),
            (Domain::Name(_), true) => NextHop::Mx(name.to_owned()),
            (_, false) => NextHop::MxThenSmartHosts(name.to_owned(), self.fallback.clone()),
        };
        self.conditions.clone().with(hop, self.rule.clone())
    }
}

impl Conditions {
    pub(super) fn with(self, hop: NextHop, rule: String) -> Destination {
        Destination {
            key: String::new(),
            hop,
            port: self.port,
            tls: self.tls,
            implicit_tls: self.implicit_tls,
            helo_only: self.helo_only,
            auth: self.auth,
            hold: self.hold,
            door: None,
            rule,
        }
        .with_key()
    }
}

/// `[delivery]`: for domains without an entry.
fn default_rule(delivery: &Delivery, shared: &mut Shared) -> Rule {
    let plain = Conditions {
        port: delivery.port,
        tls: delivery.tls,
        implicit_tls: false,
        helo_only: false,
        auth: None,
        hold: false,
    };
    let to_smart_host = Conditions {
        implicit_tls: delivery.implicit_tls,
        auth: delivery.auth.clone(),
        ..plain.clone()
    };
    if delivery.smart_host.is_empty() {
        return Rule::PerDomain(PerDomain {
            conditions: plain,
            fallback: Vec::new(),
            rule: "no [[remote]] entry and no delivery.smart_host: the MX hosts of the domain".to_owned(),
        });
    }
    match delivery.smart_host_mode {
        SmartHostMode::Always => {
            shared.rule(to_smart_host, delivery.smart_host.clone(), "delivery.smart_host")
        }
        SmartHostMode::AfterDirect => Rule::PerDomain(PerDomain {
            conditions: to_smart_host,
            fallback: delivery.smart_host.clone(),
            rule: "delivery.smart_host after_direct: the MX hosts of the domain, then the smart host"
                .to_owned(),
        }),
    }
}

/// One `[[remote]]` entry.
fn entry_rule(entry: &Remote, delivery: &Delivery, shared: &mut Shared) -> Rule {
    let name = format!("[[remote]] \"{}\"", entry.name);
    let own = Conditions {
        port: entry.port.unwrap_or(delivery.port),
        tls: entry.tls.unwrap_or(delivery.tls),
        implicit_tls: false,
        helo_only: entry.helo,
        auth: entry.auth.clone(),
        hold: entry.hold,
    };
    match &entry.route {
        RemoteRoute::Mx => Rule::PerDomain(PerDomain {
            conditions: own,
            fallback: Vec::new(),
            rule: format!("{name}: the MX hosts of the domain"),
        }),
        RemoteRoute::SmartHost(list) if !list.is_empty() => {
            let list = normal_hosts(list);
            let conditions = Conditions {
                implicit_tls: own.tls != TlsMode::Off && speaks_tls_at_once(&list, own.port),
                ..own
            };
            shared.rule(conditions, list, &name)
        }
        RemoteRoute::SmartHost(_) if delivery.smart_host.is_empty() => Rule::Broken(Outcome::deferred(
            EnhancedStatus::new(4, 3, 5),
            format!("{name} routes to the smart host, but neither it nor [delivery] names one"),
        )),
        RemoteRoute::SmartHost(_) => {
            let conditions = Conditions {
                implicit_tls: delivery.implicit_tls,
                auth: entry.auth.clone().or_else(|| delivery.auth.clone()),
                ..own
            };
            shared.rule(conditions, delivery.smart_host.clone(), &name)
        }
    }
}

/// `[[remote]]` has no `implicit_tls` of its own, and port 465 never means anything else (RFC 8314 §3.3).
fn speaks_tls_at_once(list: &[HostPort], port: u16) -> bool {
    const SUBMISSIONS: u16 = 465;
    list.iter().all(|host| host.port.unwrap_or(port) == SUBMISSIONS)
}

/// Smart-host names in the form that the DNS wants.
fn normal_hosts(list: &[HostPort]) -> Vec<HostPort> {
    list.iter()
        .map(|host| HostPort {
            host: match &host.host {
                Host::Name(name) => Host::Name(hosts::normal_name(name)),
                Host::Ip(ip) => Host::Ip(*ip),
            },
            port: host.port,
        })
        .collect()
}

/// Smart-host destinations by key while the table is made, with all the rules that lead to each.
#[derive(Default)]
struct Shared {
    by_key: HashMap<String, Meeting>,
}

/// Where rules meet.
struct Meeting {
    destination: Destination,
    rules: Vec<String>,
    /// Made when all rules are known.
    one: Option<Arc<Destination>>,
}

/// Rules named in [`Destination::rule`].
const MAX_RULES_NAMED: usize = 3;

impl Shared {
    fn rule(&mut self, conditions: Conditions, list: Vec<HostPort>, chosen_by: &str) -> Rule {
        let destination = conditions.with(NextHop::SmartHosts(list), String::new());
        let rule = Rule::Shared(Arc::new(destination.clone()));
        match self.by_key.entry(destination.key.clone()) {
            Entry::Occupied(mut known) => known.get_mut().rules.push(chosen_by.to_owned()),
            Entry::Vacant(free) => {
                free.insert(Meeting {
                    destination,
                    rules: vec![chosen_by.to_owned()],
                    one: None,
                });
            }
        }
        rule
    }

    /// Puts the one shared `Arc` into the rule.
    fn settle(&mut self, rule: &mut Rule) {
        let Rule::Shared(own) = rule else { return };
        let Some(meeting) = self.by_key.get_mut(&own.key) else {
            return;
        };
        let one = meeting.one.get_or_insert_with(|| {
            Arc::new(Destination {
                rule: format!("{}: smart host", rules_words(&meeting.rules)),
                ..meeting.destination.clone()
            })
        });
        *own = Arc::clone(one);
    }
}

fn rules_words(rules: &[String]) -> String {
    let named: Vec<_> = rules.iter().take(MAX_RULES_NAMED).map(String::as_str).collect();
    match rules.len().saturating_sub(MAX_RULES_NAMED) {
        0 => named.join(" or "),
        more => format!("{} or {more} more", named.join(" or ")),
    }
}
