//! Which domains are on hold, for those who may ask for their mail: the listener and `mailroot queue release`.
//!
//! Pure. How a single recipient goes is for `route`.

use super::{Config, hosts};
use std::collections::{BTreeMap, HashMap};

/// The `[[remote]]` entries, with what each says of `hold`.
#[derive(Debug, Clone, Default)]
pub struct OnHold {
    exact: HashMap<String, Entry>,
    /// Under `*.example.com` without its star.
    below: BTreeMap<String, Entry>,
    local: Vec<String>,
}

/// What one of them says.
#[derive(Debug, Clone)]
struct Entry {
    hold: bool,
    /// `atrn_users`
    users: Vec<String>,
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
            let entry = Entry {
                hold: remote.hold,
                users: remote.atrn_users.clone(),
            };
            match remote.name.strip_prefix("*.") {
                Some(below) => all.below.insert(below.to_owned(), entry),
                None => all.exact.insert(remote.name.clone(), entry),
            };
        }
        all
    }

    /// No domain is.
    pub fn is_empty(&self) -> bool {
        !self
            .exact
            .values()
            .chain(self.below.values())
            .any(|entry| entry.hold)
    }

    /// The entry that says how mail for this domain goes: its own, else the nearest with a star.
    fn entry(&self, domain: &str) -> Option<&Entry> {
        let above = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1)).skip(1);
        let nearest = || above.into_iter().find_map(|name| self.below.get(name));
        let is_local = self.local.iter().any(|local| local == domain);
        self.exact.get(domain).or_else(nearest).filter(|_| !is_local)
    }

    /// Whether mail for this domain is kept.
    pub fn includes(&self, domain: &str) -> bool {
        self.entry(domain).is_some_and(|entry| entry.hold)
    }

    /// Whether this user may take mail for it over his own connection.
    pub fn is_taken_by(&self, domain: &str, user: &str) -> bool {
        let takes = |entry: &Entry| entry.hold && entry.users.iter().any(|name| name == user);
        self.entry(domain).is_some_and(takes)
    }

    /// The entries whose mail this user may take: `example.com`, `*.example.com`.
    pub fn taken_by(&self, user: &str) -> Vec<String> {
        let takes = |entry: &Entry| entry.hold && entry.users.iter().any(|name| name == user);
        let exact = self.exact.iter().filter(|(_, entry)| takes(entry));
        let below = self.below.iter().filter(|(_, entry)| takes(entry));
        let below = below.map(|(name, _)| format!("*.{name}"));
        exact.map(|(name, _)| name.clone()).chain(below).collect()
    }

    /// Whether anybody may take anything so.
    pub fn is_taken(&self) -> bool {
        let mut all = self.exact.values().chain(self.below.values());
        all.any(|entry| entry.hold && !entry.users.is_empty())
    }

    /// Whether mail for this domain or for one below it can be kept.
    pub fn includes_some_of(&self, top: &str) -> bool {
        let is_at_or_below = |name: &str| {
            let rest = name.strip_suffix(top);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let inside = |(name, entry): (&String, &Entry)| entry.hold && is_at_or_below(name);
        // a name that nobody has an entry for
        let below = format!("-.{top}");
        self.exact.iter().any(inside) || self.below.iter().any(inside) || self.includes(&below)
    }

    /// Of what [`asked_for`] gave: whether mail is kept for it.
    pub fn has(&self, name: &str, and_below: bool) -> bool {
        match and_below {
            true => self.includes_some_of(name),
            false => self.includes(name),
        }
    }

    /// All of them, as they are asked for: `@example.com` for `*.example.com`.
    pub fn names(&self) -> Vec<String> {
        let held = |(name, entry): (&String, &Entry)| entry.hold.then(|| name.clone());
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
    fn who_takes_what() {
        let entry = |name: &str, users: &str| {
            format!("[[remote]]\nname = \"{name}\"\nhold = true\natrn_users = [{users}]\n")
        };
        let text = entry("a.test", "\"app\"")
            + &entry("*.b.test", "\"eve\", \"app\"")
            + &entry("own.b.test", "\"eve\"");
        let config = Config::parse(&text, std::path::Path::new("/m"), "mail.test").unwrap();
        let on_hold = OnHold::of(&config);
        assert!(on_hold.is_taken());
        let mut of_app = on_hold.taken_by("app");
        of_app.sort();
        assert_eq!(of_app, ["*.b.test", "a.test"]);
        assert_eq!(on_hold.taken_by("nobody"), [""; 0]);
        for (domain, app, eve) in [
            ("a.test", true, false),
            ("x.b.test", true, true),
            ("own.b.test", false, true),
            ("b.test", false, false),
        ] {
            let may = ["app", "eve"].map(|user| on_hold.is_taken_by(domain, user));
            assert_eq!(may, [app, eve], "{domain}");
        }
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
