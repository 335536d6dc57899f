//! Bytes to and from one host, in clear or through TLS, with a deadline for each step; replies come out whole.
//!
//! Reads and writes one socket. Runs on the session's thread. Knows no command and keeps no dialogue (`chat` does).

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::ClientConnection;

use super::reply::{Decoder, Reply};
use super::tls::TlsStream;
use crate::stop::Stop;
use crate::timed::Timed;

const READ_BUFFER: usize = 8 * 1024;
/// Each piece of this size gets the whole timeout for its way into the socket: a slow line is no dead line.
const WRITE_PIECE: usize = 128 * 1024;
/// So many slices go in one write; the system takes 1024.
const WRITE_SLICES: usize = 512;

/// Why the conversation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// The host closed the connection, or reset it.
    Closed,
    /// It did not answer, or did not take what we wrote, in this time.
    TimedOut(Duration),
    /// Any other error of the socket or of TLS, in words.
    Error(String),
    /// What it said is no reply; the lines for the dialogue are in `raw`.
    Nonsense { why: String, raw: String },
}

impl Broken {
    fn from_io(error: &io::Error, time: Duration) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut | Kind::WouldBlock => Self::TimedOut(time),
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted | Kind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Error(error.to_string()),
        }
    }

    /// A clause, e.g. `the host closed the connection`.
    pub fn words(&self) -> String {
        match self {
            Self::Closed => "the host closed the connection".to_owned(),
            Self::TimedOut(time) => format!("the host was silent for {} s", time.as_secs_f32()),
            Self::Error(error) => format!("the connection broke ({error})"),
            Self::Nonsense { why, .. } => format!("the host did not speak SMTP ({why})"),
        }
    }
}

enum Stream {
    Plain(Timed),
    Tls(Box<TlsStream>),
    /// Given up; the socket is closed.
    Gone,
}

impl Stream {
    /// The socket with its deadline set to `time` from now.
    fn within(&mut self, time: Duration) -> io::Result<&mut Self> {
        match self {
            Self::Plain(timed) => timed.within(time),
            Self::Tls(stream) => stream.timed.within(time),
            Self::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(self)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
            Self::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(buf),
            Self::Tls(stream) => stream.read(buf),
            Self::Gone => Ok(0),
        }
    }
}

pub(super) struct Wire {
    stream: Stream,
    decoder: Decoder,
    /// Received and not yet parsed: `input[from..to]`.
    input: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Wire {
    pub fn new(tcp: TcpStream) -> Self {
        Self {
            stream: Stream::Plain(Timed::new(tcp)),
            decoder: Decoder::default(),
            input: vec![0; READ_BUFFER].into_boxed_slice(),
            from: 0,
            to: 0,
        }
    }

    /// Shakes hands; the error says in words why that failed, and the connection is gone then.
    pub fn start_tls(&mut self, conn: ClientConnection, time: Duration) -> Result<(), String> {
        let Stream::Plain(mut timed) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err("the connection is encrypted already".to_owned());
        };
        timed.within(time);
        let stream = TlsStream::shake_hands(conn, timed).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Broken::TimedOut(time).words(),
            _ => error.to_string(),
        })?;
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// What ends the wait for a reply before its time.
    pub fn waits_until(&mut self, stop: Option<Stop>) {
        match &mut self.stream {
            Stream::Plain(timed) => timed.reads_until(stop),
            Stream::Tls(stream) => stream.timed.reads_until(stop),
            Stream::Gone => {}
        }
    }

    /// The TLS session, when there is one.
    pub fn tls(&self) -> Option<&ClientConnection> {
        match &self.stream {
            Stream::Tls(stream) => Some(&stream.conn),
            Stream::Plain(_) | Stream::Gone => None,
        }
    }

    /// Closes the connection without a word.
    pub fn hang_up(&mut self) {
        self.stream = Stream::Gone;
    }

    /// Writes all of it.
    pub fn send(&mut self, bytes: &[u8], time: Duration) -> Result<(), Broken> {
        for piece in bytes.chunks(WRITE_PIECE) {
            self.stream
                .within(time)
                .and_then(|stream| stream.write_all(piece))
                .map_err(|error| Broken::from_io(&error, time))?;
        }
        Ok(())
    }

    /// Writes all of all of them, as they lie where that is possible, in as few writes as [`Wire::send`] would.
    pub fn send_all(&mut self, pieces: &[&[u8]], time: Duration) -> Result<(), Broken> {
        let Stream::Plain(timed) = &mut self.stream else {
            return self.send(&pieces.concat(), time);
        };
        let pieces = pieces.iter().flat_map(|piece| piece.chunks(WRITE_PIECE));
        let mut slices: Vec<IoSlice<'_>> = pieces.map(IoSlice::new).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(WRITE_SLICES).take_while(|slice| {
                let goes = bytes < WRITE_PIECE;
                bytes += slice.len();
                goes
            });
            let count = fitting.count();
            let (mut group, others) = std::mem::take(&mut rest).split_at_mut(count);
            timed.within(time);
            while !group.is_empty() {
                match timed.write_vectored(group) {
                    Ok(0) => return Err(Broken::Closed),
                    Ok(sent) => IoSlice::advance_slices(&mut group, sent),
                    Err(error) => return Err(Broken::from_io(&error, time)),
                }
            }
            rest = others;
        }
        Ok(())
    }

    /// The next reply, whole, within `time` from now.
    pub fn reply(&mut self, time: Duration) -> Result<Reply, Broken> {
        self.stream
            .within(time)
            .map_err(|error| Broken::from_io(&error, time))?;
        loop {
            let received = self.input.get(self.from..self.to).unwrap_or(&[]);
            match self.decoder.feed(received) {
                Ok((used, reply)) => {
                    self.from += used;
                    if let Some(reply) = reply {
                        return Ok(reply);
                    }
                }
                Err(junk) => {
                    return Err(Broken::Nonsense {
                        why: junk.why,
                        raw: junk.raw,
                    });
                }
            }
            self.receive(time)?;
        }
    }

    /// Whether something was received that no reply we waited for has used.
    pub fn has_unread(&self) -> bool {
        self.from < self.to
    }

    /// Forgets what [`Wire::has_unread`] speaks of.
    pub fn forget_unread(&mut self) {
        self.from = self.to;
    }

    /// Whether the connection stands and the host says nothing of its own accord.
    pub fn is_quiet(&self) -> bool {
        !self.has_unread()
            && match &self.stream {
                Stream::Plain(timed) => timed.is_quiet(),
                Stream::Tls(stream) => stream.timed.is_quiet(),
                Stream::Gone => false,
            }
    }

    /// Says in TLS that no more will come; errors do not matter any more.
    pub fn close(&mut self, time: Duration) {
        if let Ok(Stream::Tls(stream)) = self.stream.within(time) {
            stream.close();
        }
    }

    fn receive(&mut self, time: Duration) -> Result<(), Broken> {
        let got = self.stream.read(&mut self.input);
        let got = got.map_err(|error| Broken::from_io(&error, time))?;
        (self.from, self.to) = (0, got);
        if got == 0 { Err(Broken::Closed) } else { Ok(()) }
    }
}
