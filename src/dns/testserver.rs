//! DNS servers on loopback for tests: hickory's own one with a zone, and a responder that misbehaves on demand.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA};
use hickory_resolver::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};

/// Written as in a zone file: `("example.net", "MX 10 mx1.example.net")`.
pub(crate) type Line<'a> = (&'a str, &'a str);

/// Stops when it is dropped.
pub(crate) struct ZoneServer {
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl ZoneServer {
    /// An authority for every name there is, over UDP and TCP.
    pub(crate) fn start(lines: &[Line<'_>]) -> Self {
        let mut zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
            Name::root(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
        let soa = SOA::new(name("ns.test"), name("root.test"), 1, 60, 60, 60, 60);
        zone.upsert_mut(Record::from_rdata(Name::root(), 60, RData::SOA(soa)), 1);
        for line in lines {
            assert!(zone.upsert_mut(record(line), 1), "{line:?}");
        }
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&Name::root()), vec![Arc::new(zone)]);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = runtime.block_on(async {
            let (udp, tcp) = both_protocols().await;
            let address = udp.local_addr().unwrap();
            let mut server = Server::new(catalog);
            server.register_socket(udp);
            server.register_listener(tcp, Duration::from_secs(5), 64);
            tokio::spawn(async move { server.block_until_done().await });
            address
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

/// UDP and TCP on the same free port.
async fn both_protocols() -> (tokio::net::UdpSocket, tokio::net::TcpListener) {
    loop {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = tokio::net::UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

/// What the responder does with one question.
pub(crate) enum Act {
    Answer(Vec<Record>),
    Refuse(ResponseCode),
    /// NOERROR with name servers and no SOA.
    Referral,
    Silence,
}

/// Answers over UDP as `script` says, for as long as the process lives.
pub(crate) fn responder(script: impl Fn(&str, RecordType) -> Act + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut asked = query.name().to_ascii();
            asked.pop();
            let mut reply = question.into_response();
            match script(&asked, query.query_type()) {
                Act::Answer(records) => {
                    reply.insert_answers(records);
                }
                Act::Refuse(code) => reply.metadata.response_code = code,
                Act::Referral => {
                    let ns = hickory_resolver::proto::rr::rdata::NS(name("ns.test"));
                    reply.add_authority(Record::from_rdata(query.name().clone(), 60, RData::NS(ns)));
                }
                Act::Silence => continue,
            }
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
        }
    });
    address
}

pub(crate) fn record((owner, text): &Line<'_>) -> Record {
    let words: Vec<_> = text.split_whitespace().collect();
    let data = match words[..] {
        ["MX", preference, host] => RData::MX(MX::new(preference.parse().unwrap(), name(host))),
        ["A", ip] => RData::A(A(ip.parse().unwrap())),
        ["AAAA", ip] => RData::AAAA(AAAA(ip.parse().unwrap())),
        ["PTR", to] => RData::PTR(PTR(name(to))),
        ["CNAME", to] => RData::CNAME(CNAME(name(to))),
        _ => panic!("{text}"),
    };
    Record::from_rdata(name(owner), 60, data)
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}
