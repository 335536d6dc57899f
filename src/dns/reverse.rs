//! The name of a client: PTR of its address, believed when the name has that address (forward-confirmed).
//!
//! Whoever owns an address can put any name into its PTR; only the owner of the name can put the address under it.

use super::thread::Question;
use super::{Dns, DnsFailure, wait};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Of more names only these are looked up.
const MOST: usize = 8;

/// What came of a question for a client's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverse {
    /// These, lower case, as A-labels, without the final dot; never empty.
    Confirmed(Vec<String>),
    /// It has a name that does not lead back to it.
    Unconfirmed,
    /// It has no name.
    Nameless,
    /// Nobody could say; one clause.
    Failed(String),
}

impl Dns {
    /// Who this is; takes no longer than `within`. `/etc/hosts` is believed for the addresses of a name, never for PTR.
    pub fn reverse(&self, address: IpAddr, within: Duration) -> Reverse {
        let until = Instant::now() + within.min(self.desk.pace.patience);
        let address = address.to_canonical();
        let names = match self.names(address, until) {
            Ok(names) => names,
            Err(DnsFailure::Temporary(why)) => return Reverse::Failed(why),
            Err(DnsFailure::NoSuchDomain | DnsFailure::NoRecords) => return Reverse::Nameless,
        };
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| is_host_name(name))
            .take(MOST)
            .collect();
        let (mut confirmed, mut failed) = (Vec::new(), None);
        for (name, found) in names.iter().zip(self.addresses_until(&names, until)) {
            match found {
                Ok(addresses) if addresses.contains(&address) => confirmed.push((*name).to_owned()),
                Err(DnsFailure::Temporary(why)) => failed = Some(why),
                Ok(_) | Err(DnsFailure::NoSuchDomain | DnsFailure::NoRecords) => {}
            }
        }
        match (confirmed.is_empty(), failed) {
            (false, _) => Reverse::Confirmed(confirmed),
            (true, Some(why)) => Reverse::Failed(why),
            (true, None) => Reverse::Unconfirmed,
        }
    }

    fn names(&self, address: IpAddr, until: Instant) -> Result<Vec<String>, DnsFailure> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.ask(Question::Names {
            address,
            until,
            reply,
        })?;
        wait(&answer, until)
            .unwrap_or_else(|why| Err(DnsFailure::Temporary(format!("name of {address}: {why}"))))
    }
}

/// What may stand in a header and be compared with a setting.
fn is_host_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name != "." && name.len() <= 253 && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::is_host_name;

    #[test]
    fn a_name_that_a_header_could_not_hold_is_none() {
        for name in ["mail.example.net", "a_b-1", "xn--bcher-kva.test"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a\\(b.test", "a\\032b", "a b", "a]b", "b\u{fc}cher.test"] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
