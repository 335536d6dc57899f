//! A running practice host: its threads, and the record of what it saw.
//!
//! One thread accepts, one thread per connection talks (`session`). All end when the [`Host`] is dropped: sockets are
//! shut down, pauses are cut short. Bounded: connections ([`MAX_OPEN`]), kept content ([`MAX_KEPT_BYTES`]), notes.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustls::ServerConfig;

use super::script::{Rule, Script, Step, When};
use super::session;

/// Connections at one time; one more is closed at once.
pub const MAX_OPEN: usize = 4096;
/// Content kept in all; a message beyond it is refused with 452.
pub const MAX_KEPT_BYTES: usize = 512 << 20;
/// Lines of dialogue and violations kept.
const MAX_NOTES: usize = 50_000;
/// Addresses for which a `first N` rule remembers its count.
const MAX_COUNTED: usize = 200_000;
/// How long a drop waits for its threads.
const END_WAIT: Duration = Duration::from_secs(5);

/// An SMTP host on loopback. Ends when dropped.
pub struct Host {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Nothing is ever sent: that it is gone tells the sessions to end.
    stop: Option<Sender<()>>,
    acceptor: Option<JoinHandle<()>>,
}

/// A message that the host answered for.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Which connection brought it, from 1.
    pub connection: u64,
    /// The client's name in EHLO or HELO.
    pub helo: String,
    /// It said EHLO.
    pub esmtp: bool,
    /// TLS was in use.
    pub tls: bool,
    /// Who authenticated.
    pub auth_user: Option<String>,
    /// Between the brackets of MAIL FROM.
    pub sender: String,
    /// What followed them, verbatim.
    pub sender_parameters: String,
    /// Those that were accepted, in order.
    pub recipients: Vec<AcceptedRecipient>,
    /// The message, periods undone, every byte as it came.
    pub content: Vec<u8>,
    /// It came by BDAT.
    pub chunking: bool,
    /// A CR without LF stood in it.
    pub bare_cr: bool,
    /// A LF without CR stood in it.
    pub bare_lf: bool,
}

/// One accepted RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRecipient {
    /// Between the brackets.
    pub address: String,
    /// What followed them, verbatim.
    pub parameters: String,
}

/// What the host has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Of those, open now.
    pub open: u64,
    /// The most that were open at one time.
    pub most_open: u64,
    /// Command lines.
    pub commands: u64,
    /// Messages answered for.
    pub messages: u64,
    /// Accepted recipients of those.
    pub recipients: u64,
    /// Bytes of content of those.
    pub bytes: u64,
}

impl Host {
    /// Listens on 127.0.0.1, port by the system.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), script, None)
    }

    /// As [`Host::start`], able to do TLS.
    pub fn start_tls(script: Script, tls: Arc<ServerConfig>) -> io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), script, Some(tls))
    }

    /// Listens on an address of the caller's choice.
    pub fn start_on(address: SocketAddr, script: Script, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(script, tls));
        let (stop, stopped) = bounded(0);
        let acceptor = std::thread::Builder::new().name("practice".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &stopped)
        })?;
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Host::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Follows another script from the next connection on; counts of `first N` rules begin anew.
    pub fn follow(&self, script: Script) {
        lock(&self.shared.settings).talk = Arc::new(Talk::new(script));
    }

    /// Uses another TLS configuration from the next connection on.
    pub fn use_tls(&self, tls: Option<Arc<ServerConfig>>) {
        lock(&self.shared.settings).tls = tls;
    }

    /// All messages so far, in the order in which they were answered for. Empty when the script discards.
    pub fn accepted(&self) -> Vec<Arc<Accepted>> {
        lock(&self.shared.records).kept.clone()
    }

    /// Waits until `n` messages or more were answered for; all of them, or in words how many came.
    pub fn wait_for(&self, n: u64, within: Duration) -> Result<Vec<Arc<Accepted>>, String> {
        let end = Instant::now() + within;
        let mut records = lock(&self.shared.records);
        loop {
            if self.shared.messages.load(Relaxed) >= n {
                return Ok(records.kept.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let came = self.shared.messages.load(Relaxed);
                return Err(format!("{came} of {n} messages came within {within:?}"));
            }
            records = self
                .shared
                .more
                .wait_timeout(records, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            connections: shared.connections.load(Relaxed),
            open: lock(&shared.open).len() as u64,
            most_open: shared.most_open.load(Relaxed),
            commands: shared.commands.load(Relaxed),
            messages: shared.messages.load(Relaxed),
            recipients: shared.recipients.load(Relaxed),
            bytes: shared.bytes.load(Relaxed),
        }
    }

    /// Command lines as they came, each with the number of its connection. Not when the script discards.
    pub fn dialogue(&self) -> Vec<(u64, String)> {
        lock(&self.shared.records).dialogue.clone()
    }

    /// What clients did against the RFCs, even where it was let pass.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.records).violations.clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.stop = None;
        for stream in lock(&self.shared.open).values() {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
        // accept() waits for a connection; this is one
        let _woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _its_panic_was_printed = acceptor.join();
        }
        let end = Instant::now() + END_WAIT;
        let mut open = lock(&self.shared.open);
        while !open.is_empty() && Instant::now() < end {
            open = self
                .shared
                .closed
                .wait_timeout(open, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &Receiver<()>) {
    while !shared.ended.load(Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            // out of file descriptors: those that are open will close
            let _waited = stop.recv_timeout(Duration::from_millis(10));
            continue;
        };
        let number = shared.connections.load(Relaxed) + 1;
        let Some(open) = shared.enter(number, &stream) else {
            continue;
        };
        shared.connections.store(number, Relaxed);
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        let thread = std::thread::Builder::new().name(format!("practice {number}"));
        let started = thread.spawn(move || {
            session::talk(stream, &open, &stop);
            drop((open, shared));
        });
        drop(started);
    }
}

/// What sessions and owner share.
pub(super) struct Shared {
    settings: Mutex<Settings>,
    records: Mutex<Records>,
    more: Condvar,
    open: Mutex<HashMap<u64, TcpStream>>,
    closed: Condvar,
    ended: AtomicBool,
    connections: AtomicU64,
    most_open: AtomicU64,
    commands: AtomicU64,
    messages: AtomicU64,
    recipients: AtomicU64,
    bytes: AtomicU64,
}

struct Settings {
    talk: Arc<Talk>,
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Default)]
struct Records {
    kept: Vec<Arc<Accepted>>,
    kept_bytes: usize,
    dialogue: Vec<(u64, String)>,
    violations: Vec<String>,
}

impl Shared {
    fn new(script: Script, tls: Option<Arc<ServerConfig>>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            settings: Mutex::new(Settings {
                talk: Arc::new(Talk::new(script)),
                tls,
            }),
            records: Mutex::default(),
            more: Condvar::new(),
            open: Mutex::default(),
            closed: Condvar::new(),
            ended: AtomicBool::new(false),
            connections: zero(),
            most_open: zero(),
            commands: zero(),
            messages: zero(),
            recipients: zero(),
            bytes: zero(),
        }
    }

    /// `None` when there are too many, or the host ends.
    fn enter(self: &Arc<Self>, number: u64, stream: &TcpStream) -> Option<Open> {
        let copy = stream.try_clone().ok()?;
        let mut open = lock(&self.open);
        if open.len() >= MAX_OPEN || self.ended.load(Relaxed) {
            return None;
        }
        open.insert(number, copy);
        let now = open.len() as u64;
        self.most_open.fetch_max(now, Relaxed);
        drop(open);
        let settings = lock(&self.settings);
        Some(Open {
            number,
            others: now - 1,
            talk: Arc::clone(&settings.talk),
            tls: settings.tls.clone(),
            shared: Arc::clone(self),
        })
    }
}

/// One open connection's place in the host; leaving is dropping.
pub(super) struct Open {
    pub number: u64,
    /// Connections that were open when it came.
    pub others: u64,
    pub talk: Arc<Talk>,
    pub tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
}

impl Open {
    pub fn note_command(&self, line: &[u8]) {
        self.shared.commands.fetch_add(1, Relaxed);
        if !self.talk.script.discard {
            let mut records = lock(&self.shared.records);
            if records.dialogue.len() < MAX_NOTES {
                let line = String::from_utf8_lossy(line).into_owned();
                records.dialogue.push((self.number, line));
            }
        }
    }

    pub fn note_violation(&self, what: &str) {
        let mut records = lock(&self.shared.records);
        if records.violations.len() < MAX_NOTES {
            records
                .violations
                .push(format!("connection {}: {what}", self.number));
        }
    }

    /// How many bytes may still be kept.
    pub fn room(&self) -> usize {
        if self.talk.script.discard {
            return 0;
        }
        MAX_KEPT_BYTES.saturating_sub(lock(&self.shared.records).kept_bytes)
    }

    /// The host answers for it from here on.
    pub fn keep(&self, message: Accepted, size: u64) {
        let recipients = message.recipients.len() as u64;
        let mut records = lock(&self.shared.records);
        if !self.talk.script.discard {
            records.kept_bytes = records.kept_bytes.saturating_add(message.content.len());
            records.kept.push(Arc::new(message));
        }
        self.shared.recipients.fetch_add(recipients, Relaxed);
        self.shared.bytes.fetch_add(size, Relaxed);
        self.shared.messages.fetch_add(1, Relaxed);
        drop(records);
        self.shared.more.notify_all();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.number);
        self.shared.closed.notify_all();
    }
}

/// A script that is being followed: it remembers how often its rules have fitted.
pub(super) struct Talk {
    pub script: Script,
    hits: Mutex<HashMap<(usize, Box<str>), u64>>,
}

impl Talk {
    fn new(script: Script) -> Self {
        Self {
            script,
            hits: Mutex::default(),
        }
    }

    /// The rule that decides here. `so_far` is what [`When::Over`] of this step is measured by.
    pub fn rule(&self, step: Step, argument: &str, so_far: u64) -> Option<&Rule> {
        let fits = |(i, rule): &(usize, &Rule)| {
            rule.fits(step, argument)
                && match rule.when {
                    When::Always => true,
                    When::Over(n) => so_far >= n,
                    When::First(n) => self.hit(*i, argument) <= n,
                    When::After(n) => self.hit(*i, argument) > n,
                }
        };
        self.script
            .rules
            .iter()
            .enumerate()
            .find(fits)
            .map(|(_, rule)| rule)
    }

    fn hit(&self, rule: usize, argument: &str) -> u64 {
        let mut hits = lock(&self.hits);
        let key = (rule, argument.to_ascii_lowercase().into_boxed_str());
        if hits.len() >= MAX_COUNTED && !hits.contains_key(&key) {
            return u64::MAX;
        }
        let count = hits.entry(key).or_default();
        *count += 1;
        *count
    }
}

/// A panic of another session leaves nothing half done in these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
