//! A client of the listener, and the program with one.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::place::{BASE, Place};
use super::process::{self, Running};
use super::wait_until;

pub const SOON: Duration = Duration::from_secs(20);

/// `mailroot VERB` on a place with such a listener, and where it listens.
pub fn start(place: &Place, verb: &str, settings: &str) -> (Running, SocketAddr) {
    start_on(place, verb, BASE, settings)
}

/// The same with other settings above.
pub fn start_on(place: &Place, verb: &str, base: &str, settings: &str) -> (Running, SocketAddr) {
    place.settings(&format!(
        "{base}[listener]\nenabled = true\naddress = \"127.0.0.1\"\nport = 0\n{settings}\n"
    ));
    let root = place.root().display().to_string();
    let running = process::start(&place.beside().join("notes"), &[verb, &root]);
    let mut address = None;
    wait_until("it listens", SOON, || {
        let log = running.stderr();
        let words = log.split_whitespace();
        address = words
            .filter_map(|word| word.strip_prefix("address=")?.parse().ok())
            .next();
        address.is_some()
    });
    (running, address.unwrap())
}

/// A place with a listener and nothing else.
pub fn listening(settings: &str) -> (Place, Running, SocketAddr) {
    let place = Place::new(BASE);
    let (running, address) = start(&place, "listen", settings);
    (place, running, address)
}

/// One connection.
pub struct Client {
    pub input: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> (Self, String) {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// The same from another address of this machine.
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> (Self, String) {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((source, 0))).unwrap();
        connect(&socket, &address).unwrap();
        Self::over(TcpStream::from(socket))
    }

    fn over(tcp: TcpStream) -> (Self, String) {
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let mut client = Self {
            input: BufReader::new(tcp),
        };
        let greeting = client.reply();
        (client, greeting)
    }

    /// After EHLO.
    pub fn greeted(address: SocketAddr) -> Self {
        let (mut client, greeting) = Self::connect(address);
        assert!(greeting.starts_with("220 mail.example.test ESMTP"), "{greeting}");
        assert!(client.say("EHLO client.test").starts_with("250"));
        client
    }

    /// After MAIL and RCPT.
    pub fn sending(address: SocketAddr) -> Self {
        let mut client = Self::greeted(address);
        client.expect("MAIL FROM:<app@client.test>", 250);
        client.expect("RCPT TO:<bob@local.test>", 250);
        client
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.input.get_mut().write_all(bytes.as_ref());
    }

    /// A whole reply, its lines joined by `|`; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line).unwrap_or(0) == 0 {
                return all;
            }
            let line = line
                .strip_suffix("\r\n")
                .unwrap_or_else(|| panic!("{line:?} is no line"));
            all.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return all;
            }
            all.push('|');
        }
    }

    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str, code: u16) -> String {
        let reply = self.say(line);
        assert!(
            reply.starts_with(&code.to_string()),
            "{line:?} was answered {reply:?}, not {code}"
        );
        reply
    }

    /// DATA and this content as it is; the reply to it.
    pub fn data(&mut self, content: &str) -> String {
        self.expect("DATA", 354);
        self.send(format!("{content}.\r\n"));
        self.reply()
    }
}
