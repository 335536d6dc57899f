//! Bytes to and from one client, in clear or under TLS: lines in, replies out in as few writes as the client allows.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One connection.
pub(super) struct Wire {
    input: BufReader<Stream>,
    output: Vec<u8>,
    /// Between the bytes of a reply.
    pub drip: Duration,
    /// Disconnected when the host ends.
    pub stop: Receiver<()>,
}

/// A command line as it came.
pub(super) struct Line {
    /// Without its line end.
    pub text: Vec<u8>,
    /// It ended with LF alone.
    pub bare_lf: bool,
}

/// RFC 5321 §4.5.3.1.4 asks for 512; SASL (RFC 4954 §4) for 12288.
const MAX_LINE: u64 = 16 * 1024;
/// One system call fetches many pipelined messages of 1 KB.
const BUFFER: usize = 64 * 1024;

impl Wire {
    pub fn new(stream: TcpStream, drip: Duration, stop: Receiver<()>) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, Stream::Plain(stream)),
            output: Vec::new(),
            drip,
            stop,
        }
    }

    /// The next line. Replies that wait are written first when the client has sent nothing further.
    pub fn line(&mut self) -> io::Result<Line> {
        self.flush_if_idle()?;
        let mut text = Vec::new();
        (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut text)?;
        if text.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let crlf = text.pop_if(|b| *b == b'\r').is_some();
        Ok(Line { text, bare_lf: !crlf })
    }

    /// What has come and is not taken yet; waits for at least one byte.
    pub fn bytes(&mut self) -> io::Result<&[u8]> {
        self.flush_if_idle()?;
        let bytes = self.input.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Takes so many of [`Wire::bytes`].
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Whether the client has sent more than was read so far.
    pub fn has_more(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    /// Queues bytes of a reply.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn flush_if_idle(&mut self) -> io::Result<()> {
        if self.has_more() { Ok(()) } else { self.flush() }
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        if self.drip.is_zero() {
            self.input.get_mut().write_all(&output)?;
            self.input.get_mut().flush()?;
        } else {
            for byte in &output {
                self.input.get_mut().write_all(std::slice::from_ref(byte))?;
                self.input.get_mut().flush()?;
                self.pause(self.drip)?;
            }
        }
        self.output = output;
        self.output.clear();
        Ok(())
    }

    /// Waits, unless the host ends meanwhile.
    pub fn pause(&self, time: Duration) -> io::Result<()> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Goes on under TLS. What was read in clear beyond the command is thrown away (CVE-2011-0411).
    pub fn start_tls(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Stream::Plain(mut stream) = self.input.into_inner() else {
            return Err(io::Error::other("TLS is in use already"));
        };
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self {
            input: BufReader::with_capacity(BUFFER, Stream::Tls(Box::new(StreamOwned::new(tls, stream)))),
            output: Vec::new(),
            drip: self.drip,
            stop: self.stop,
        })
    }

    /// Ends the connection in good order.
    pub fn close(mut self) {
        let _gone_already = self.flush();
        if let Stream::Tls(tls) = self.input.get_mut() {
            tls.conn.send_close_notify();
            let _gone_already = tls.flush();
        }
        self.hang_up();
    }

    /// Ends the connection without a word, as a host that crashes does.
    pub fn hang_up(self) {
        let _gone_already = match self.input.get_ref() {
            Stream::Plain(stream) => stream.shutdown(Shutdown::Both),
            Stream::Tls(tls) => tls.sock.shutdown(Shutdown::Both),
        };
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn replies_to_a_pipelined_group_leave_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_alive, stop) = crossbeam_channel::bounded(0);
        let mut wire = Wire::new(listener.accept().unwrap().0, Duration::ZERO, stop);
        client.write_all(b"one\r\ntwo\r\nthree\n").unwrap();
        // one read fetches what has come; the rest may need another
        assert_eq!(wire.line().unwrap().text, b"one");
        wire.queue().extend_from_slice(b"1");
        let more = wire.has_more();
        assert_eq!(wire.line().unwrap().text, b"two");
        assert_eq!(
            wire.output.is_empty(),
            !more,
            "kept back only while the client has sent more"
        );
        wire.queue().extend_from_slice(b"2");
        let last = wire.line().unwrap();
        assert!(last.bare_lf && last.text == b"three");
        wire.flush().unwrap();
        let mut got = [0; 2];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"12");
    }
}
