//! W3C extended log files as IIS wrote them for SMTP (`log.w3c`): each command of a client, and each command and reply of
//! the connections that we open, for programs that read such logs.
//!
//! ```text
//! session (either way) ──a line──▶ held in memory, at most 4 MiB ──each second, one write──▶ Logs/exYYMMDD.log
//! ```
//!
//! Off, it costs one look at a flag per connection. A session only hands its lines over: nobody waits for the disk, and
//! what cannot be written, or would fill the disk, is dropped, counted and told once. Secrets: of AUTH the mechanism stands here and nothing else.
//! Writes: Logs. Thread: `w3c-log` writes, any thread hands over. Not here: the event log (`log`).

mod file;
mod line;
#[cfg(test)]
mod tests;

use crate::config::{Log as Settings, W3cField};
use file::Day;
use jiff::Timestamp;
use line::Line;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// So many bytes are held while the disk takes none; lines that come then are dropped.
const MOST_HELD: usize = 4 * 1024 * 1024;
/// So many are written at once, without waiting for more.
const ENOUGH: usize = 64 * 1024;
/// Lines wait for others so long.
const GATHER: Duration = Duration::from_secs(1);
/// At the end of the process the disk has so much time.
const LAST: Duration = Duration::from_secs(2);

static ON: AtomicBool = AtomicBool::new(false);
static LOG: OnceLock<Log> = OnceLock::new();

/// Puts settings in force, at the start and when they are read again: for connections that begin from now on.
pub fn apply(settings: &Settings, folder: &Path) {
    let form = settings.w3c.as_ref().map(|fields| Form {
        shared: file::may_be_shared(folder),
        folder: folder.to_owned(),
        fields: fields.clone(),
        computer: computer(),
    });
    let is_on = form.is_some();
    if is_on || ON.load(Ordering::Relaxed) {
        LOG.get_or_init(Log::default).apply(form);
    }
    ON.store(is_on, Ordering::Relaxed);
}

/// The end of the process: what is held is written, if the disk takes it within two seconds.
pub fn finish() {
    ON.store(false, Ordering::Relaxed);
    if let Some(log) = LOG.get() {
        log.finish();
    }
}

/// The log of a connection of a client to us; `None`: it is off.
pub fn inbound(client: SocketAddr, server: SocketAddr) -> Option<Inbound> {
    let (log, form) = current()?;
    Some(Inbound {
        log,
        form,
        client,
        server,
    })
}

/// The log of a connection that we open; `None`: it is off.
pub fn outbound(host: SocketAddr) -> Option<Outbound> {
    let (log, form) = current()?;
    Some(Outbound {
        log,
        form,
        host,
        since: Instant::now(),
    })
}

fn current() -> Option<(&'static Log, Arc<Form>)> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let log = LOG.get()?;
    let form = log.lock().form.clone()?;
    Some((log, form))
}

/// The first label of this machine's name.
fn computer() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let name = name.split('.').next().unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars().filter(fits).collect()
}

/// A client's connection.
#[derive(Debug)]
pub struct Inbound {
    log: &'static Log,
    form: Arc<Form>,
    client: SocketAddr,
    server: SocketAddr,
}

/// A command of a client and what it came to.
#[derive(Debug, Default)]
pub struct Exchange<'a> {
    /// As the client calls itself.
    pub helo: &'a str,
    /// The command's first word.
    pub method: &'a str,
    /// The rest of it; for a message its ID.
    pub query: &'a str,
    /// The reply's code.
    pub status: u16,
    /// 0; at the end of a session its milliseconds, as in IIS.
    pub win32: u64,
    /// Bytes of the reply.
    pub sent: u64,
    /// Bytes of the command, or of the message.
    pub received: u64,
    /// From the command to the reply.
    pub taken: Duration,
}

impl Inbound {
    /// One line.
    pub fn line(&self, exchange: &Exchange<'_>) {
        let line = Line {
            at: Timestamp::now(),
            client: self.client.ip(),
            user: exchange.helo,
            server: Some(self.server.ip()),
            port: self.server.port(),
            method: exchange.method,
            query: exchange.query,
            status: exchange.status,
            win32: exchange.win32,
            sent: exchange.sent,
            received: exchange.received,
            taken: exchange.taken,
        };
        self.log.push(&self.form, &line);
    }
}

/// A connection of ours.
#[derive(Debug, Clone)]
pub struct Outbound {
    log: &'static Log,
    form: Arc<Form>,
    host: SocketAddr,
    /// It was opened, or we spoke last.
    since: Instant,
}

impl Outbound {
    /// A command. What is none (the end of a message, an answer of AUTH) is left out, and of AUTH all but the mechanism.
    pub fn command(&mut self, text: &str) {
        self.since = Instant::now();
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        if verb.is_empty() || !verb.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return;
        }
        let rest = match verb {
            "AUTH" => rest.split(' ').next().unwrap_or_default(),
            _ => rest,
        };
        let length = text.len() + 2;
        self.line("OutboundConnectionCommand", verb, rest, length, Duration::ZERO);
    }

    /// A reply: its first line, as in IIS. Of a question of AUTH the code only.
    pub fn reply(&mut self, first_line: &str) {
        let shown = match first_line.get(..3) {
            Some("334") => "334",
            _ => first_line,
        };
        let (length, taken) = (first_line.len() + 2, self.since.elapsed());
        self.line("OutboundConnectionResponse", "", shown, length, taken);
    }

    fn line(&self, side: &str, method: &str, query: &str, length: usize, taken: Duration) {
        let line = Line {
            at: Timestamp::now(),
            client: self.host.ip(),
            user: side,
            server: None,
            port: self.host.port(),
            method,
            query,
            status: 0,
            win32: 0,
            sent: length as u64,
            received: 0,
            taken,
        };
        self.log.push(&self.form, &line);
    }
}

/// What the lines look like, and where they go.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    folder: PathBuf,
    /// Other machines write there too.
    shared: bool,
    fields: Vec<W3cField>,
    computer: String,
}

/// Lines of one file.
#[derive(Debug)]
struct Batch {
    /// Of the first of them.
    day: Timestamp,
    form: Arc<Form>,
    lines: String,
    count: u64,
}

/// What is to be written now.
#[derive(Debug)]
struct Taken {
    batches: VecDeque<Batch>,
    /// Lines that found no room since the last time.
    lost: u64,
    look_again: bool,
}

/// What is held, and who writes it.
#[derive(Debug, Default)]
struct Log {
    held: Mutex<Held>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    form: Option<Arc<Form>>,
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Lines that found no room.
    lost: u64,
    /// The settings were read again: whether the file is still there is looked at before the next line.
    look_again: bool,
    /// A thread writes.
    runs: bool,
    ending: bool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&'static self, form: Option<Form>) {
        let mut held = self.lock();
        held.form = form.map(Arc::new);
        held.look_again = true;
        if held.form.is_some() && !held.runs {
            held.runs = true;
            let thread = std::thread::Builder::new().name("w3c-log".to_owned());
            if let Err(error) = thread.spawn(|| self.keep()) {
                warn!(%error, "cannot start a thread: no W3C log is written");
                held.form = None;
                held.runs = false;
            }
        }
    }

    fn push(&self, form: &Arc<Form>, line: &Line<'_>) {
        let text = line::write(line, &form.fields, &form.computer);
        let mut held = self.lock();
        if held.ending || held.bytes + text.len() > MOST_HELD {
            held.lost += 1;
            return;
        }
        let (was, now) = (held.bytes, held.bytes + text.len());
        held.bytes = now;
        let fits = |batch: &&mut Batch| {
            Arc::ptr_eq(&batch.form, form) && day_number(batch.day) == day_number(line.at)
        };
        match held.batches.back_mut().filter(fits) {
            Some(batch) => {
                batch.lines.push_str(&text);
                batch.count += 1;
            }
            None => held.batches.push_back(Batch {
                day: line.at,
                form: Arc::clone(form),
                lines: text,
                count: 1,
            }),
        }
        if was == 0 || (was < ENOUGH && now >= ENOUGH) {
            self.wake.notify_all();
        }
    }

    /// Writes what comes, until the end.
    fn keep(&self) {
        let mut writer = Writer::default();
        while let Some(taken) = self.next() {
            writer.write(&taken);
        }
        self.lock().runs = false;
        self.wake.notify_all();
    }

    /// What has come, once it has waited for more. `None`: the end.
    fn next(&self) -> Option<Taken> {
        let mut held = self.lock();
        while held.batches.is_empty() {
            if held.ending {
                return None;
            }
            held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = |held: &mut Held| held.bytes < ENOUGH && !held.ending;
        let waited = self.wake.wait_timeout_while(held, GATHER, waits);
        held = waited.unwrap_or_else(PoisonError::into_inner).0;
        held.bytes = 0;
        Some(Taken {
            batches: std::mem::take(&mut held.batches),
            lost: std::mem::take(&mut held.lost),
            look_again: std::mem::take(&mut held.look_again),
        })
    }

    fn finish(&self) {
        let mut held = self.lock();
        held.ending = true;
        self.wake.notify_all();
        let waited = self.wake.wait_timeout_while(held, LAST, |held| held.runs);
        drop(waited);
    }
}

/// Days since the epoch, in UTC.
fn day_number(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

/// The file, and what of its lines is missing.
#[derive(Default)]
struct Writer {
    day: Day,
    is_failing: bool,
    missing: u64,
}

impl Writer {
    fn write(&mut self, taken: &Taken) {
        self.missing += taken.lost;
        if taken.look_again {
            self.day.look_again();
        }
        for batch in &taken.batches {
            match self.day.write(batch) {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.missing += batch.count;
                    if !std::mem::replace(&mut self.is_failing, true) {
                        warn!(%error, "the W3C log is not written: its lines are left out");
                    }
                }
            }
        }
        if !self.is_failing && self.missing > 0 {
            let lines = std::mem::take(&mut self.missing);
            warn!(lines, "the W3C log is written again; lines are missing in it");
        }
    }
}
