//! What one listener allows: who may connect, what may be sent where, and how much. Made from the settings, shared by
//! its sessions.
//!
//! Reads: certificate and key, when it is made. Thread: any.

use super::client::Client;
use super::reply::Reply;
use super::users::Passwords;
use crate::config::on_hold::OnHold;
use crate::config::{Certificate, Clients, Config, Listener, ListenerTls, Network, hosts};
use crate::dns::Dns;
use crate::mail::Address;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is put on top of a message counts as the message's for whoever takes it out of Pickup.
const OUR_SHARE: u64 = 2048;

/// From the look that finds somebody at a door until mail is there.
const COMING: Duration = Duration::from_secs(8);
/// The request is worth nothing later.
const LONGEST_AT_DOOR: Duration = Duration::from_secs(50);

/// See above.
pub(super) struct Rules {
    pub listener: Listener,
    pub hostname: String,
    pub default_domain: String,
    /// Bytes of what a client sends; 0: no limit.
    pub max_size: u64,
    pub max_hops: usize,
    /// With a certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// With a users file.
    pub users: Option<Passwords>,
    /// Where the name of a client counts.
    pub dns: Option<Dns>,
    /// Bytes that may lie in Drop; 0: no limit.
    pub drop_quota: u64,
    /// An engine that has mail for who waits at a door comes within this time.
    pub at_door: Duration,
    /// Domains whose mail waits for somebody to come for it.
    pub on_hold: OnHold,
    local: HashSet<String>,
    /// Whether others may relay to these domains, and to every name below those.
    exact: HashMap<String, bool>,
    below: HashMap<String, bool>,
}

impl Rules {
    /// The error is one sentence.
    pub fn new(config: &Config, listener: &Listener) -> Result<Self, String> {
        if let Some(why) = open_relay(listener) {
            return Err(format!(
                "the listener on port {} is not opened: {why}",
                listener.port
            ));
        }
        if (1..=2 * OUR_SHARE).contains(&config.messages.max_size) {
            let least = 2 * OUR_SHARE;
            return Err(format!(
                "messages.max_size is too small for a listener: it must be more than {least} bytes, or 0"
            ));
        }
        let domains = &config.domains;
        let local = std::iter::once(&domains.default).chain(&domains.aliases).cloned();
        let mut rules = Self {
            hostname: config.server.hostname.clone(),
            default_domain: domains.default.clone(),
            max_size: match config.messages.max_size {
                0 => 0,
                size => size.saturating_sub(OUR_SHARE),
            },
            max_hops: config.messages.max_hops,
            tls: None,
            users: listener.users_file.as_deref().map(Passwords::new),
            dns: listener.asks_names().then(|| Dns::new(&config.dns.servers)),
            drop_quota: config.drop.quota,
            at_door: (config.pickup.poll * 2 + COMING).min(LONGEST_AT_DOOR),
            on_hold: OnHold::of(config),
            local: local.collect(),
            exact: HashMap::new(),
            below: HashMap::new(),
            listener: listener.clone(),
        };
        if let Some(certificate) = listener
            .certificate
            .as_ref()
            .filter(|_| listener.tls != ListenerTls::Off)
        {
            rules.tls = Some(server_config(certificate)?);
        }
        for remote in &config.remote {
            let (map, name) = match remote.name.strip_prefix("*.") {
                Some(below) => (&mut rules.below, below),
                None => (&mut rules.exact, remote.name.as_str()),
            };
            map.insert(name.to_owned(), remote.relay);
        }
        Ok(rules)
    }

    /// Whether this client may send to that recipient, or what it is told: local domains take from everyone, others
    /// from those who may relay.
    pub fn takes(&self, recipient: &Address, client: &Client) -> Result<(), Reply> {
        let has_logged_in = client.user.is_some() && self.listener.relay_authenticated;
        if has_logged_in || self.is_local(recipient) || self.is_relayed(&domain_of(recipient)) {
            return Ok(());
        }
        match self.listener.relay.include(client.address.ip(), client.names()) {
            Some(true) => Ok(()),
            Some(false) => {
                let words = format!("Unable to relay for {recipient}");
                Err(Reply::new(550, "5.7.1", words))
            }
            None => {
                let words = format!("Unable to relay for {recipient}: your name cannot be looked up now");
                Err(Reply::new(451, "4.7.1", words))
            }
        }
    }

    /// Whether its mail goes into Drop.
    pub fn is_local(&self, recipient: &Address) -> bool {
        self.local.contains(&domain_of(recipient))
    }

    /// Whether anybody can take mail on hold over his own connection.
    pub fn offers_atrn(&self) -> bool {
        self.users.is_some() && self.on_hold.is_taken()
    }

    /// Whether this client may come for mail on hold.
    /// `None`: its name decides, and DNS does not tell it.
    pub fn may_fetch(&self, client: &Client) -> Option<bool> {
        if client.user.is_some() && self.listener.etrn_authenticated {
            return Some(true);
        }
        self.listener.etrn.include(client.address.ip(), client.names())
    }

    /// As the entry says that the domain's mail goes by: its own, else the nearest with a star.
    fn is_relayed(&self, domain: &str) -> bool {
        let above = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1)).skip(1);
        let nearest = || above.into_iter().find_map(|name| self.below.get(name));
        self.exact.get(domain).or_else(nearest).copied().unwrap_or(false)
    }
}

/// As the settings write it; empty when it is none.
fn domain_of(recipient: &Address) -> String {
    let domain = recipient.domain();
    hosts::domain(domain.strip_suffix('.').unwrap_or(domain)).unwrap_or_default()
}

/// What an entry of the settings comes to, in words; or why it cannot be opened.
pub fn judge(config: &Config, listener: &Listener) -> Result<String, String> {
    let rules = Rules::new(config, listener)?;
    let mut who = Vec::new();
    match (listener.clients.only, listener.clients.is_empty()) {
        (true, true) => who.push("nobody may connect (clients_list)".to_owned()),
        (true, false) => who.push(format!("only {} may connect", counted(&listener.clients))),
        (false, true) => {}
        (false, false) => who.push(format!("all but {} may connect", counted(&listener.clients))),
    }
    if let Some(passwords) = &rules.users {
        let users = passwords.count().map_err(|error| error.to_string())?;
        who.push(match users {
            0 => "nobody can log in yet (`mailroot user add NAME` makes a user)".to_owned(),
            users => format!("{} can log in", several(users, "user")),
        });
        if rules.tls.is_none() && !listener.allow_plaintext_auth {
            return Err(format!(
                "the listener on port {} has users and no TLS, so nobody can log in: give it a certificate, or set \
                 allow_plaintext_auth = true if you must",
                listener.port
            ));
        }
        if listener.relay_authenticated {
            who.push("who has logged in may relay".to_owned());
        }
    }
    let relay = &listener.relay;
    who.push(match (relay.only, relay.is_empty()) {
        (true, true) => "nobody else may relay".to_owned(),
        (true, false) => format!("{} may relay", counted(relay)),
        (false, _) if strangers_may_relay(listener) => "strangers may relay, as the settings say".to_owned(),
        (false, true) => "whoever may send mail here may relay".to_owned(),
        (false, false) => format!("whoever may send mail here may relay, except {}", counted(relay)),
    });
    let exact = rules
        .exact
        .iter()
        .map(|(name, is_relayed)| (name.clone(), is_relayed));
    let below = rules
        .below
        .iter()
        .map(|(name, is_relayed)| (format!("*.{name}"), is_relayed));
    let mut relayed: Vec<String> = exact
        .chain(below)
        .filter_map(|(name, is_relayed)| is_relayed.then_some(name))
        .collect();
    relayed.sort_unstable();
    if let Some((first, others)) = relayed.split_first() {
        let more = match others.len() {
            0 => String::new(),
            more => format!(" and {}", several(more, "more domain")),
        };
        who.push(format!("all may relay to {first}{more}"));
    }
    if !rules.on_hold.is_empty() {
        let etrn = &listener.etrn;
        let users = rules.users.is_some() && listener.etrn_authenticated;
        let comers = match (etrn.only, etrn.is_empty(), users) {
            (true, true, false) => "nobody".to_owned(),
            (true, true, true) => "who has logged in".to_owned(),
            (true, false, false) => counted(etrn),
            (true, false, true) => format!("who has logged in and {}", counted(etrn)),
            (false, true, _) => "anyone who can connect".to_owned(),
            (false, false, _) => format!("anyone who can connect except {}", counted(etrn)),
        };
        who.push(format!("{comers} may come for mail on hold (ETRN)"));
        if rules.offers_atrn() {
            who.push("some users may take it over their own connection (ATRN)".to_owned());
        }
    }
    let tls = match (&rules.tls, listener.tls) {
        (None, _) => "not encrypted",
        (Some(_), ListenerTls::Implicit) => "TLS from the first byte",
        (Some(_), ListenerTls::Required) => "STARTTLS required",
        (Some(_), _) => "STARTTLS offered",
    };
    let place = std::net::SocketAddr::new(listener.address, listener.port);
    Ok(format!(
        "{place}, {tls}: takes mail for local domains; {}",
        who.join(", ")
    ))
}

/// `1 network and 2 host names`
fn counted(clients: &Clients) -> String {
    let parts = [
        (clients.list.len(), "network"),
        (clients.names.len(), "host name"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts
        .map(|(count, what)| several(count, what))
        .collect::<Vec<_>>()
        .join(" and ")
}

fn several(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// Whether strangers may relay here, in words. `None`: they may not, or it is meant.
fn open_relay(listener: &Listener) -> Option<&'static str> {
    (strangers_may_relay(listener) && !listener.open_relay).then_some(
        "anyone who can reach it may send mail to anywhere through it: an open relay, which others will soon find and \
         block; set relay = \"only\" and name your clients in relay_list, or open_relay = true if no stranger reaches it",
    )
}

fn strangers_may_relay(listener: &Listener) -> bool {
    // A name keeps nobody out: who has no name, or hides it, is not on the list.
    let from_everyone = |clients: &Clients, is_v4: bool| match clients.only {
        true => is_much(share(&clients.list, is_v4), is_v4) || clients.names.iter().any(|name| is_wide(name)),
        false => is_much(1.0 - share(&clients.list, is_v4), is_v4),
    };
    let reached_by: &[bool] = match listener.address {
        IpAddr::V4(_) => &[true],
        // Clients with IPv4 come there too.
        IpAddr::V6(address) if address.is_unspecified() => &[true, false],
        IpAddr::V6(_) => &[false],
    };
    listener.anonymous
        && reached_by
            .iter()
            .any(|&is_v4| from_everyone(&listener.relay, is_v4) && from_everyone(&listener.clients, is_v4))
}

/// Top domains of networks that are nobody else's (RFC 6762 appendix G, RFC 8375, RFC 2606, ICANN 2024).
const OWN: &[&str] = &[
    "lan",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "test",
];

/// Whether strangers can have such a name: `*.com`.
fn is_wide(name: &str) -> bool {
    let below = name.strip_prefix("*.");
    below.is_some_and(|below| !below.contains('.') && !OWN.contains(&below))
}

/// Whether strangers are in such a share of all addresses of a kind: more than an eighth of IPv4, and of IPv6 a quarter
/// of what is given out (2000::/3). Nobody has a network as large.
fn is_much(share: f64, is_v4: bool) -> bool {
    share > if is_v4 { 1.0 / 8.0 } else { 1.0 / 32.0 }
}

/// Which share of all addresses of a kind these networks hold.
fn share(networks: &[Network], is_v4: bool) -> f64 {
    let mut sorted: Vec<&Network> = networks
        .iter()
        .filter(|network| network.address.is_ipv4() == is_v4)
        .collect();
    sorted.sort_by_key(|network| network.length);
    let mut apart: Vec<&Network> = Vec::new();
    for network in sorted {
        // Many small ones are no whole; to compare each with each would take long.
        if apart.len() < 1000 && !apart.iter().any(|larger| larger.holds(network.address)) {
            apart.push(network);
        }
    }
    apart
        .iter()
        .map(|network| 0.5_f64.powi(i32::from(network.length)))
        .sum()
}

fn server_config(certificate: &Certificate) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = (&certificate.chain, &certificate.key);
    let shown = (chain.display(), key.display());
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| format!("the certificate {} cannot be read: {error}", shown.0))?;
    if certificates.is_empty() {
        return Err(format!(
            "{} holds no certificate (-----BEGIN CERTIFICATE-----)",
            shown.0
        ));
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the key {} cannot be read: {error}", shown.1))?;
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key))
        .map(Arc::new)
        .map_err(|error| format!("the certificate {} cannot be used: {error}", shown.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_allowed_is_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        for (settings, words) in [
            (
                "",
                "nobody else may relay, nobody may come for mail on hold (ETRN)",
            ),
            (
                "etrn = \"all_except\"",
                "nobody else may relay, anyone who can connect may come for mail on hold (ETRN)",
            ),
            (
                "etrn = \"all_except\"\netrn_list = [\"192.0.2.1\", \"a.test\", \"b.test\"]",
                "nobody else may relay, anyone who can connect except 1 network and 2 host names may come for mail on hold (ETRN)",
            ),
            (
                "clients = \"only\"\nclients_list = [\"a.test\"]\nrelay_list = [\"192.0.2.1\", \"192.0.2.2\"]\netrn_list = [\"a.test\"]",
                "only 1 host name may connect, 2 networks may relay, 1 host name may come for mail on hold (ETRN)",
            ),
            (
                "clients_list = [\"192.0.2.1\"]\nusers_file = \"none\"\nallow_plaintext_auth = true",
                "all but 1 network may connect, nobody can log in yet (`mailroot user add NAME` makes a user), who has logged \
                 in may relay, nobody else may relay, who has logged in may come for mail on hold (ETRN)",
            ),
            (
                "relay = \"all_except\"\nrelay_list = [\"192.0.2.1\"]\nclients = \"only\"\nclients_list = [\"10.0.0.0/8\"]\n\
                 [[remote]]\nname = \"*.b.test\"\nrelay = true",
                "only 1 network may connect, whoever may send mail here may relay, except 1 network, all may relay to *.b.test, \
                 nobody may come for mail on hold (ETRN)",
            ),
        ] {
            let text =
                format!("[[remote]]\nname = \"a.test\"\nhold = true\n[listener]\nenabled = true\n{settings}");
            let config = Config::parse(&text, dir.path(), "mail.test").unwrap();
            let said = judge(&config, &config.listeners[0]).unwrap();
            let (_, said) = said.split_once("; ").unwrap();
            assert_eq!(said, words, "{settings}");
        }
    }

    #[test]
    fn an_open_relay_is_known_by_whom_it_takes_from() {
        let dir = tempfile::tempdir().unwrap();
        for (settings, is_open) in [
            ("", false),
            ("relay = \"all_except\"", true),
            ("relay = \"all_except\"\nrelay_list = [\"0.0.0.0/0\"]", false),
            (
                "address = \"::\"\nrelay = \"all_except\"\nrelay_list = [\"0.0.0.0/0\"]",
                true,
            ),
            (
                "address = \"::\"\nrelay = \"all_except\"\nrelay_list = [\"0.0.0.0/0\", \"::/0\"]",
                false,
            ),
            (
                "relay_list = [\"0.0.0.0/1\", \"128.0.0.0/2\", \"192.0.0.0/3\"]",
                true,
            ),
            ("relay_list = [\"0.0.0.0/1\"]", true),
            ("relay_list = [\"10.0.0.0/8\", \"172.16.0.0/12\"]", false),
            ("address = \"::\"\nrelay_list = [\"2000::/3\"]", true),
            ("address = \"::1\"\nrelay_list = [\"0.0.0.0/0\"]", false),
            (
                "relay = \"all_except\"\nclients = \"only\"\nclients_list = [\"10.0.0.0/8\"]",
                false,
            ),
            (
                "relay = \"all_except\"\nanonymous = false\nusers_file = \"none\"",
                false,
            ),
        ] {
            let address = if settings.contains("address") {
                ""
            } else {
                "address = \"0.0.0.0\"\n"
            };
            let text = format!("[listener]\nenabled = true\n{address}{settings}");
            let config = Config::parse(&text, dir.path(), "mail.test").unwrap();
            assert_eq!(open_relay(&config.listeners[0]).is_some(), is_open, "{settings}");
        }
    }

    #[test]
    fn who_may_come_for_mail_on_hold() {
        for (settings, stranger, neighbour, user) in [
            ("", false, false, true),
            ("etrn_list = [\"192.0.2.0/24\"]", false, true, true),
            (
                "etrn_list = [\"192.0.2.0/24\"]\netrn_authenticated = false",
                false,
                true,
                false,
            ),
            (
                "etrn = \"all_except\"\netrn_list = [\"192.0.2.0/24\"]",
                true,
                false,
                true,
            ),
        ] {
            let text = format!("[listener]\nenabled = true\n{settings}");
            let config = Config::parse(&text, Path::new("/m"), "mail.test").unwrap();
            let rules = Rules::new(&config, &config.listeners[0]).unwrap();
            let may = |from: &str, is_user: bool| {
                let mut client = Client::new(from.parse().unwrap(), "192.0.2.9:25".parse().unwrap());
                client.user = is_user.then(|| "app".to_owned());
                rules.may_fetch(&client)
            };
            assert_eq!(
                [
                    may("203.0.113.1:4000", false),
                    may("192.0.2.1:4000", false),
                    may("203.0.113.1:4000", true)
                ],
                [stranger, neighbour, user].map(Some),
                "{settings}"
            );
        }
    }
}
