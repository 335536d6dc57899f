//! The machine's own name, for settings that do not give one.
//!
//! Reads uname(2) and `/etc/hosts`. Never asks DNS: a name server that does not answer must not hold up a start.

use super::hosts;
use std::io::Read;

/// What we call ourselves when the machine has no name that could be used.
pub const FALLBACK_HOSTNAME: &str = "localhost.localdomain";

/// More than any real `/etc/hosts`; block lists of some machines reach a few MiB.
const MAX_HOSTS_FILE: u64 = 8 << 20;

/// The machine's fully qualified name, and a warning when it had to be made up.
pub(super) fn hostname() -> (String, Option<String>) {
    let uname = rustix::system::uname();
    let node = uname.nodename().to_string_lossy();
    let table = if node.contains('.') {
        String::new()
    } else {
        hosts_file()
    };
    qualified(&node, &table)
}

fn hosts_file() -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open("/etc/hosts") {
        // What could be read is enough; a name that is not found there stays as it is.
        let _ = file.take(MAX_HOSTS_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `node` if it has a domain, else the name with a domain that `/etc/hosts` gives the same machine, else `node`.
fn qualified(node: &str, hosts_table: &str) -> (String, Option<String>) {
    let found = if node.contains('.') {
        None
    } else {
        longer_name(node, hosts_table)
    };
    let name = found.unwrap_or(node);
    match hosts::hostname(name) {
        Ok(name) => (name, None),
        Err(why) => (
            FALLBACK_HOSTNAME.to_owned(),
            Some(format!(
                "the machine's name {name:?} cannot be used ({why}); \"{FALLBACK_HOSTNAME}\" is used: set hostname in [server]"
            )),
        ),
    }
}

/// `192.0.2.1  app1.example.com app1` has the longer name for `app1`.
fn longer_name<'a>(node: &str, hosts_table: &'a str) -> Option<&'a str> {
    let is_longer = |name: &&str| {
        name.split_once('.')
            .is_some_and(|(first, rest)| first.eq_ignore_ascii_case(node) && !rest.is_empty())
    };
    hosts_table.lines().find_map(|line| {
        let names = line.split('#').next()?.split_whitespace().skip(1);
        names.into_iter().find(is_longer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_completed_from_the_hosts_file() {
        let table = "# app1.comment.example\n127.0.0.1 localhost\n::1 ip6-localhost\n192.0.2.1\tApp1.example.com app1 # app1.x\n";
        assert_eq!(qualified("app1", table), ("app1.example.com".into(), None));
        assert_eq!(qualified("app2", table), ("app2".into(), None));
        assert_eq!(
            qualified("app1.other.example", table),
            ("app1.other.example".into(), None)
        );
    }

    #[test]
    fn an_unusable_name_falls_back_with_a_warning() {
        for node in ["my_host", "", "(none)"] {
            let (name, warning) = qualified(node, "");
            assert_eq!(name, FALLBACK_HOSTNAME);
            assert!(warning.unwrap().contains("set hostname in [server]"), "{node}");
        }
    }
}
