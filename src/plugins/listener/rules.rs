//! What one listener allows: who may connect, what may be sent where, and how much. Made from the settings, shared by
//! its sessions.
//!
//! Reads: certificate and key, when it is made. Thread: any.

use super::users::Door;
use crate::config::{Certificate, Config, Listener, ListenerTls, hosts};
use crate::mail::Address;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// What is put on top of a message counts as the message's for whoever takes it out of Pickup.
const OUR_SHARE: u64 = 1024;

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
    pub users: Option<Door>,
    local: HashSet<String>,
    relayed: HashSet<String>,
    /// Every name below these.
    relayed_below: HashSet<String>,
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
        let domains = &config.domains;
        let local = std::iter::once(&domains.default).chain(&domains.aliases).cloned();
        let mut rules = Self {
            hostname: config.server.hostname.clone(),
            default_domain: domains.default.clone(),
            max_size: match config.messages.max_size {
                0 => 0,
                size => size.saturating_sub(OUR_SHARE).max(1),
            },
            max_hops: config.messages.max_hops,
            tls: None,
            users: listener.users_file.as_deref().map(Door::new),
            local: local.collect(),
            relayed: HashSet::new(),
            relayed_below: HashSet::new(),
            listener: listener.clone(),
        };
        if let Some(certificate) = listener
            .certificate
            .as_ref()
            .filter(|_| listener.tls != ListenerTls::Off)
        {
            rules.tls = Some(server_config(certificate)?);
        }
        for remote in config.remote.iter().filter(|remote| remote.relay) {
            match remote.name.strip_prefix("*.") {
                Some(below) => rules.relayed_below.insert(below.to_owned()),
                None => rules.relayed.insert(remote.name.clone()),
            };
        }
        Ok(rules)
    }

    /// Whether this client may send to that recipient: local domains take from everyone, others from those who may
    /// relay.
    pub fn takes(&self, recipient: &Address, client: IpAddr, authenticated: bool) -> bool {
        let domain = recipient.domain();
        let domain = hosts::domain(domain.strip_suffix('.').unwrap_or(domain)).unwrap_or_default();
        let mut above = domain.split_once('.').map(|(_, above)| above);
        let is_below = std::iter::from_fn(|| {
            let name = above?;
            above = name.split_once('.').map(|(_, above)| above);
            Some(name)
        })
        .any(|name| self.relayed_below.contains(name));
        self.local.contains(&domain)
            || self.relayed.contains(&domain)
            || is_below
            || (authenticated && self.listener.relay_authenticated)
            || self.listener.relay.include(client)
    }
}

/// What an entry of the settings comes to, in words; or why it cannot be opened.
pub fn judge(config: &Config, listener: &Listener) -> Result<String, String> {
    let rules = Rules::new(config, listener)?;
    let mut who = Vec::new();
    if let Some(door) = &rules.users {
        let users = door.count().map_err(|error| error.to_string())?;
        who.push(format!("{users} users can log in"));
        if rules.tls.is_none() && !listener.allow_plaintext_auth {
            return Err(format!(
                "the listener on port {} has users and no certificate, so nobody can log in: name a certificate, or set \
                 allow_plaintext_auth = true if you must",
                listener.port
            ));
        }
        if listener.relay_authenticated {
            who.push("who has logged in may relay".to_owned());
        }
    }
    who.push(match (listener.relay.only, listener.relay.list.len()) {
        (true, 0) => "nobody else may relay".to_owned(),
        (true, some) => format!("{some} networks may relay"),
        (false, _) => "strangers may relay, as the settings say".to_owned(),
    });
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

/// Whether strangers may relay here, in words. `None`: they may not, or it is meant.
fn open_relay(listener: &Listener) -> Option<&'static str> {
    let from_everyone = |clients: &crate::config::Clients| match clients.only {
        true => clients.list.iter().any(|network| network.length == 0),
        false => true,
    };
    let is_open = listener.anonymous && from_everyone(&listener.relay) && from_everyone(&listener.clients);
    (is_open && !listener.open_relay).then_some(
        "anyone who can reach it may send mail to anywhere through it: an open relay, which others will soon find and \
         block; set relay = \"only\" and name your clients in relay_list, or open_relay = true if no stranger reaches it",
    )
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
