//! The routing table of one set of settings.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Route;
use super::destination::Destination;
use super::domain::{Domain, NotADomain};
use super::rules::{PerDomain, Rule, rules};
use super::table::DomainTable;
use crate::config::{Config, Delivery, Domains, Remote};
use crate::mail::{Address, EnhancedStatus, Outcome};

/// Says of any address where it goes. Made once per set of settings, shared by all threads.
#[derive(Debug)]
pub struct Routes {
    local: DomainTable<()>,
    remote: DomainTable<Rule>,
    /// For all that no `[[remote]]` entry matches.
    otherwise: Rule,
    /// Entries with `hold = true`: how long their mail may wait.
    holds: DomainTable<Option<(Arc<str>, Duration)>>,
    /// There are any.
    any_hold: bool,
    /// Destinations that depend on the recipient's domain, made when first asked for.
    made: RwLock<Made>,
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
        let (otherwise, entries) = rules(remote, delivery);
        let (mut table, mut holds) = (DomainTable::new(), DomainTable::new());
        for (entry, rule) in remote.iter().zip(entries) {
            table.insert(&entry.name, rule);
            let expire = entry.hold_expire.unwrap_or(delivery.schedule.expire);
            holds.insert(
                &entry.name,
                entry.hold.then(|| (entry.name.as_str().into(), expire)),
            );
        }
        Self {
            local,
            remote: table,
            otherwise,
            holds,
            any_hold: remote.iter().any(|entry| entry.hold),
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

    /// The domain of this recipient, in the form that is compared, when its mail is on hold. Costs nothing when none is.
    pub fn hold_of(&self, to: &Address) -> Option<OnHold> {
        if !self.any_hold || !to.is_routable() {
            return None;
        }
        let domain = Domain::parse(to.domain()).ok()?;
        let domain = domain.text();
        if self.local.find(&domain).is_some() {
            return None;
        }
        let (entry, expire) = self.holds.find(&domain)?.as_ref()?;
        Some(OnHold {
            domain: domain.into_owned(),
            entry: Arc::clone(entry),
            expire: *expire,
        })
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

/// What the settings say of a recipient whose domain is on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHold {
    /// In lower-case A-labels, or an address literal in its brackets.
    pub domain: String,
    /// The name of the `[[remote]]` entry that says so.
    pub entry: Arc<str>,
    /// How old its mail may become.
    pub expire: Duration,
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
