//! Bytes from one connection to another and back, for a client that has become the server (ATRN).
//!
//! Nothing is read into them. Each step has the listener's time-out. Runs on the session's thread, which it blocks.

use super::{Gone, Stream, Wire, timed};
use crate::timed::Timed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// It is looked so often whether the end has come.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Of what has come.
enum Come {
    Bytes(usize),
    /// Nothing for us: a part of a TLS record, or one that is about TLS.
    Nothing,
    End,
}

impl Wire {
    /// Until one of the two closes; returns who, in words.
    pub fn pass(&mut self, other: TcpStream) -> Result<&'static str, Gone> {
        let mut other = timed(other);
        let mut buffer = vec![0; super::BUFFER];
        // What came behind the command is its first words.
        let ahead = self.input.get(self.from..self.to).unwrap_or_default();
        other.within(self.timeout);
        other.write_all(ahead)?;
        self.from = self.to;
        let mut has_more = true;
        let mut quiet_since = Instant::now();
        loop {
            let (here, there) = match has_more {
                true => (true, false),
                false => wait(self.stream.socket()?, &other)?,
            };
            if self.stream.is_ending() {
                return Err(Gone::Ending);
            }
            if !here && !there {
                if quiet_since.elapsed() > self.timeout {
                    return Err(Gone::TimedOut);
                }
                continue;
            }
            quiet_since = Instant::now();
            if here {
                self.stream.within(self.timeout);
                // What TLS has understood already is no news of the socket.
                match self.stream.come(&mut buffer, has_more)? {
                    Come::End => return Ok("the client closed the connection"),
                    Come::Nothing => has_more = false,
                    Come::Bytes(count) => {
                        other.within(self.timeout);
                        other.write_all(buffer.get(..count).unwrap_or_default())?;
                        has_more = matches!(self.stream, Stream::Tls(_));
                    }
                }
            }
            if there {
                other.within(self.timeout);
                match other.read(&mut buffer)? {
                    0 => return Ok("all is said"),
                    count => {
                        self.stream.within(self.timeout);
                        self.stream.write_all(buffer.get(..count).unwrap_or_default())?;
                    }
                }
            }
        }
    }
}

/// Which of the two has something, if any.
fn wait(here: BorrowedFd<'_>, there: &Timed) -> Result<(bool, bool), Gone> {
    let there = there.as_fd();
    let mut both = [
        PollFd::from_borrowed_fd(here, PollFlags::IN),
        PollFd::from_borrowed_fd(there, PollFlags::IN),
    ];
    match poll(&mut both, Some(&LOOK)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let [here, there] = both.map(|one| !one.revents().is_empty());
    Ok((here, there))
}

impl Stream {
    fn socket(&self) -> Result<BorrowedFd<'_>, Gone> {
        match self {
            Self::Plain(timed) => Ok(timed.as_fd()),
            Self::Tls(tls) => Ok(tls.sock.as_fd()),
            Self::Gone => Err(Gone::Closed),
        }
    }

    fn is_ending(&self) -> bool {
        match self {
            Self::Plain(timed) => timed.is_ending(),
            Self::Tls(tls) => tls.sock.is_ending(),
            Self::Gone => true,
        }
    }

    /// What has come: of a socket that has something, or of what is `understood` without it. Never waits for more.
    fn come(&mut self, to: &mut [u8], understood: bool) -> io::Result<Come> {
        match self {
            Self::Plain(_) if understood => Ok(Come::Nothing),
            Self::Plain(timed) => Ok(match timed.read(to)? {
                0 => Come::End,
                count => Come::Bytes(count),
            }),
            Self::Tls(tls) => {
                if !understood {
                    if tls.conn.read_tls(&mut tls.sock)? == 0 {
                        return Ok(Come::End);
                    }
                    tls.conn.process_new_packets().map_err(io::Error::other)?;
                }
                match tls.conn.reader().read(to) {
                    Ok(0) => Ok(Come::End),
                    Ok(count) => Ok(Come::Bytes(count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Come::Nothing),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Come::End),
                    Err(error) => Err(error),
                }
            }
            Self::Gone => Ok(Come::End),
        }
    }
}
