//! The verbs joined to the parts of the program they need.

use super::check::{Lookup, Outside, SmartHost};
use super::{Exit, Page, Parts, Read, Start, demo, service};
use crate::config::{Config, Host};
use crate::dns::{Dns, DnsFailure};
use crate::engine::job::Source;
use crate::mail::Address;
use crate::pickup;
use crate::route::{Route, Routes};
use crate::smtp::{self, Peer, TlsContext};
use crate::stop::Stop;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The whole program.
pub struct Joined;

impl Parts for Joined {
    fn run(&self, start: Start) -> Exit {
        service::run(start)
    }

    #[cfg(feature = "listener")]
    fn listen(&self, start: Start) -> Exit {
        service::listen(start)
    }

    fn drain(&self, start: Start) -> Exit {
        service::drain(start)
    }

    fn demo(&self, dir: Option<PathBuf>, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit {
        demo::show(dir, out, err)
    }

    fn is_ignored(&self, name: &OsStr, config: &Config) -> bool {
        pickup::ignored(name, &config.pickup.ignore)
    }

    fn read(&self, file: File, config: &Config) -> io::Result<Read> {
        let len = file.metadata()?.len();
        let source = Source::open(&file, len)?;
        let reading = pickup::read::read(&source, &pickup::read::ReadRules::from_config(config))?;
        Ok(Read {
            completeness: reading.completeness,
            submission: reading.when_final(),
        })
    }

    fn router(&self, config: &Config) -> Box<dyn Fn(&Address) -> String> {
        let routes = Routes::new(config);
        Box::new(move |address| match routes.of(address) {
            Route::Local => "Drop (a local domain)".to_owned(),
            Route::Remote(to) => format!("{} ({})", to.key, to.rule),
            Route::Impossible(outcome) => format!("nowhere: {} {}", outcome.status, outcome.text),
        })
    }

    fn outside(&self, config: &Config) -> Box<dyn Outside> {
        Box::new(Network {
            dns: Dns::new(&config.dns.servers),
            tls: TlsContext::new(config.delivery.tls_ca_file.as_deref()),
            config: config.clone(),
        })
    }
}

struct Network {
    dns: Dns,
    tls: Result<TlsContext, String>,
    config: Config,
}

impl Outside for Network {
    fn mx(&self, domain: &str) -> Lookup<Vec<(u16, String)>> {
        lookup(self.dns.mx(domain))
    }

    fn addresses(&self, name: &str) -> Lookup<Vec<IpAddr>> {
        lookup(self.dns.addresses(name))
    }

    fn hello(&self, host: &SmartHost) -> Result<String, String> {
        let tls = self.tls.as_ref().map_err(Clone::clone)?;
        let (name, addresses) = match &host.host {
            Host::Ip(ip) => (ip.to_string(), vec![*ip]),
            Host::Name(name) => (
                name.clone(),
                self.dns.addresses(name).map_err(|error| error.to_string())?,
            ),
        };
        let mut trouble = "it has no address".to_owned();
        for ip in addresses {
            let delivery = &self.config.delivery;
            let peer = Peer {
                name: name.clone(),
                address: SocketAddr::new(ip, host.port),
                helo_name: self.config.server.hostname.clone(),
                helo_only: host.helo,
                tls: host.tls,
                implicit_tls: host.implicit_tls,
                auth: host.auth.clone(),
                allow_plaintext_auth: delivery.allow_plaintext_auth,
                connect_timeout: delivery.connect_timeout,
                timeout: delivery.timeout,
                knock: None,
                own_name: None,
                stop: Stop::default(),
            };
            match smtp::connect(&peer, tls) {
                Ok(session) => {
                    let words = format!(
                        "{} answers, {}",
                        peer.shown(),
                        session.tls_facts().unwrap_or("not encrypted")
                    );
                    session.quit();
                    return Ok(words);
                }
                Err(refused) => trouble = format!("{}: {}", peer.shown(), refused.outcome.text),
            }
        }
        Err(trouble)
    }
}

fn lookup<T>(answer: Result<T, DnsFailure>) -> Lookup<T> {
    match answer {
        Ok(found) => Lookup::Found(found),
        Err(DnsFailure::NoSuchDomain | DnsFailure::NoRecords) => Lookup::Nothing,
        Err(DnsFailure::Temporary(why)) => Lookup::Failed(why),
    }
}
