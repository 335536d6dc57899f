//! A TCP stream whose reads and writes end at an absolute deadline.
//!
//! A fixed read timeout is defeated by a host that sends a byte now and then: each call starts it anew. Here the time
//! that is left is counted before every call.
//!
//! Reads and writes one socket. Runs on the session's thread, which it blocks.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::stop::Stop;
use rustix::net::RecvFlags;

/// Who may be asked to wait no longer looks so often whether he is.
const LOOK: Duration = Duration::from_millis(500);
/// So long what is said at the end may take.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// Keeps sums of a point in time and a setting in range.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The socket and its deadline.
#[derive(Debug)]
pub struct Timed {
    tcp: TcpStream,
    deadline: Instant,
    /// The timeouts that the socket has now, so that the usual exchange costs no extra system call.
    read_timeout: Duration,
    write_timeout: Duration,
    /// A read ends when this is set …
    stop: Option<Stop>,
    /// … and a write soon after: what was promised is still said, to those who listen.
    stop_also_ends_writes: bool,
    /// When that is, once the end was noticed.
    last_word: Option<Instant>,
}

impl Timed {
    /// Without a deadline yet: [`Timed::within`] comes first.
    pub fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            deadline: Instant::now(),
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            stop: None,
            stop_also_ends_writes: false,
            last_word: None,
        }
    }

    /// Whatever is read or written from now on must be done within `time`.
    pub fn within(&mut self, time: Duration) {
        self.deadline = Instant::now() + time.min(LONGEST);
    }

    /// Whether a read ends before its time, and by what.
    pub fn reads_until(&mut self, stop: Option<Stop>) {
        self.stop = stop;
    }

    /// Whether a read, and soon after a write, ends before its time, and by what.
    pub fn ends_with(&mut self, stop: Option<Stop>) {
        self.stop = stop;
        self.stop_also_ends_writes = true;
        self.last_word = None;
    }

    /// Whether whoever may be asked to wait no longer has been.
    pub fn is_ending(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::is_set)
    }

    /// The other side sees that no more will come.
    pub fn say_no_more(&self) {
        let _gone_already = self.tcp.shutdown(std::net::Shutdown::Write);
    }

    /// Whether the connection stands and the host has sent nothing since we last read. Does not block.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(
            rustix::net::recv(&self.tcp, &mut byte, flags),
            Err(rustix::io::Errno::AGAIN)
        )
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    /// No longer than until it is looked whether the end has been asked for.
    fn left_before_a_look(&self) -> io::Result<Duration> {
        let left = self.left()?;
        match &self.stop {
            None => Ok(left),
            Some(stop) if stop.is_set() => Err(io::Error::other("mailroot is ending")),
            Some(_) => Ok(left.min(LOOK)),
        }
    }

    /// Until the deadline; once the end has been asked for, until the last word.
    fn left_to_say(&mut self) -> io::Result<Duration> {
        let left = self.left()?;
        if !self.is_ending() {
            return Ok(if self.stop.is_some() { left.min(LOOK) } else { left });
        }
        let now = Instant::now();
        let last_word = *self.last_word.get_or_insert(now + LAST_WORDS);
        match last_word.saturating_duration_since(now) {
            Duration::ZERO => Err(io::Error::other("mailroot is ending")),
            left_to_say => Ok(left.min(left_to_say)),
        }
    }

    fn arm_read(&mut self) -> io::Result<()> {
        let left = self.left_before_a_look()?;
        if !near(self.read_timeout, left) {
            self.tcp.set_read_timeout(Some(left))?;
            self.read_timeout = left;
        }
        Ok(())
    }

    fn arm_write(&mut self) -> io::Result<()> {
        let left = match self.stop_also_ends_writes {
            true => self.left_to_say()?,
            false => self.left()?,
        };
        if !near(self.write_timeout, left) {
            self.tcp.set_write_timeout(Some(left))?;
            self.write_timeout = left;
        }
        Ok(())
    }
}

/// Close enough not to set it again: an early end is looked at again, a late one is late by an eighth at most. So the
/// usual exchange of two different waits never sets it.
fn near(set: Duration, left: Duration) -> bool {
    set >= left / 4 && set <= left + left / 8
}

/// The socket's own timeout, or a signal: the deadline decides whether that was the end.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

impl AsFd for Timed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.arm_read()?;
            match self.tcp.read(buf) {
                Err(error) if is_pause(&error) => {}
                done => return done,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            self.arm_write()?;
            match self.tcp.write_vectored(bufs) {
                Err(error) if is_pause(&error) => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_dripping_host_does_not_stretch_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut host, _) = listener.accept().unwrap();
        let dripping = std::thread::spawn(move || {
            while host.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut timed = Timed::new(tcp);
        let began = Instant::now();
        timed.within(Duration::from_millis(300));
        let mut all = Vec::new();
        let error = timed.read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!all.is_empty());
        assert!(began.elapsed() < Duration::from_secs(2));
        drop(timed);
        dripping.join().unwrap();
    }

    #[test]
    fn a_read_ends_when_it_is_asked_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut timed = Timed::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let stop = Stop::default();
        timed.reads_until(Some(stop.clone()));
        timed.within(Duration::from_secs(60));
        let began = Instant::now();
        let asked = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            stop.set();
        });
        let error = timed.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert!(began.elapsed() < Duration::from_secs(20));
        asked.join().unwrap();
    }

    #[test]
    fn a_full_pipe_ends_a_write_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _host = listener.accept().unwrap();
        let mut timed = Timed::new(tcp);
        timed.within(Duration::from_millis(200));
        let error = timed.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn quiet_is_told_from_spoken_and_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (say, quiet) in [
            (Some(&b""[..]), true),
            (Some(b"421 bye\r\n"), false),
            (None, false),
        ] {
            let timed = Timed::new(TcpStream::connect(address).unwrap());
            let (mut host, _) = listener.accept().unwrap();
            if let Some(words) = say {
                host.write_all(words).unwrap();
            }
            let _host = say.map(|_| host);
            let until = Instant::now() + Duration::from_secs(5);
            while timed.is_quiet() != quiet && Instant::now() < until {
                std::thread::yield_now();
            }
            assert_eq!(timed.is_quiet(), quiet, "{say:?}");
        }
    }
}
