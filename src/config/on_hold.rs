//! Which domains are on hold, for those who may ask for their mail: the listener and `mailroot queue release`.
//!
//! Pure. How a single recipient goes is for `route`.

use super::{Config, hosts};
use std::collections::{BTreeMap, HashMap};

/// The `[[remote]]` entries, with what each says of `hold`.
#[derive(Debug, Clone, Default)]
pub struct OnHold {
    exact: HashMap<String, bool>,
    /// Under `*.example.com` without its star.
    below: BTreeMap<String, bool>,
    local: Vec<String>,
}

impl OnHold {
    /// Of these settings.
    pub fn of(config: &Config) -> Self {
        let mut all = Self {
            local: config.domains.aliases.clone(),
            ..Self::default()
        };
        all.local.push(config.domains.default.clone());
        for remote in &config.remote {
            match remote.name.strip_prefix("*.") {
                Some(below) => all.below.insert(below.to_owned(), remote.hold),
                None => all.exact.insert(remote.name.clone(), remote.hold),
            };
        }
        all
    }

    /// No domain is.
    pub fn is_empty(&self) -> bool {
        !self.exact.values().chain(self.below.values()).any(|hold| *hold)
    }

    /// Whether mail for this domain is kept: as its own entry says, else the nearest with a star.
    pub fn includes(&self, domain: &str) -> bool {
        let above = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1)).skip(1);
        let nearest = || above.into_iter().find_map(|name| self.below.get(name));
        let hold = self.exact.get(domain).or_else(nearest).copied().unwrap_or(false);
        hold && !self.local.iter().any(|local| local == domain)
    }

    /// Whether mail for this domain or for one below it can be kept.
    pub fn includes_some_of(&self, top: &str) -> bool {
        let is_at_or_below = |name: &str| {
            let rest = name.strip_suffix(top);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let inside = |(name, hold): (&String, &bool)| *hold && is_at_or_below(name);
        // a name that nobody has an entry for
        let below = format!("-.{top}");
        self.exact.iter().any(inside) || self.below.iter().any(inside) || self.includes(&below)
    }

    /// All of them, as they are asked for: `@example.com` for `*.example.com`.
    pub fn names(&self) -> Vec<String> {
        let held = |(name, hold): (&String, &bool)| hold.then(|| name.clone());
        let mut names: Vec<String> = self.exact.iter().filter_map(held).collect();
        names.sort();
        names.extend(self.below.iter().filter_map(held).map(|name| format!("@{name}")));
        names
    }
}

/// `example.com`, or `@example.com` for that and all below it, as ETRN writes it (RFC 1985): the domain in lower-case
/// A-labels, and whether those below are meant too.
pub fn asked_for(text: &str) -> Result<(String, bool), String> {
    let (name, tree) = match text.strip_prefix('@') {
        Some(name) => (name, true),
        None => (text, false),
    };
    if let Some(below) = name.strip_prefix("*.") {
        return Err(format!("write @{below} for that domain and all below it"));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    hosts::domain(name).map(|name| (name, tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_entry_says_it() {
        let entry = |name: &str, hold: bool| format!("[[remote]]\nname = \"{name}\"\nhold = {hold}\n");
        let text = entry("a.test", true)
            + &entry("*.b.test", true)
            + &entry("free.b.test", false)
            + &entry("c.test", false)
            + &entry("x.c.test", true)
            + &entry("local.test", true);
        let settings = format!("[domains]\ndefault = \"local.test\"\n{text}");
        let config = Config::parse(&settings, std::path::Path::new("/m"), "mail.test").unwrap();
        let on_hold = OnHold::of(&config);
        assert!(!on_hold.is_empty());
        for (domain, one, some) in [
            ("a.test", true, true),
            ("x.a.test", false, false),
            ("b.test", false, true),
            ("x.b.test", true, true),
            ("y.x.b.test", true, true),
            ("free.b.test", false, true),
            ("c.test", false, true),
            ("d.test", false, false),
            ("test", false, true),
            ("local.test", false, true),
        ] {
            assert_eq!(
                (on_hold.includes(domain), on_hold.includes_some_of(domain)),
                (one, some),
                "{domain}"
            );
        }
        assert_eq!(on_hold.names(), ["a.test", "local.test", "x.c.test", "@b.test"]);
        assert!(OnHold::of(&Config::parse("", std::path::Path::new("/m"), "mail.test").unwrap()).is_empty());
    }

    #[test]
    fn what_is_asked_for() {
        assert_eq!(
            asked_for("Bücher.example."),
            Ok(("xn--bcher-kva.example".into(), false))
        );
        assert_eq!(asked_for("@A.test"), Ok(("a.test".into(), true)));
        for wrong in ["", "@", "#queue", "*.a.test", "a b", "a/b"] {
            assert!(asked_for(wrong).is_err(), "{wrong}");
        }
    }
}
