//! A mailroot in a temporary folder, and the real program on it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailroot::practice::Host;

use super::process::{self, Finished, Running};
use super::{holds_within, tree};

/// For what must happen soon; generous, because machines that test are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A mailroot of its own.
pub struct Place {
    dir: tempfile::TempDir,
    service: Option<Running>,
    log: String,
}

/// `[server]`, `[domains]`, `[dns]` and short times; the rest of the settings goes behind it.
pub const BASE: &str = "[server]\nhostname = \"mail.example.test\"\n\n[domains]\ndefault = \"local.test\"\n\n\
    [pickup]\npoll = \"100ms\"\nquiet = \"20ms\"\n\n";

/// All mail to this port of 127.0.0.1; `more` are further keys of `[delivery]`, then further sections.
pub fn to_smart_host(port: u16, more: &str) -> String {
    format!("{BASE}[delivery]\nsmart_host = \"[127.0.0.1]:{port}\"\n{more}\n")
}

impl Place {
    /// Makes the tree and writes the settings.
    pub fn new(settings: &str) -> Self {
        Self::below(&std::env::temp_dir(), settings)
    }

    /// The same in memory, where the system has such a folder: for thousands of messages, of which each is synced.
    pub fn in_memory(settings: &str) -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::below(memory, settings),
            false => Self::new(settings),
        }
    }

    fn below(folder: &Path, settings: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("mailroot-test-")
            .tempdir_in(folder)
            .unwrap();
        let place = Self {
            dir,
            service: None,
            log: String::new(),
        };
        for folder in ["Pickup", "Queue", "Drop", "Badmail"] {
            fs::create_dir_all(place.root().join(folder)).unwrap();
        }
        place.settings(settings);
        place
    }

    /// Writes other settings; they count from the next start or SIGHUP on.
    pub fn settings(&self, settings: &str) {
        fs::write(self.root().join("mailroot.toml"), settings).unwrap();
    }

    /// The folder above the mailroot, for whatever a test needs beside it.
    pub fn beside(&self) -> &Path {
        self.dir.path()
    }

    /// The mailroot.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mailroot")
    }

    /// A name in Pickup.
    pub fn pickup(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.root().join("Pickup").join(name.as_ref())
    }

    /// Writes a file into Pickup, as most applications do: in place.
    pub fn put(&self, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) {
        fs::write(self.pickup(name), bytes).unwrap();
    }

    /// Writes a file beside Pickup and renames it in, as careful applications do.
    pub fn move_in(&self, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) {
        let aside = self.root().join("aside");
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, self.pickup(name)).unwrap();
    }

    /// Starts the service.
    pub fn start(&mut self) {
        let root = self.root().display().to_string();
        self.service = Some(process::start(&self.notes(), &["run", &root]));
    }

    /// Starts the service by another command line, e.g. as another user.
    pub fn start_by(&mut self, command: std::process::Command) {
        self.service = Some(process::start_command(&self.notes(), command));
    }

    /// Ends the service by SIGTERM, which must be clean.
    pub fn stop(&mut self) {
        if let Some(service) = self.service.take() {
            let Finished { code, stderr, .. } = service.stop();
            self.log.push_str(&stderr);
            assert_eq!(
                code,
                Some(0),
                "SIGTERM must end the service with 0:\n{}",
                self.log
            );
        }
    }

    /// Waits until the service has been ended by a signal that we did not send.
    pub fn dies(&mut self, within: Duration) {
        let mut service = self.service.take().expect("the service runs");
        let status = service.ends_within(within);
        self.log.push_str(&service.stderr());
        let status = status.unwrap_or_else(|| panic!("it lives on:\n{}", self.log));
        assert_eq!(status.code(), None, "no death: {status}\n{}", self.log);
    }

    /// The running service.
    pub fn service(&self) -> &Running {
        self.service.as_ref().expect("the service runs")
    }

    /// Takes and tries everything once.
    pub fn drain(&mut self) -> Finished {
        let root = self.root().display().to_string();
        let done = process::mailroot(&self.notes(), &["drain", &root]);
        self.log.push_str(&done.stderr);
        done
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        let now = self.service.as_ref().map(Running::stderr);
        format!("{}{}", self.log, now.unwrap_or_default())
    }

    /// Waits for it; fails with the log and the tree.
    pub fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        if !holds_within(PATIENCE, condition) {
            let (log, tree) = (self.log(), tree::listing(&self.root()));
            let from = log.len().saturating_sub(20_000);
            let log = log.get(from..).unwrap_or(&log);
            panic!("not within {PATIENCE:?}: {what}\n{tree}\nlog:\n{log}");
        }
    }

    /// Waits until nothing lies in Pickup and Queue.
    pub fn wait_until_empty(&self) {
        self.wait("Pickup and Queue are empty", || self.is_empty());
    }

    /// Nothing lies in Pickup and Queue.
    pub fn is_empty(&self) -> bool {
        let root = self.root();
        tree::files(&root, "Pickup").is_empty() && tree::files(&root, "Queue").is_empty()
    }

    /// The files of a folder with this extension.
    pub fn files(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        tree::with_extension(&self.root(), folder, extension)
    }

    /// All files of a folder with this extension as one text.
    pub fn text(&self, folder: &str, extension: &str) -> String {
        let read = |p: &PathBuf| String::from_utf8_lossy(&fs::read(p).unwrap_or_default()).into_owned();
        self.files(folder, extension).iter().map(read).collect()
    }

    fn notes(&self) -> PathBuf {
        self.dir.path().join("notes")
    }
}

/// A message with a leading block.
pub fn message(from: &str, to: &[&str], subject: &str) -> String {
    let receivers: String = to.iter().map(|to| format!("x-receiver: <{to}>\n")).collect();
    format!(
        "x-sender: <{from}>\n{receivers}From: <{from}>\nSubject: {subject}\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\
         Message-ID: <{subject}@app.example.test>\n\nThis is {subject}.\n"
    )
}

/// Multiparts in multiparts, with 8-bit text in the innermost.
pub fn nested(depth: usize) -> String {
    let mut text = "x-sender: <app@local.test>\nx-receiver: <nest@good.example>\nFrom: <app@local.test>\n\
        Subject: nested\nMIME-Version: 1.0\n"
        .to_owned();
    for level in 0..depth {
        write!(
            text,
            "Content-Type: multipart/mixed; boundary=\"b{level}\"\n\n--b{level}\n"
        )
        .unwrap();
    }
    text.push_str("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n");
    for level in (0..depth).rev() {
        writeln!(text, "--b{level}--").unwrap();
    }
    text
}

/// How often each message was answered for, by its subject.
pub fn arrivals(host: &Host) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for accepted in host.accepted() {
        let text = String::from_utf8_lossy(&accepted.content).into_owned();
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: "))
            .unwrap()
            .to_owned();
        *counts.entry(subject).or_insert(0) += 1;
    }
    counts
}
