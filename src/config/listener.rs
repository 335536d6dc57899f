//! `[[listener]]`: where SMTP is spoken, with whom, and how much of it. Read also by a build without the plug-in, which
//! says so.
//!
//! Pure. The defaults stand here, each beside its key.

use super::parse::{DAY, MINUTE, SECOND, path};
use super::section::{Section, Span};
use super::*;
use std::net::IpAddr;
use std::path::Path;

const MAX_LISTENERS: usize = 100;
const MAX_CLIENTS: usize = 10_000;

/// `[[listener]]`: one address and port, with its own rules. (IIS: a virtual server)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// (IIS: `ServerBindings`)
    pub address: IpAddr,
    /// 0: the system chooses one. (IIS: `ServerBindings`)
    pub port: u16,
    /// (IIS: `AccessSSLFlags`, `SecureBindings`)
    pub tls: ListenerTls,
    /// PEM files of the chain and of its key. (IIS: `SSLCertHash`)
    pub certificate: Option<Certificate>,
    /// Clients may send mail without logging in. (IIS: `AuthFlags` 1)
    pub anonymous: bool,
    /// Users and the hashes of their passwords; `None`: nobody can log in. (IIS: `AuthFlags` 2)
    pub users_file: Option<PathBuf>,
    /// Take passwords over a connection that is not encrypted.
    pub allow_plaintext_auth: bool,
    /// Who may connect. (IIS: `IPSecurity`)
    pub clients: Clients,
    /// Who may send to domains that are not local. (IIS: `RelayIpList`)
    pub relay: Clients,
    /// Who has logged in may relay too. (IIS: `RelayForAuth`)
    pub relay_authenticated: bool,
    /// That strangers may relay is meant.
    pub open_relay: bool,
    /// Who may come for mail on hold (ETRN).
    pub etrn: Clients,
    /// Who has logged in may come for it too.
    pub etrn_authenticated: bool,
    /// (IIS: `MaxConnections`)
    pub max_connections: usize,
    /// From one address; 0: no limit.
    pub max_connections_per_client: usize,
    /// Without a word from the client. (IIS: `ConnectionTimeout`)
    pub timeout: Duration,
    /// Bytes of messages in one connection; 0: no limit. (IIS: `MaxSessionSize`)
    pub max_session_size: u64,
    /// Per message. (IIS: `MaxRecipients`)
    pub max_recipients: usize,
    /// Per connection; 0: no limit.
    pub max_messages: usize,
    /// After so many mistakes the connection ends. (IIS: `MaxSmtpErrors`)
    pub max_errors: usize,
    /// Below this no mail is taken.
    pub min_free: u64,
    /// Who has logged in is named in Received.
    pub received_user: bool,
    /// The client's name is looked up and stands in Received. (IIS: `EnableReverseDnsLookup`)
    pub reverse_dns: bool,
}

impl Listener {
    /// Whether the name of a client is to be looked up.
    pub fn asks_names(&self) -> bool {
        let lists = [&self.clients, &self.relay, &self.etrn];
        self.reverse_dns || lists.iter().any(|list| !list.names.is_empty())
    }
}

/// `certificate` and `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own first.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `tls` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerTls {
    /// STARTTLS where there is a certificate.
    Offered,
    /// Never.
    Off,
    /// No mail before STARTTLS.
    Required,
    /// From the first byte.
    Implicit,
}

/// Only those on a list, or all except those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// `"only"`, not `"all_except"`.
    pub only: bool,
    /// In the order of the file.
    pub list: Vec<Network>,
    /// Host names, lower-case A-labels: `mail.example.com`, or `*.example.com` for every name below that.
    pub names: Vec<String>,
}

/// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its bits beyond `length` are zero.
    pub address: IpAddr,
    /// Bits that count.
    pub length: u8,
}

impl Clients {
    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.names.is_empty()
    }

    /// Whether this client is among those that are meant. `names` are those that DNS gives it, in lower case; `None`:
    /// they are not known. `None` in return: they decide.
    pub fn include(&self, client: IpAddr, names: Option<&[String]>) -> Option<bool> {
        let is_listed = self.list.iter().any(|network| network.holds(client));
        match names {
            None if !is_listed && !self.names.is_empty() => None,
            names => {
                let is_named = |name: &String| self.names.iter().any(|listed| is_meant(listed, name));
                Some((is_listed || names.unwrap_or_default().iter().any(is_named)) == self.only)
            }
        }
    }
}

/// Whether an entry means this name.
fn is_meant(listed: &str, name: &str) -> bool {
    match listed.strip_prefix('*') {
        Some(below) => name.len() > below.len() && name.ends_with(below),
        None => name == listed,
    }
}

/// An entry of a list.
enum Entry {
    Network(Network),
    Name(String),
}

impl Entry {
    fn parse(text: &str) -> Result<Self, String> {
        // No host name ends in digits alone (RFC 3696 §2).
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if text.contains(['/', ':']) || is_number {
            return Network::parse(text).map(Self::Network);
        }
        if text == "*" {
            return Err(
                "that would be everybody with a name; write \"all_except\" and an empty list".to_owned(),
            );
        }
        hosts::remote_name(text).map(Self::Name).map_err(|why| {
            format!("it is neither an address, nor a network such as 192.0.2.0/24, nor a host name: {why}")
        })
    }
}

impl Network {
    /// Whether the address belongs to it; an IPv4 address in IPv6 form is that IPv4 address.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let bits = ours.to_bits() ^ theirs.to_bits();
                bits.checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let bits = ours.to_bits() ^ theirs.to_bits();
                bits.checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address
            .parse()
            .map_err(|_| "it is neither an address nor a network such as 192.0.2.0/24".to_owned())?;
        let address = address.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length.map(str::parse::<u8>) {
            None => most,
            Some(Ok(length)) if length <= most => length,
            Some(_) => {
                return Err(format!(
                    "what follows the slash is a number of bits, at most {most}"
                ));
            }
        };
        let network = Self { address, length };
        let zero: IpAddr = match address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                std::net::Ipv4Addr::from_bits(ip.to_bits() & mask).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                std::net::Ipv6Addr::from_bits(ip.to_bits() & mask).into()
            }
        };
        if zero != address {
            return Err(format!(
                "{address} has bits beyond /{length}; write {zero}/{length}"
            ));
        }
        Ok(network)
    }
}

/// Those that are enabled: `[listener]` alone, or any number of `[[listener]]`.
pub(super) fn listeners(root: &mut Section<'_, '_>, beside: &Path) -> Vec<Listener> {
    root.one_or_more("listener", MAX_LISTENERS)
        .into_iter()
        .filter_map(|(table, span)| listener(Section::new(root.source, "[listener]", table), &span, beside))
        .collect()
}

fn listener(mut s: Section<'_, '_>, whole: &Span, beside: &Path) -> Option<Listener> {
    let modes = [
        ("offered", ListenerTls::Offered),
        ("off", ListenerTls::Off),
        ("required", ListenerTls::Required),
        ("implicit", ListenerTls::Implicit),
    ];
    let enabled = s.flag("enabled").is_some_and(|(yes, _)| yes);
    let address = s.read("address", "\"0.0.0.0\"", |text| {
        text.parse::<IpAddr>()
            .map_err(|_| "it is not an IP address of this machine".to_owned())
    });
    let port = s
        .number("port", 0..=65_535)
        .and_then(|port| u16::try_from(port).ok());
    let tls = s.choice("tls", &modes);
    let mut file = |key, example| {
        s.read(key, example, |text| path(text, beside))
            .map(|(path, _)| path)
    };
    let certificate = (file("certificate", "\"mail.pem\""), file("key", "\"mail.key\""));
    let users_file = file("users_file", "\"users\"");
    let (tls, certificate) = agreed(&s, whole, tls, certificate);
    let mut flag = |key, default| s.flag(key).map_or(default, |(yes, _)| yes);
    let (anonymous, allow_plaintext_auth) = (flag("anonymous", true), flag("allow_plaintext_auth", false));
    let (relay_authenticated, open_relay) = (flag("relay_authenticated", true), flag("open_relay", false));
    let (received_user, reverse_dns) = (flag("received_user", false), flag("reverse_dns", false));
    let etrn_authenticated = flag("etrn_authenticated", true);
    let listener = Listener {
        address: address.map_or(IpAddr::from([0, 0, 0, 0]), |(address, _)| address),
        port: port.unwrap_or(25),
        tls,
        certificate,
        anonymous,
        users_file,
        allow_plaintext_auth,
        clients: clients(&mut s, "clients", "clients_list", false),
        relay: clients(&mut s, "relay", "relay_list", true),
        relay_authenticated,
        open_relay,
        etrn: clients(&mut s, "etrn", "etrn_list", true),
        etrn_authenticated,
        max_connections: s.count("max_connections", 1000, 1..=100_000),
        max_connections_per_client: s.count("max_connections_per_client", 0, 0..=100_000),
        timeout: s.duration("timeout", MINUTE * 10, SECOND..=DAY),
        max_session_size: s.size("max_session_size", 0),
        max_recipients: s.count("max_recipients", 100, 1..=100_000),
        max_messages: s.count("max_messages", 0, 0..=1_000_000),
        max_errors: s.count("max_errors", 20, 1..=1_000_000),
        min_free: s.size("min_free", 64 * 1024 * 1024),
        received_user,
        reverse_dns,
    };
    if !listener.anonymous && listener.users_file.is_none() {
        let says =
            "this [listener] takes mail from nobody: \"anonymous\" is false and there is no \"users_file\"";
        s.source.problem(whole, says);
    }
    s.done();
    enabled.then_some(listener)
}

/// TLS needs a certificate, and a certificate its key.
fn agreed(
    s: &Section<'_, '_>,
    whole: &Span,
    tls: Option<(ListenerTls, Span)>,
    certificate: (Option<PathBuf>, Option<PathBuf>),
) -> (ListenerTls, Option<Certificate>) {
    let certificate = match certificate {
        (Some(chain), Some(key)) => Some(Certificate { chain, key }),
        // Many tools write both into one file.
        (Some(chain), None) => Some(Certificate {
            key: chain.clone(),
            chain,
        }),
        (None, Some(_)) => {
            s.source
                .problem(whole, "this [listener] has a \"key\" and no \"certificate\"");
            None
        }
        (None, None) => None,
    };
    if let Some((ListenerTls::Required | ListenerTls::Implicit, span)) = &tls
        && certificate.is_none()
    {
        s.problem(
            "tls",
            span,
            "needs a \"certificate\", and its \"key\" unless that is in the same file",
        );
    }
    (tls.map_or(ListenerTls::Offered, |(tls, _)| tls), certificate)
}

fn clients(s: &mut Section<'_, '_>, key: &'static str, list: &'static str, only: bool) -> Clients {
    let words = [("only", true), ("all_except", false)];
    let mut clients = Clients {
        only: s.choice(key, &words).map_or(only, |(only, _)| only),
        list: Vec::new(),
        names: Vec::new(),
    };
    let entries = s.texts(list, "[\"192.0.2.0/24\"]", MAX_CLIENTS, Entry::parse);
    for (entry, _) in entries.into_iter().flatten() {
        match entry {
            Entry::Network(network) => clients.list.push(network),
            Entry::Name(name) => clients.names.push(name),
        }
    }
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn networks() {
        for (text, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ] {
            let network = network(text);
            assert!(network.holds(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.holds(outside.parse().unwrap()), "{text} {outside}");
        }
        for wrong in [
            "",
            "example.com",
            "192.0.2.1/33",
            "192.0.2.1/24",
            "192.0.2.0/x",
            "2001:db8::/129",
        ] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_those_on_the_list_or_all_but_those() {
        let clients = |only, list: &[&str]| Clients {
            only,
            list: list.iter().map(|text| network(text)).collect(),
            names: Vec::new(),
        };
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for (clients, expected) in [
            (clients(true, &[]), [false, false]),
            (clients(true, &["192.0.2.1"]), [true, false]),
            (clients(false, &[]), [true, true]),
            (clients(false, &["192.0.2.1"]), [false, true]),
        ] {
            assert_eq!(
                [one, other].map(|client| clients.include(client, None).unwrap()),
                expected,
                "{clients:?}"
            );
        }
    }

    #[test]
    fn names_count_when_they_are_known() {
        let list = |only, entries: &[&str]| {
            let mut clients = Clients {
                only,
                list: Vec::new(),
                names: Vec::new(),
            };
            for text in entries {
                match Entry::parse(text).unwrap() {
                    Entry::Network(network) => clients.list.push(network),
                    Entry::Name(name) => clients.names.push(name),
                }
            }
            clients
        };
        let entries = ["192.0.2.0/24", "Mail.Example.com", "*.bücher.test"];
        let (near, far) = ("192.0.2.1".parse().unwrap(), "203.0.113.1".parse().unwrap());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (client, given, listed) in [
            (near, None, Some(true)),
            (near, Some(names(&[])), Some(true)),
            (far, None, None),
            (far, Some(names(&[])), Some(false)),
            (far, Some(names(&["x.test", "mail.example.com"])), Some(true)),
            (far, Some(names(&["a.mail.example.com"])), Some(false)),
            (far, Some(names(&["a.b.xn--bcher-kva.test"])), Some(true)),
            (
                far,
                Some(names(&["xn--bcher-kva.test", "evilxn--bcher-kva.test"])),
                Some(false),
            ),
        ] {
            let given = given.as_deref();
            assert_eq!(
                list(true, &entries).include(client, given),
                listed,
                "{client} {given:?}"
            );
            let other = listed.map(|yes| !yes);
            assert_eq!(
                list(false, &entries).include(client, given),
                other,
                "{client} {given:?}"
            );
        }
        assert_eq!(list(true, &[]).include(far, None), Some(false));
        for wrong in [
            "*",
            "a.*.test",
            "",
            "192.0.2",
            "999.0.2.1",
            "a b",
            "mail.example.com.",
        ] {
            assert!(Entry::parse(wrong).is_err(), "{wrong}");
        }
    }
}
