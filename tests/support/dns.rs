//! A real DNS server on loopback, UDP and TCP, with the records that a test gives it.
//!
//! ```text
//! example.net       MX     10 mx1.example.net
//! null.example      MX     0 .
//! mx1.example.net   A      127.0.0.1
//! alias.example     CNAME  example.net
//! nothing.example   NODATA
//! broken.example    SERVFAIL
//! slow.example      TIMEOUT
//! ```
//! Every other name does not exist (NXDOMAIN).

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{CNAME, MX};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

/// Runs until dropped.
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    zone: Zone,
    all_fail: bool,
    all_silent: bool,
    questions: Vec<String>,
}

/// Records by name (lower case, without the final dot).
#[derive(Default, Clone)]
pub struct Zone {
    records: HashMap<String, Vec<RData>>,
    fails: HashSet<String>,
    silent: HashSet<String>,
}

impl DnsServer {
    /// Serves these records on 127.0.0.1, the same port for UDP and TCP.
    pub fn start(zone: &str) -> Self {
        let (udp, tcp) = bind_both();
        let address = udp.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            zone: zone.parse().unwrap(),
            ..State::default()
        }));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let handler = Handler(Arc::clone(&state));
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let mut server = Server::new(handler);
                server.register_socket(tokio::net::UdpSocket::from_std(udp).unwrap());
                let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
                server.register_listener(tcp, Duration::from_secs(5), 32);
                let _ = stopped.await;
                let _ = server.shutdown_gracefully().await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("test dns".into())
            .spawn(serve)
            .unwrap();
        Self {
            address,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves other records from now on.
    pub fn set(&self, zone: &str) {
        self.state.lock().unwrap().zone = zone.parse().unwrap();
    }

    /// Answers SERVFAIL to everything.
    pub fn fail(&self, on: bool) {
        self.state.lock().unwrap().all_fail = on;
    }

    /// Answers nothing at all.
    pub fn silence(&self, on: bool) {
        self.state.lock().unwrap().all_silent = on;
    }

    /// What was asked so far, e.g. `MX example.net`.
    pub fn questions(&self) -> Vec<String> {
        self.state.lock().unwrap().questions.clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port that is free for UDP may be taken for TCP: then another is tried.
fn bind_both() -> (std::net::UdpSocket, std::net::TcpListener) {
    for _ in 0..100 {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = std::net::TcpListener::bind(udp.local_addr().unwrap()) {
            udp.set_nonblocking(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut zone = Self::default();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let wrong = || format!("zone: {line:?} is not understood");
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = key(words[0]);
            match words[1..] {
                ["SERVFAIL"] => drop(zone.fails.insert(name)),
                ["TIMEOUT"] => drop(zone.silent.insert(name)),
                ["NODATA"] => drop(zone.records.entry(name).or_default()),
                ["MX", preference, host] => {
                    let preference = preference.parse().map_err(|_| wrong())?;
                    let host = Name::from_ascii(absolute(host)).map_err(|_| wrong())?;
                    let mx = RData::MX(MX::new(preference, host));
                    zone.records.entry(name).or_default().push(mx);
                }
                ["CNAME", target] => {
                    let target = Name::from_ascii(absolute(target)).map_err(|_| wrong())?;
                    let cname = RData::CNAME(CNAME(target));
                    zone.records.entry(name).or_default().push(cname);
                }
                ["A" | "AAAA", address] => {
                    let address = match address.parse().map_err(|_| wrong())? {
                        IpAddr::V4(ip) => RData::A(ip.into()),
                        IpAddr::V6(ip) => RData::AAAA(ip.into()),
                    };
                    zone.records.entry(name).or_default().push(address);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(zone)
    }
}

fn absolute(name: &str) -> String {
    if name.ends_with('.') {
        name.to_owned()
    } else {
        format!("{name}.")
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

struct Handler(Arc<Mutex<State>>);

enum Answer {
    Records(Vec<Record>),
    Code(ResponseCode),
    Nothing,
}

impl Handler {
    fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let mut state = self.0.lock().unwrap();
        state.questions.push(format!("{kind} {}", key(&name.to_ascii())));
        let (mut asked, zone) = (key(&name.to_ascii()), &state.zone);
        if state.all_silent || zone.silent.contains(&asked) {
            return Answer::Nothing;
        }
        if state.all_fail || zone.fails.contains(&asked) {
            return Answer::Code(ResponseCode::ServFail);
        }
        let mut answers = Vec::new();
        // as a recursive server does, an alias is followed
        for _ in 0..8 {
            let Some(records) = zone.records.get(&asked) else {
                return Answer::Code(ResponseCode::NXDomain);
            };
            let owner = Name::from_ascii(absolute(&asked)).unwrap();
            let fitting = records.iter().filter(|r| r.record_type() == kind);
            answers.extend(fitting.map(|r| Record::from_rdata(owner.clone(), 60, r.clone())));
            let alias = records.iter().find_map(|r| match r {
                RData::CNAME(target) if kind != RecordType::CNAME => Some((r, key(&target.0.to_string()))),
                _ => None,
            });
            let Some((record, target)) = alias else { break };
            answers.push(Record::from_rdata(owner, 60, record.clone()));
            asked = target;
        }
        Answer::Records(answers)
    }
}

impl RequestHandler for Handler {
    // what `#[async_trait]` writes, by hand
    fn handle_request<'s, 'r, 'f, R, T>(
        &'s self,
        request: &'r Request,
        mut respond: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'f>>
    where
        R: ResponseHandler + 'f,
        T: Time + 'f,
        's: 'f,
        'r: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.recursion_available = true;
            let header = Header {
                metadata,
                counts: HeaderCounts::default(),
            };
            let Ok(info) = request.request_info() else {
                return ResponseInfo::from(header);
            };
            let name = Name::from(info.query.name());
            let builder = MessageResponseBuilder::from_message_request(request);
            let sent = match self.answer(&name, info.query.query_type()) {
                Answer::Nothing => return ResponseInfo::from(header),
                Answer::Code(code) => {
                    metadata.response_code = code;
                    respond.send_response(builder.build_no_records(metadata)).await
                }
                Answer::Records(records) => {
                    let response = builder.build(metadata, records.iter(), [], [], []);
                    respond.send_response(response).await
                }
            };
            sent.unwrap_or_else(|_| ResponseInfo::from(header))
        })
    }
}
