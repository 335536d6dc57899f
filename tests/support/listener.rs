//! `mailroot listen` (or `run`) as a child process, and a client that says to it what it likes.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::Authority;
use super::place::{BASE, Place};
use super::process::{self, Running};
use super::wait_until;

/// What must happen soon; machines that test are busy.
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

/// One connection to it.
pub struct Client<S: Read + Write = TcpStream> {
    /// What it says, and the socket.
    pub input: BufReader<S>,
}

/// In clear, through TLS, or either.
pub trait Both: Read + Write {}
impl<S: Read + Write> Both for S {}

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

    /// Says STARTTLS, which must be granted, and goes on under TLS.
    pub fn start_tls(mut self, authority: &Authority) -> Client<StreamOwned<ClientConnection, TcpStream>> {
        self.expect("STARTTLS", 220);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(authority.file()).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Client {
            input: BufReader::new(StreamOwned::new(tls, self.input.into_inner())),
        }
    }

    /// Whatever it speaks through.
    pub fn any(self) -> Client<Box<dyn Both>> {
        Client {
            input: BufReader::new(Box::new(self.input.into_inner())),
        }
    }
}

impl Client<StreamOwned<ClientConnection, TcpStream>> {
    /// Whatever it speaks through.
    pub fn any(self) -> Client<Box<dyn Both>> {
        Client {
            input: BufReader::new(Box::new(self.input.into_inner())),
        }
    }
}

impl<S: Read + Write> Client<S> {
    /// Sends these bytes; that the other side has closed is seen by the reply.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let to = self.input.get_mut();
        let _ = to.write_all(bytes.as_ref()).and_then(|()| to.flush());
    }

    /// A whole reply, its lines joined by `|`; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            match self.input.read_line(&mut line) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("neither a reply nor the end within {SOON:?}")
                }
                Ok(0) | Err(_) => return all,
                Ok(_) => {}
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

    /// A line, and the reply to it.
    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// A line whose reply has this code.
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

/// The one file in Pickup.
pub fn in_pickup(place: &Place) -> String {
    let files = place.files("Pickup", "EML");
    assert_eq!(files.len(), 1, "{files:?}");
    fs::read_to_string(&files[0]).unwrap()
}

/// `mailroot user add`.
pub fn add_user(root: &str, name: &str, password: &str) {
    let mut adding = std::process::Command::new(env!("CARGO_BIN_EXE_mailroot"))
        .args(["user", "add", name, root])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    writeln!(adding.stdin.take().unwrap(), "{password}").unwrap();
    assert!(adding.wait().unwrap().success());
}
