//! Domains and patterns of domains: which entry is the most specific one for a name.

use std::collections::HashMap;

use super::domain::Domain;

/// Entries under `example.com`, `*.example.com` (every name below it, not itself) or `*` (every name).
///
/// An exact name beats a wildcard, a longer wildcard beats a shorter one. A search costs one hash look-up per label.
#[derive(Debug)]
pub(super) struct DomainTable<T> {
    exact: HashMap<String, T>,
    below: HashMap<String, T>,
    any: Option<T>,
}

impl<T> DomainTable<T> {
    pub(super) fn new() -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            any: None,
        }
    }

    /// Enters `value`; of two entries with the same pattern the first one stays. A pattern that is no domain was
    /// refused when the settings were read; here it matches nothing.
    pub(super) fn insert(&mut self, pattern: &str, value: T) {
        if pattern == "*" {
            self.any.get_or_insert(value);
            return;
        }
        let (map, name) = match pattern.strip_prefix("*.") {
            Some(name) => (&mut self.below, name),
            None => (&mut self.exact, pattern),
        };
        if let Ok(domain) = Domain::parse(name) {
            map.entry(domain.text().into_owned()).or_insert(value);
        }
    }

    /// The most specific entry for a name in the form of [`Domain::text`].
    pub(super) fn find(&self, name: &str) -> Option<&T> {
        self.exact
            .get(name)
            .or_else(|| self.find_below(name))
            .or(self.any.as_ref())
    }

    fn find_below(&self, name: &str) -> Option<&T> {
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(found) = self.below.get(above) {
                return Some(found);
            }
            rest = above;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_entry_wins_whatever_the_order() {
        let patterns = [
            "*",
            "*.com",
            "*.Example.com",
            "example.com",
            "*.b.example.com",
            "x.b.example.com",
            "*.bücher.example",
        ];
        let cases = [
            ("example.com", "example.com"),
            ("a.example.com", "*.Example.com"),
            ("a.a.example.com", "*.Example.com"),
            ("b.example.com", "*.Example.com"),
            ("a.b.example.com", "*.b.example.com"),
            ("x.b.example.com", "x.b.example.com"),
            ("y.x.b.example.com", "*.b.example.com"),
            ("anexample.com", "*.com"),
            ("com", "*"),
            ("example.net", "*"),
            ("www.xn--bcher-kva.example", "*.bücher.example"),
            ("xn--bcher-kva.example", "*"),
            ("[192.0.2.1]", "*"),
        ];
        for backwards in [false, true] {
            let mut order = patterns;
            if backwards {
                order.reverse();
            }
            let mut table = DomainTable::new();
            for pattern in order {
                table.insert(pattern, pattern);
            }
            for (name, wins) in cases {
                assert_eq!(table.find(name), Some(&wins), "{name}");
            }
        }
    }

    #[test]
    fn without_a_catch_all_there_may_be_none() {
        let mut table = DomainTable::new();
        table.insert("*.example.com", 1);
        table.insert("*.example.com", 2);
        table.insert("[IPv6:0::1]", 3);
        assert_eq!(table.find("example.com"), None);
        assert_eq!(table.find("a.example.com"), Some(&1));
        assert_eq!(table.find("[IPv6:::1]"), Some(&3));
        assert_eq!(table.find("a.example.com.au"), None);
    }
}
