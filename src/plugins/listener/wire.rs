//! Bytes to and from one client, in clear or through TLS, with a deadline for each step.
//!
//! Lines end in CRLF and in nothing else. Replies gather while the client has sent more, and leave before we wait for it.
//! Memory: one input buffer and the replies that wait. Runs on the session's thread, which it blocks.

mod pass;

use crate::stop::Stop;
use crate::timed::{LAST_WORDS, Timed};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// One read fetches so much; a command line is far shorter.
const BUFFER: usize = 64 * 1024;
/// So much of a message must come within the time-out: a slow line is no dead line, and a dripping one is.
const PIECE: usize = 64 * 1024;
/// Of replies that wait.
const MOST_UNSAID: usize = 16 * 1024;
/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Why the conversation is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// The client closed the connection, or it broke.
    Closed,
    /// It said nothing, or did not take what we said.
    TimedOut,
    /// We are ending.
    Ending,
    /// It sent a line that others may read as several.
    Ambiguous,
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::Other => Self::Ending,
            _ => Self::Closed,
        }
    }
}

/// A line that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// Longer than allowed; all of it is read.
    TooLong,
    /// It holds a line feed or a carriage return that is not the end of the line.
    Broken,
}

enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ServerConnection, Timed>>),
    /// The handshake failed; the socket is closed.
    Gone,
}

impl Stream {
    /// Sets the deadline of what follows.
    fn within(&mut self, time: Duration) {
        match self {
            Self::Plain(timed) => timed.within(time),
            Self::Tls(tls) => tls.sock.within(time),
            Self::Gone => {}
        }
    }

    fn ends_with(&mut self, stop: Option<Stop>) {
        match self {
            Self::Plain(timed) => timed.ends_with(stop),
            Self::Tls(tls) => tls.sock.ends_with(stop),
            Self::Gone => {}
        }
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(to),
            Self::Tls(tls) => match tls.read(to) {
                // Closed without the alert: nothing is said inside of a command, so nothing is lost.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                done => done,
            },
            Self::Gone => Ok(0),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Self::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// One connection.
pub(super) struct Wire {
    stream: Stream,
    /// Received and not yet taken: `input[from..to]`.
    input: Vec<u8>,
    from: usize,
    to: usize,
    output: Vec<u8>,
    timeout: Duration,
    /// Bytes of messages until the deadline is set anew.
    piece_left: usize,
}

impl Wire {
    pub fn new(timed: Timed, timeout: Duration) -> Self {
        Self {
            stream: Stream::Plain(timed),
            input: vec![0; BUFFER],
            from: 0,
            to: 0,
            output: Vec::new(),
            timeout,
            piece_left: 0,
        }
    }

    /// Whether the client has said something, or closed, though it is not its turn.
    pub fn talks_out_of_turn(&self) -> bool {
        let is_quiet = match &self.stream {
            Stream::Plain(timed) => timed.is_quiet(),
            Stream::Tls(_) | Stream::Gone => true,
        };
        self.holds_unread() || !is_quiet
    }

    /// Whether something has come that nobody has asked for yet.
    pub fn holds_unread(&self) -> bool {
        self.from < self.to
    }

    /// Queues what is to be said.
    pub fn say(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The next line, of at most `most` bytes with its end.
    pub fn line(&mut self, most: usize) -> Result<Line, Gone> {
        if self.output.len() > MOST_UNSAID {
            self.flush()?; // who does not listen is not heard either
        }
        self.stream.within(self.timeout);
        let mut looked = 0;
        let (mut too_long, mut broken) = (false, false);
        loop {
            let unread = self.input.get(self.from..self.to).unwrap_or_default();
            let found = memchr::memchr(b'\n', unread.get(looked..).unwrap_or_default());
            if let Some(at) = found.map(|at| looked + at) {
                let line = unread.get(..at).unwrap_or_default().to_vec();
                self.from += at + 1;
                return Ok(match judged(line) {
                    Line::Whole(_) if broken => Line::Broken,
                    Line::Whole(_) if too_long || at + 1 > most => Line::TooLong,
                    judged => judged,
                });
            }
            looked = unread.len();
            if looked > most {
                // No line of ours: it is read away, up to a CR that may be the first half of its end.
                too_long = true;
                looked = usize::from(unread.ends_with(b"\r"));
                let away = unread.len() - looked;
                broken |= unread.iter().take(away).any(|byte| *byte == b'\r');
                self.from += away;
            }
            self.receive()?;
        }
    }

    /// What has come of a message and is not taken; waits for something new when `held` bytes of it are known already.
    pub fn bytes(&mut self, held: usize) -> Result<&[u8], Gone> {
        if self.piece_left == 0 {
            self.stream.within(self.timeout);
            self.piece_left = PIECE;
        }
        if self.to - self.from <= held {
            let received = self.receive()?;
            self.piece_left = self.piece_left.saturating_sub(received);
        }
        Ok(self.input.get(self.from..self.to).unwrap_or_default())
    }

    /// Takes so many of [`Wire::bytes`].
    pub fn take(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
    }

    /// A message begins: its bytes have a deadline of their own.
    pub fn begin_message(&mut self) {
        self.piece_left = 0;
    }

    fn receive(&mut self) -> Result<usize, Gone> {
        self.flush()?;
        self.input.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let room = self.input.get_mut(self.to..).unwrap_or_default();
        match self.stream.read(room)? {
            0 => Err(Gone::Closed),
            received => {
                self.to += received;
                Ok(received)
            }
        }
    }

    /// Says what waits.
    pub fn flush(&mut self) -> Result<(), Gone> {
        if !self.output.is_empty() {
            let said = self.stream.write_all(&self.output);
            self.output.clear();
            said?;
        }
        Ok(())
    }

    /// Goes on under TLS; the error says why that failed. What came in clear is forgotten (CVE-2011-0411).
    pub fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), String> {
        let Stream::Plain(mut timed) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err("the connection is encrypted already".to_owned());
        };
        (self.from, self.to) = (0, 0);
        timed.within(HANDSHAKE.min(self.timeout));
        let mut tls = ServerConnection::new(config).map_err(|error| error.to_string())?;
        while tls.is_handshaking() {
            tls.complete_io(&mut timed).map_err(|error| error.to_string())?;
        }
        self.stream = Stream::Tls(Box::new(StreamOwned::new(tls, timed)));
        Ok(())
    }

    /// `TLSv1.3 TLS_AES_128_GCM_SHA256`; `None` in clear.
    pub fn tls_facts(&self) -> Option<String> {
        let Stream::Tls(tls) = &self.stream else {
            return None;
        };
        let version = tls.conn.protocol_version();
        let version = version.map_or_else(String::new, |version| format!("{version:?}").replace('_', "."));
        let suite = tls.conn.negotiated_cipher_suite();
        let suite = suite.map_or_else(String::new, |suite| {
            format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
        });
        Some(format!("{version} {suite}"))
    }

    /// Ends the connection in good order.
    pub fn close(mut self) {
        // Its time may be over, and its end asked for; these are the last words.
        self.stream.ends_with(None);
        self.stream.within(LAST_WORDS);
        let _gone_already = self.flush();
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _gone_already = tls.flush();
        }
        // Closed with something unread, the system would take back what was said last.
        let timed = match &mut self.stream {
            Stream::Plain(timed) => timed,
            Stream::Tls(tls) => &mut tls.sock,
            Stream::Gone => return,
        };
        timed.say_no_more();
        while timed.read(&mut self.input).is_ok_and(|received| received > 0) {}
    }
}

/// A line without its LF.
fn judged(mut line: Vec<u8>) -> Line {
    match line.pop() {
        Some(b'\r') if !line.contains(&b'\r') => Line::Whole(line),
        _ => Line::Broken,
    }
}

/// The socket of a client, whose replies are short and wanted at once.
pub(super) fn timed(tcp: TcpStream) -> Timed {
    let _ = tcp.set_nodelay(true);
    Timed::new(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        (client, Wire::new(timed(server), Duration::from_secs(5)))
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let (mut client, mut wire) = pair();
        client.write_all(b"one\r\ntwo\nth\rree\r\n\r\n").unwrap();
        for wanted in [
            Line::Whole(b"one".to_vec()),
            Line::Broken,
            Line::Broken,
            Line::Whole(Vec::new()),
        ] {
            assert_eq!(wire.line(100), Ok(wanted));
        }
        drop(client);
        assert_eq!(wire.line(100), Err(Gone::Closed));
    }

    #[test]
    fn a_line_that_is_too_long_is_read_away() {
        let (mut client, mut wire) = pair();
        let sender = std::thread::spawn(move || {
            client.write_all(&vec![b'x'; 3 * BUFFER]).unwrap();
            client.write_all(b"\r\n1234567\r\n12345678\r\n").unwrap();
            // not a line either, whatever its length: others would see two
            for end in [&b"\n"[..], b"\r\rx\r\n", b"x\ry\r\n"] {
                client.write_all(&vec![b'x'; 3 * BUFFER]).unwrap();
                client.write_all(end).unwrap();
            }
            client.write_all(b"x\rx").unwrap();
            client.write_all(&vec![b'x'; 3 * BUFFER]).unwrap();
            client.write_all(b"\r\n").unwrap();
            client
        });
        assert_eq!(wire.line(9), Ok(Line::TooLong));
        assert_eq!(wire.line(9), Ok(Line::Whole(b"1234567".to_vec())));
        assert_eq!(wire.line(9), Ok(Line::TooLong));
        for _ in 0..4 {
            assert_eq!(wire.line(9), Ok(Line::Broken));
        }
        drop(sender.join().unwrap());
    }

    #[test]
    fn a_client_that_drips_is_given_up() {
        let (mut client, mut wire) = pair();
        wire.timeout = Duration::from_millis(300);
        let dripping = std::thread::spawn(move || {
            while client.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(wire.line(1000), Err(Gone::TimedOut));
        wire.begin_message();
        let gone = loop {
            match wire.bytes(0) {
                Ok(bytes) => {
                    let all = bytes.len();
                    wire.take(all);
                }
                Err(gone) => break gone,
            }
        };
        assert_eq!(gone, Gone::TimedOut);
        drop(wire);
        dripping.join().unwrap();
    }
}
