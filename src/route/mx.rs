//! From MX records to the hosts worth trying, in order (RFC 5321 §5.1, RFC 7505). Pure but for the dice.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::domain::is_host_byte;

/// What MX records come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// Hosts in the order in which they are tried. Never empty.
    Hosts(Vec<String>),
    /// The domain takes no mail (RFC 7505).
    Null,
    /// We are the best MX ourselves.
    OurOwn,
    /// No record names a host.
    NoHost,
}

/// Sorts by preference, at random among equals, and leaves out what cannot be tried: ourselves with everything
/// that is not better than us, what is no host name, and what exceeds `max`. Each omission is noted.
pub(super) fn choose(
    mut records: Vec<(u16, String)>,
    own_name: &str,
    max: usize,
    notes: &mut Vec<String>,
) -> Chosen {
    if !records.is_empty() && records.iter().all(|(_, host)| is_root(host)) {
        return Chosen::Null;
    }
    records.retain(|(preference, host)| {
        let is_host = is_host_name(host);
        if !is_host {
            notes.push(format!(
                "MX {preference} {host}: left out, this is not a host name"
            ));
        }
        is_host
    });
    if records.is_empty() {
        return Chosen::NoHost;
    }
    let ours = records
        .iter()
        .filter(|(_, host)| host == own_name)
        .map(|(p, _)| *p)
        .min();
    if let Some(ours) = ours {
        records.retain(|(preference, _)| *preference < ours);
        notes.push(format!(
            "MX {ours} {own_name}: this is our own name; only hosts of a lower preference number are tried"
        ));
        if records.is_empty() {
            return Chosen::OurOwn;
        }
    }
    shuffle(&mut records);
    records.sort_by_key(|(preference, _)| *preference);
    if records.len() > max {
        notes.push(format!(
            "{} MX records: only the first {max} are tried",
            records.len()
        ));
        records.truncate(max);
    }
    Chosen::Hosts(records.into_iter().map(|(_, host)| host).collect())
}

/// Puts a list into a random order. The standard library's hash keys come from the system's random source, which
/// is all the chance that spreading load takes.
pub(super) fn shuffle<T>(list: &mut [T]) {
    let dice = RandomState::new();
    let mut at = 0_usize;
    list.sort_by_cached_key(|_| {
        at += 1;
        dice.hash_one(at)
    });
}

fn is_root(host: &str) -> bool {
    host == "."
}

/// An IP address in an MX record is a mistake of the zone (RFC 5321 §5.1 wants a name); other mailers skip it too.
fn is_host_name(host: &str) -> bool {
    !is_root(host) && host.bytes().all(is_host_byte) && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(records: &[(u16, &str)], own: &str) -> (Chosen, Vec<String>) {
        let mut notes = Vec::new();
        let records = records.iter().map(|(p, h)| (*p, (*h).to_owned())).collect();
        let chosen = choose(records, own, 3, &mut notes);
        (chosen, notes)
    }

    fn hosts(records: &[(u16, &str)], own: &str) -> Vec<String> {
        match chosen(records, own).0 {
            Chosen::Hosts(list) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn preference_decides_and_chance_among_equals() {
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..64 {
            let list = hosts(&[(20, "c"), (10, "a"), (10, "b")], "us");
            assert_eq!(list[2], "c");
            firsts.insert(list[0].clone());
        }
        assert_eq!(firsts.len(), 2, "both orders occur");
    }

    #[test]
    fn our_own_name_cuts_the_list() {
        let records = [(10, "a"), (20, "us"), (20, "b"), (30, "c")];
        assert_eq!(hosts(&records, "us"), ["a"]);
        assert_eq!(chosen(&[(10, "us"), (10, "a")], "us").0, Chosen::OurOwn);
        assert_eq!(hosts(&[(10, "a"), (5, "b"), (20, "us"), (7, "us")], "us"), ["b"]);
    }

    #[test]
    fn null_mx_counts_only_alone() {
        assert_eq!(chosen(&[(0, ".")], "us").0, Chosen::Null);
        let (some, notes) = chosen(&[(0, "."), (10, "a")], "us");
        assert_eq!(some, Chosen::Hosts(vec!["a".to_owned()]));
        assert!(notes[0].contains("MX 0 ."), "{notes:?}");
    }

    #[test]
    fn what_is_no_host_name_is_left_out() {
        let records = [
            (1, "192.0.2.1"),
            (2, "\\032"),
            (3, "2001:db8::1"),
            (9, "a_b.example"),
        ];
        let (some, notes) = chosen(&records, "us");
        assert_eq!(some, Chosen::Hosts(vec!["a_b.example".to_owned()]));
        assert_eq!(notes.len(), 3);
        assert_eq!(chosen(&records[..2], "us").0, Chosen::NoHost);
    }

    #[test]
    fn the_list_is_bounded_after_sorting() {
        let list = hosts(&[(5, "e"), (4, "d"), (3, "c"), (2, "b"), (1, "a")], "us");
        assert_eq!(list, ["a", "b", "c"]);
    }
}
