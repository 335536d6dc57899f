//! Where lines go: standard error, and on request a file per day.
//!
//! Writes: standard error; `Logs/mailroot-YYYY-MM-DD.log`. A line is one write under one lock, so lines of threads never
//! mix; who writes many in a row does it in one ([`together`]).

use super::push_escaped;
use crate::mailroot::tree;
use jiff::Timestamp;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// A log file that cannot be written is tried again after this long.
const RETRY: Duration = Duration::from_secs(60);

thread_local! {
    /// What this thread has not written yet, and where it goes.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Held {
    lines: Vec<u8>,
    to: Option<Out>,
}

/// Writes the lines of this thread in `work` when it has ended, all at once: for steps of a moment that are many.
pub fn together<T>(work: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            if let Some(Held { lines, to: Some(to) }) = HELD.take() {
                to.with(|target| target.write(&lines));
            }
        }
    }
    HELD.set(Some(Held::default()));
    let _end = End;
    work()
}

/// Where lines go, shared by all threads.
#[derive(Clone)]
pub(super) struct Out(pub(super) Arc<Mutex<Target>>);

impl Out {
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Target) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'a> MakeWriter<'a> for Out {
    type Writer = Out;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

impl Write for Out {
    /// Takes a whole line and always succeeds.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_held = HELD.with_borrow_mut(|held| {
            held.as_mut().map(|held| {
                held.lines.extend_from_slice(line);
                held.to.get_or_insert_with(|| self.clone());
            })
        });
        if is_held.is_none() {
            self.with(|target| target.write(line));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Target {
    pub(super) sink: Sink,
    file: Option<DailyFile>,
}

pub(super) enum Sink {
    Stderr,
    Nowhere,
    #[cfg(test)]
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Target {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, file: None }
    }

    fn write(&mut self, line: &[u8]) {
        self.sink.write(line);
        if let Some(trouble) = self
            .file
            .as_mut()
            .and_then(|file| file.write(line, Timestamp::now()))
        {
            self.sink.write(trouble.as_bytes());
        }
    }

    /// Keeps an open file when the folder is the same.
    pub(super) fn choose_file(&mut self, folder: Option<&Path>) {
        if self.file.as_ref().map(|file| file.folder.as_path()) != folder {
            self.file = folder.map(DailyFile::new);
        }
    }
}

impl Sink {
    fn write(&self, line: &[u8]) {
        match self {
            // Whoever read our standard error may be gone; mail goes on.
            Self::Stderr => drop(io::stderr().lock().write_all(line)),
            Self::Nowhere => {}
            #[cfg(test)]
            Self::Memory(lines) => lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(line),
        }
    }
}

/// `Logs/mailroot-YYYY-MM-DD.log` of the day of the event.
struct DailyFile {
    folder: PathBuf,
    /// Days since the epoch, and the open file of that day.
    open: Option<(i64, File)>,
    try_again: Option<Instant>,
}

impl DailyFile {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            open: None,
            try_again: None,
        }
    }

    /// A line for standard error when this one could not be written, at most one per [`RETRY`].
    fn write(&mut self, line: &[u8], now: Timestamp) -> Option<String> {
        if self.try_again.is_some_and(|then| Instant::now() < then) {
            return None;
        }
        let day = now.as_second().div_euclid(86_400);
        if self.open.as_ref().is_none_or(|(opened, _)| *opened != day) {
            let name = format!("mailroot-{}.log", now.strftime("%Y-%m-%d"));
            match tree::open_log(&self.folder.join(name)) {
                Ok(file) => self.open = Some((day, file)),
                Err(error) => return Some(self.give_up_for_now(now, &error.to_string())),
            }
        }
        let (_, file) = self.open.as_mut()?;
        match file.write_all(line) {
            Ok(()) => {
                self.try_again = None;
                None
            }
            Err(error) => Some(self.give_up_for_now(now, &format!("cannot write the log file: {error}"))),
        }
    }

    fn give_up_for_now(&mut self, now: Timestamp, why: &str) -> String {
        self.open = None;
        self.try_again = Some(Instant::now() + RETRY);
        let mut words = String::new();
        push_escaped(&mut words, why);
        format!("{now:.3} WARN  {words}; events go to standard error only, tried again in a minute\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_per_day_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = DailyFile::new(dir.path());
        for (time, line) in [
            ("2026-11-21T23:59:59Z", "a\n"),
            ("2026-11-22T00:00:00Z", "b\n"),
            ("2026-11-22T10:00:00Z", "c\n"),
        ] {
            assert_eq!(file.write(line.as_bytes(), time.parse().unwrap()), None);
        }
        let read =
            |day: &str| std::fs::read_to_string(dir.path().join(format!("mailroot-{day}.log"))).unwrap();
        assert_eq!(
            (read("2026-11-21").as_str(), read("2026-11-22").as_str()),
            ("a\n", "b\nc\n")
        );
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("Logs");
        let mut file = DailyFile::new(&missing);
        let trouble = file.write(b"x\n", Timestamp::now()).unwrap();
        let wanted = format!("cannot open the log file {}/mailroot-", missing.display());
        assert!(trouble.contains(&wanted), "{trouble}");
        assert_eq!(file.write(b"y\n", Timestamp::now()), None);
    }
}
