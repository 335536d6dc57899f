//! Scripted mail hosts, and what they got.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use mailroot::practice::{Accepted, Host, Script};

use super::dns::DnsServer;
use super::place::BASE;

/// A sender in a local domain.
pub const APP: &str = "app@local.test";

pub fn script(talk: &str) -> Script {
    talk.parse().unwrap_or_else(|e| panic!("{e}\n{talk}"))
}

pub fn host(talk: &str) -> Host {
    Host::start(script(talk)).unwrap()
}

/// Hosts on 127.0.0.1, 127.0.0.2 …, all on one port, as MX hosts are.
pub fn hosts<const N: usize>(talks: [&str; N]) -> [Host; N] {
    for _ in 0..50 {
        let first = host(talks[0]);
        let port = first.port();
        let mut first = Some(first);
        let others: Vec<Option<Host>> = (0..N)
            .map(|n| match first.take() {
                Some(first) => Some(first),
                None => {
                    let address: SocketAddr = (Ipv4Addr::new(127, 0, 0, n as u8 + 1), port).into();
                    Host::start_on(address, script(talks[n]), None).ok()
                }
            })
            .collect();
        if let Some(all) = others.into_iter().collect::<Option<Vec<Host>>>()
            && let Ok(all) = all.try_into()
        {
            return all;
        }
    }
    panic!("no port is free on all addresses");
}

/// A port on which nobody listens.
pub fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// All mail by MX, at this port; `more` are further keys of `[delivery]`, then further sections.
pub fn by_mx(dns: &DnsServer, port: u16, more: &str) -> String {
    format!(
        "{BASE}[dns]\nservers = [\"{}\"]\n\n[delivery]\nport = {port}\n{more}\n",
        dns.address()
    )
}

pub fn recipients(message: &Accepted) -> Vec<&str> {
    message.recipients.iter().map(|r| r.address.as_str()).collect()
}

pub fn no_violations(hosts: &[&Host]) {
    for host in hosts {
        assert_eq!(host.violations(), Vec::<String>::new());
    }
}

/// Who got what: recipients of all messages of a host, sorted.
pub fn who(host: &Host) -> Vec<String> {
    let mut all: Vec<String> = host
        .accepted()
        .iter()
        .flat_map(|m| recipients(m).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    all
}
