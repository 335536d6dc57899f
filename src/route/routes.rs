//! The routing table of one set of settings.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use super::destination::{Destination, NextHop};
use super::domain::{Domain, NotADomain};
use super::table::DomainTable;
use super::{Route, hosts};
use crate::config::{
    Auth, Config, Delivery, Domains, Host, HostPort, Remote, RemoteRoute, SmartHostMode, TlsMode,
};
use crate::mail::{Address, EnhancedStatus, Outcome};

/// Says of any address where it goes. Made once per set of settings, shared by all threads.
#[derive(Debug)]
pub struct Routes {
    local: DomainTable<()>,
    remote: DomainTable<Rule>,
    /// For all that no `[[remote]]` entry matches.
    otherwise: Rule,
    /// Destinations that depend on the recipient's domain, made when first asked for.
    made: RwLock<Made>,
}

/// What one `[[remote]]` entry, or `[delivery]`, says.
#[derive(Debug)]
enum Rule {
    /// The same for every domain.
    Shared(Arc<Destination>),
    /// One for each domain.
    PerDomain(PerDomain),
    /// The settings contradict themselves.
    Broken(Outcome),
}

/// All but the domain.
#[derive(Debug, Clone)]
struct PerDomain {
    conditions: Conditions,
    /// Tried after the MX hosts.
    fallback: Vec<HostPort>,
    rule: String,
}

#[derive(Debug, Clone)]
struct Conditions {
    port: u16,
    tls: TlsMode,
    implicit_tls: bool,
    helo_only: bool,
    auth: Option<Auth>,
    hold: bool,
}

impl Routes {
    /// From settings that are valid.
    pub fn new(config: &Config) -> Self {
        Self::from_sections(&config.domains, &config.remote, &config.delivery)
    }

    fn from_sections(domains: &Domains, remote: &[Remote], delivery: &Delivery) -> Self {
        let mut local = DomainTable::new();
        local.insert(&domains.default, ());
        for alias in &domains.aliases {
            local.insert(alias, ());
        }
        let delivery = Delivery {
            smart_host: normal_hosts(&delivery.smart_host),
            ..delivery.clone()
        };
        let mut shared = Shared::default();
        let mut otherwise = default_rule(&delivery, &mut shared);
        let mut rules: Vec<_> = remote
            .iter()
            .map(|entry| (entry.name.as_str(), entry_rule(entry, &delivery, &mut shared)))
            .collect();
        // Only now is it known which rules lead to the same place.
        shared.settle(&mut otherwise);
        let mut table = DomainTable::new();
        for (name, mut rule) in rules.drain(..) {
            shared.settle(&mut rule);
            table.insert(name, rule);
        }
        Self {
            local,
            remote: table,
            otherwise,
            made: RwLock::new(Made::default()),
        }
    }

    /// Where this recipient goes.
    pub fn of(&self, to: &Address) -> Route {
        if !to.is_routable() {
            return Route::Impossible(unroutable(to));
        }
        let domain = match Domain::parse(to.domain()) {
            Ok(domain) => domain,
            Err(why) => return Route::Impossible(no_domain(to, why)),
        };
        let name = domain.text();
        if self.local.find(&name).is_some() {
            return Route::Local;
        }
        match self.remote.find(&name).unwrap_or(&self.otherwise) {
            Rule::Shared(destination) => Route::Remote(Arc::clone(destination)),
            Rule::PerDomain(rule) => Route::Remote(self.per_domain(&name, &domain, rule)),
            Rule::Broken(outcome) => Route::Impossible(outcome.clone()),
        }
    }

    /// Whether this address is in a local domain: such a recipient goes to Drop, such a sender is masqueraded.
    pub fn is_local(&self, address: &Address) -> bool {
        address.is_routable()
            && Domain::parse(address.domain()).is_ok_and(|domain| self.local.find(&domain.text()).is_some())
    }

    /// The destination of one domain: one `Arc` for as long as anybody holds it.
    fn per_domain(&self, name: &str, domain: &Domain<'_>, rule: &PerDomain) -> Arc<Destination> {
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(destination) = known.by_name.get(name) {
            return Arc::clone(destination);
        }
        drop(known);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.get_or_make(name, || rule.destination(name, domain))
    }
}

impl PerDomain {
    fn destination(&self, name: &str, domain: &Domain<'_>) -> Destination {
        let hop = match (domain, self.fallback.is_empty()) {
            (Domain::Literal(ip), true) => NextHop::Literal(*ip),
            (Domain::Name(_), true) => NextHop::Mx(name.to_owned()),
            (_, false) => NextHop::MxThenSmartHosts(name.to_owned(), self.fallback.clone()),
        };
        self.conditions.clone().with(hop, self.rule.clone())
    }
}

impl Conditions {
    fn with(self, hop: NextHop, rule: String) -> Destination {
        Destination {
            key: String::new(),
            hop,
            port: self.port,
            tls: self.tls,
            implicit_tls: self.implicit_tls,
            helo_only: self.helo_only,
            auth: self.auth,
            hold: self.hold,
            rule,
        }
        .with_key()
    }
}

/// What is remembered between two sweeps; a sweep forgets what nobody holds.
const SWEEP_AT: usize = 16_384;

/// Destinations by domain. There can be a million domains, but only those in use are kept for long.
#[derive(Debug, Default)]
struct Made {
    by_name: HashMap<String, Arc<Destination>>,
    /// Beyond `SWEEP_AT`: twice what was in use at the last sweep, so that sweeping costs nothing per entry.
    limit: usize,
}

impl Made {
    fn get_or_make(&mut self, name: &str, make: impl FnOnce() -> Destination) -> Arc<Destination> {
        if self.by_name.len() >= self.limit.max(SWEEP_AT) {
            self.by_name
                .retain(|_, destination| Arc::strong_count(destination) > 1);
            self.limit = self.by_name.len().saturating_mul(2);
        }
        let destination = self
            .by_name
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(make()));
        Arc::clone(destination)
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
    by_key: HashMap<String, (Destination, Vec<String>, Option<Arc<Destination>>)>,
}

/// Rules named in [`Destination::rule`].
const MAX_RULES_NAMED: usize = 3;

impl Shared {
    fn rule(&mut self, conditions: Conditions, list: Vec<HostPort>, chosen_by: &str) -> Rule {
        let destination = conditions.with(NextHop::SmartHosts(list), String::new());
        let rule = Rule::Shared(Arc::new(destination.clone()));
        match self.by_key.entry(destination.key.clone()) {
            Entry::Occupied(mut known) => known.get_mut().1.push(chosen_by.to_owned()),
            Entry::Vacant(free) => {
                free.insert((destination, vec![chosen_by.to_owned()], None));
            }
        }
        rule
    }

    /// Puts the one shared `Arc` into the rule.
    fn settle(&mut self, rule: &mut Rule) {
        let Rule::Shared(own) = rule else { return };
        let Some((destination, rules, made)) = self.by_key.get_mut(&own.key) else {
            return;
        };
        let one = made.get_or_insert_with(|| {
            Arc::new(Destination {
                rule: format!("{}: smart host", rules_words(rules)),
                ..destination.clone()
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

fn unroutable(to: &Address) -> Outcome {
    let why = match Address::parse(to.as_str(), "invalid") {
        Err(e) => format!(": {e}"),
        Ok(_) => String::new(),
    };
    let text = format!("\"{to}\" is not an address that mail can be sent to{why}");
    Outcome::failed(EnhancedStatus::new(5, 1, 3), text)
}

fn no_domain(to: &Address, why: NotADomain) -> Outcome {
    let status = match why {
        NotADomain::Idna | NotADomain::Length => EnhancedStatus::new(5, 1, 2),
        NotADomain::Literal | NotADomain::BareAddress => EnhancedStatus::new(5, 1, 3),
    };
    Outcome::failed(status, format!("<{to}> cannot be reached: {why}"))
}

#[cfg(test)]
mod tests;
