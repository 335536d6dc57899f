//! A scripted host: each connection is a closure that says and hears lines. Everything it does has a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::{Body, Outlet, Peer, Refused, Session, TlsContext, Transaction, connect};
use crate::config::TlsMode;
use crate::mail::{Address, Outcome, Recipient};
use crate::stop::Stop;

pub fn peer_at(address: SocketAddr) -> Peer {
    Peer {
        name: "mx.test".into(),
        address,
        helo_name: "client.test".into(),
        helo_only: false,
        tls: TlsMode::Opportunistic,
        implicit_tls: false,
        auth: None,
        allow_plaintext_auth: false,
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        knock: None,
        own_name: None,
        stop: Stop::default(),
    }
}

pub struct Host {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

pub type Script = Box<dyn FnOnce(&mut Conn) + Send>;

impl Host {
    /// One connection.
    pub fn new(script: impl FnOnce(&mut Conn) + Send + 'static) -> Self {
        Self::each(vec![Box::new(script)])
    }

    /// A connection after the other, each by its script.
    pub fn each(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (tcp, _) = listener.accept().unwrap();
                script(&mut Conn::new(tcp));
            }
        });
        Self { address, thread }
    }

    /// Every script went to its end.
    pub fn done(self) {
        self.thread.join().unwrap();
    }

    pub fn connect(&self) -> Result<Session, Refused> {
        self.connect_with(|_| {})
    }

    pub fn connect_with(&self, change: impl FnOnce(&mut Peer)) -> Result<Session, Refused> {
        let mut peer = peer_at(self.address);
        change(&mut peer);
        connect(&peer, &TlsContext::new(None).unwrap())
    }

    /// The refusal that this host answers an opening with, shortly: verdict, status, text.
    pub fn refusal(&self, change: impl FnOnce(&mut Peer)) -> Refused {
        self.connect_with(change).err().expect("a refusal")
    }
}

pub struct Conn {
    stream: Option<Box<dyn Stream>>,
    tcp: TcpStream,
    input: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Conn {
    fn new(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self {
            stream: Some(Box::new(tcp.try_clone().unwrap())),
            tcp,
            input: Vec::new(),
        }
    }

    /// Lines, with the last line end added.
    pub fn say(&mut self, text: &str) {
        self.raw(format!("{text}\r\n").as_bytes());
    }

    /// Bytes as they are; a client that has hung up is no failure.
    pub fn raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().unwrap();
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    /// The next line, which begins with `start`.
    pub fn hear(&mut self, start: &str) -> String {
        let line = self
            .line()
            .unwrap_or_else(|| panic!("gone where {start} was due"));
        assert!(line.starts_with(start), "{line:?} where {start} was due");
        line
    }

    /// The client closes.
    pub fn gone(&mut self) {
        assert_eq!(self.line(), None);
    }

    /// The next line, if there is one; in whatever bytes there are.
    pub fn next(&mut self) -> Option<String> {
        self.line()
    }

    /// A greeting as it is given, once the client listens, and EHLO.
    pub fn greet_raw(&mut self, greeting: &str, offers: &[&str]) {
        self.raw(greeting.as_bytes());
        self.hello(offers);
    }

    /// The lines up to `.`, which is left out.
    pub fn data(&mut self) -> String {
        let mut text = String::new();
        loop {
            match self.line().expect("gone in the message").as_str() {
                "." => return text,
                line => text.push_str(&format!("{line}\r\n")),
            }
        }
    }

    /// Exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.more(), "gone in a chunk");
        }
        self.input.drain(..count).collect()
    }

    /// Greeting and EHLO.
    pub fn greet(&mut self, offers: &[&str]) {
        self.say("220 mx.test ESMTP");
        self.hello(offers);
    }

    pub fn hello(&mut self, offers: &[&str]) {
        self.hear("EHLO client.test");
        let mut lines = vec!["mx.test"];
        lines.extend(offers);
        let last = lines.len() - 1;
        let text: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("250{}{line}", if i == last { ' ' } else { '-' }))
            .collect();
        self.say(&text.join("\r\n"));
    }

    /// QUIT and its answer.
    pub fn quit(&mut self) {
        self.hear("QUIT");
        self.say("221 bye");
    }

    /// Everything that the client sends before it waits for an answer.
    pub fn all_there_is(&mut self) -> usize {
        let short = Some(Duration::from_millis(200));
        self.tcp.set_read_timeout(short).unwrap();
        let mut block = [0; 64 * 1024];
        while let Ok(n @ 1..) = self.stream.as_mut().unwrap().read(&mut block) {
            self.input.extend_from_slice(&block[..n]);
        }
        self.tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        self.input.len()
    }

    /// Handshake; false when it fails.
    pub fn start_tls(&mut self, config: &Arc<ServerConfig>) -> bool {
        let mut stream = self.stream.take().unwrap();
        let mut conn = ServerConnection::new(Arc::clone(config)).unwrap();
        while conn.is_handshaking() {
            if conn.complete_io(&mut stream).is_err() {
                self.stream = Some(stream);
                return false;
            }
        }
        self.stream = Some(Box::new(StreamOwned::new(conn, stream)));
        true
    }

    /// Closes at once.
    pub fn hang_up(&mut self) {
        let _ = self.tcp.shutdown(std::net::Shutdown::Both);
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let text = String::from_utf8(line).unwrap();
                return Some(text.strip_suffix("\r\n").expect("CRLF").to_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn more(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        match self.stream.as_mut().unwrap().read(&mut block) {
            Ok(0) => false,
            Ok(n) => {
                self.input.extend_from_slice(&block[..n]);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => panic!("the client was silent for 20 s"),
            Err(_) => false,
        }
    }
}

/// A message of fixed bytes.
#[derive(Default)]
pub struct Text {
    pub bytes: Vec<u8>,
    pub eight_bit: bool,
    /// The disk fails after this many bytes.
    pub fails_after: Option<usize>,
}

pub fn text(text: &str) -> Text {
    Text {
        bytes: text.as_bytes().to_vec(),
        ..Text::default()
    }
}

impl Text {
    /// In pieces, so that blocks do not fit writes.
    fn write(&self, bytes: &[u8], out: &mut dyn Outlet) -> io::Result<()> {
        let end = self.fails_after.unwrap_or(bytes.len()).min(bytes.len());
        for piece in bytes[..end].chunks(7001) {
            out.write_all(piece)?;
        }
        match self.fails_after {
            Some(_) => Err(io::Error::other("the disk is broken")),
            None => Ok(()),
        }
    }
}

impl Body for Text {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn needs_eight_bit(&self) -> bool {
        self.eight_bit
    }
    fn write_data(&self, out: &mut dyn Outlet) -> io::Result<()> {
        let mut stuffed = Vec::new();
        for line in self.bytes.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        self.write(&stuffed, out)
    }
    fn write_plain(&self, out: &mut dyn Outlet) -> io::Result<()> {
        self.write(&self.bytes, out)
    }
}

/// Lines of 80 bytes, `size` bytes in all (a multiple of 80).
pub fn long_text(size: usize) -> Text {
    let bytes: String = (0..size / 80).map(|i| format!("{i:078}\r\n")).collect();
    text(&bytes)
}

pub fn address(text: &str) -> Address {
    Address::parse(text, "default.test").unwrap()
}

pub fn recipients(list: &[&str]) -> Vec<Recipient> {
    list.iter().map(|text| Recipient::plain(address(text))).collect()
}

/// One transaction from `from@here.test`, alone.
pub fn send(session: &mut Session, to: &[Recipient], body: &dyn Body) -> super::super::Sent {
    with_transaction(to, |tx| session.send(tx, body))
}

/// What one from `from@here.test` is made of.
pub fn with_transaction<T>(to: &[Recipient], then: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let sender = address("from@here.test");
    let list: Vec<&Recipient> = to.iter().collect();
    let tx = Transaction {
        sender: Some(&sender),
        ret: None,
        envid: None,
        utf8: false,
        recipients: &list,
        before_partial: None,
    };
    then(&tx)
}

/// `Failed 5.1.1 550 5.1.1 no`
pub fn brief(outcome: &Outcome) -> String {
    format!("{:?} {} {}", outcome.verdict, outcome.status, outcome.text)
}

pub fn briefs(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(brief).collect()
}
