//! `Status/release/`: which domains on hold have been asked for, as files.
//!
//! ```text
//! =example.com         what waits for this domain is to go
//! @example.com         the same of this domain and of every name below it
//! +ID                  the same of the domains named inside, through a door: to somebody who takes it over the connection
//!                      that he has opened (ATRN). The first node of that machine that sees it makes it -ID, and it is his
//! ```
//!
//! The time of a request is the file's own; asking again renews it. Inside stands who asked, for people. The mark in
//! front keeps a domain such as `con.example` from being a name that Windows keeps for itself. The folder belongs to
//! the service's user, so nobody else can ask. A request that is lost is asked again: nothing else rests on it.
//!
//! Reads and writes: that folder only. Thread: any.

use super::error::{DiskError, Result};
use super::notes::Notes;
use super::{hanging, node};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// By then every node has seen a request, and whoever finds it removes it.
pub const KEPT: Duration = Duration::from_secs(3600);
/// What is asked for twice within this time is asked for once.
const ONCE: Duration = Duration::from_secs(1);
/// Who waits at a door waits no longer.
const AT_DOOR: Duration = Duration::from_secs(60);
/// More requests at a time are not looked at.
const MOST: usize = 10_000;
/// So many may lie there when an operator asks for more: what is under way at the same time finds room too …
const FOR_OPERATORS: usize = MOST - 1_000;
/// … and when a client does: those who may ask do not keep an operator from it.
const FOR_CLIENTS: usize = 1_000;

/// What is asked for: domains in lower-case A-labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// This one.
    Domain(String),
    /// This one and all below it.
    Tree(String),
    /// What goes as this `[[remote]]` entry says: `*.example.com`.
    Entry(String),
}

impl Wanted {
    /// A domain, or all below it too.
    pub fn of(name: String, and_below: bool) -> Self {
        match and_below {
            true => Self::Tree(name),
            false => Self::Domain(name),
        }
    }

    /// The name of its file.
    fn file_name(&self) -> String {
        match self {
            Self::Domain(name) => format!("={name}"),
            Self::Tree(name) => format!("@{name}"),
            Self::Entry(name) => name.clone(), // stands inside of a file only
        }
    }

    fn parse(file_name: &str) -> Option<Self> {
        let is_domain = |name: &&str| {
            let fits =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
            !name.is_empty() && name.len() <= 253 && name.bytes().all(fits)
        };
        let (mark, name) = file_name.split_at_checked(1)?;
        let name = Some(name).filter(is_domain)?.to_owned();
        match mark {
            "=" => Some(Self::Domain(name)),
            "@" => Some(Self::Tree(name)),
            _ => None,
        }
    }

    /// Inside of a file.
    fn parse_inside(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(_) => Some(Self::Entry(text.to_owned())),
            None => Self::parse(text),
        }
    }

    /// Whether this domain is meant, or may be: of an entry others may say more.
    pub fn includes(&self, domain: &str) -> bool {
        match self {
            Self::Domain(name) => name == domain,
            Self::Tree(name) => domain
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            Self::Entry(name) => name
                .strip_prefix('*')
                .is_some_and(|below| domain.ends_with(below)),
        }
    }
}

impl std::fmt::Display for Wanted {
    /// As ETRN writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(name) | Self::Entry(name) => f.write_str(name),
            Self::Tree(name) => write!(f, "@{name}"),
        }
    }
}

/// A request that lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// For what.
    pub wanted: Wanted,
    /// When it was made, by the clock of the storage.
    pub at: SystemTime,
    /// Where it is to go, when not by the route of its domain.
    pub door: Option<Door>,
}

/// A port of this machine's loopback address, behind which somebody waits for mail.
///
/// The words are known only to who can read the request, the service's user. So a stranger can neither come in nor
/// stand at a door that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Door {
    /// Unlike any other.
    pub id: String,
    /// Of 127.0.0.1.
    pub port: u16,
    /// What whoever comes in says, as a line …
    pub knock: String,
    /// … and hears.
    pub answer: String,
}

/// What stands in the file of a door.
#[derive(Serialize, Deserialize)]
struct Opened {
    /// The machine, or the container, whose loopback address it is.
    here: String,
    wanted: Vec<String>,
    door: Door,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Requests {
    folder: PathBuf,
    /// How many files there were, and when.
    counted: Arc<Mutex<Option<(Instant, usize)>>>,
}

impl Requests {
    /// Below `folders.status`.
    pub fn of(status: &Path) -> Self {
        Self {
            folder: status.join("release"),
            counted: Arc::default(),
        }
    }

    /// Asks for it, or asks again, for an operator.
    pub fn ask(&self, wanted: &Wanted, by: &str) -> Result<()> {
        self.put_request(wanted, by, FOR_OPERATORS)
    }

    /// The same for a client, who may ask a thousand times a second.
    pub fn ask_calmly(&self, wanted: &Wanted, by: &str) -> Result<()> {
        let path = self.folder.join(wanted.file_name());
        let modified = path.symlink_metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < ONCE) {
            return Ok(());
        }
        self.put_request(wanted, by, FOR_CLIENTS)
    }

    fn put_request(&self, wanted: &Wanted, by: &str, most: usize) -> Result<()> {
        let notes = Notes::make(&self.folder)?;
        let name = wanted.file_name();
        if !notes.has(&name) {
            self.has_room(&notes, most)?;
        }
        notes.write(&name, &format!("{} {by}\n", jiff::Timestamp::now()), 0o644)
    }

    /// Room for one more. It is listed once a second, and what we put there between is added.
    fn has_room(&self, notes: &Notes, most: usize) -> Result<()> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, count) = match *counted {
            Some((at, count)) if at.elapsed() < ONCE => (at, count),
            _ => (Instant::now(), notes.count()?),
        };
        let is_full = count >= most;
        *counted = Some((at, count + usize::from(!is_full)));
        if is_full {
            let words = format!("{count} requests lie there, and {most} may: try again later");
            let error = DiskError::when("ask for more in", &self.folder);
            return Err(error(io::Error::other(words)));
        }
        Ok(())
    }

    /// Asks for it through a door, until [`Requests::close`].
    pub fn open(&self, wanted: &[Wanted], door: &Door) -> Result<()> {
        let notes = Notes::make(&self.folder)?;
        self.has_room(&notes, FOR_CLIENTS)?;
        let name = format!("+{}", door.id);
        let nowhere = || io::Error::other("the system does not say which machine this is");
        let opened = Opened {
            here: node::here()
                .ok_or_else(nowhere)
                .map_err(DiskError::when("write", &self.folder.join(&name)))?,
            wanted: wanted.iter().map(Wanted::file_name).collect(),
            door: door.clone(),
        };
        let text = serde_json::to_string(&opened).unwrap_or_default();
        notes.write(&name, &text, 0o600)
    }

    /// Whether an engine has seen it.
    pub fn is_seen(&self, door: &Door) -> bool {
        !self.folder.join(format!("+{}", door.id)).exists()
    }

    /// The door is shut.
    pub fn close(&self, door: &Door) {
        for mark in ['+', '-'] {
            let _ = std::fs::remove_file(self.folder.join(format!("{mark}{}", door.id)));
        }
    }

    /// A door of this machine, for who takes it first: only one can come in.
    fn take(&self, path: &Path) -> Option<(Door, Vec<Wanted>)> {
        let text = std::fs::read_to_string(path).ok()?;
        let opened: Opened = serde_json::from_str(&text).ok()?;
        if node::here()? != opened.here {
            return None;
        }
        let taken = self.folder.join(format!("-{}", opened.door.id));
        std::fs::rename(path, taken).ok()?;
        let wanted = opened.wanted.iter().filter_map(|one| Wanted::parse_inside(one));
        Some((opened.door, wanted.collect()))
    }

    /// Removes a request that everybody has seen, unless it was made again since.
    pub fn remove(&self, wanted: &Wanted, at: SystemTime) {
        let path = self.folder.join(wanted.file_name());
        let is_same = path.symlink_metadata().and_then(|meta| meta.modified());
        if is_same.is_ok_and(|modified| modified == at) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// All that lie there. Where nobody has ever asked there is no folder, and so nothing to list.
    pub fn all(&self) -> Result<Vec<Request>> {
        let entries = match hanging::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(DiskError::when("list", &self.folder))?,
        };
        let mut all = Vec::new();
        for entry in entries.flatten().take(MOST) {
            let name = entry.file_name();
            let Some((name, at)) = name
                .to_str()
                .zip(entry.metadata().and_then(|meta| meta.modified()).ok())
            else {
                continue;
            };
            let age = at.elapsed().unwrap_or_default();
            if let Some(wanted) = Wanted::parse(name) {
                all.push(Request {
                    wanted,
                    at,
                    door: None,
                });
            } else if name.starts_with('+') && age <= AT_DOOR {
                let (door, wanted) = self.take(&entry.path()).unzip();
                let wanted = wanted.into_iter().flatten();
                let request = |wanted| Request {
                    wanted,
                    at,
                    door: door.clone(),
                };
                all.extend(wanted.map(request));
            } else if age > KEPT {
                let _ = std::fs::remove_file(entry.path()); // of a process that was killed
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn domain(name: &str) -> Wanted {
        Wanted::Domain(name.to_owned())
    }

    fn tree(name: &str) -> Wanted {
        Wanted::Tree(name.to_owned())
    }

    #[test]
    fn requests_lie_there_until_everybody_has_seen_them() {
        let dir = tempfile::tempdir().unwrap();
        let requests = Requests::of(dir.path());
        assert_eq!(requests.all().unwrap(), []);
        assert!(!dir.path().join("release").exists(), "who looks makes nothing");
        requests.ask(&domain("con.example"), "a test").unwrap();
        requests.ask(&tree("example.net"), "a test").unwrap();
        let mut wanted: Vec<Wanted> = requests
            .all()
            .unwrap()
            .into_iter()
            .map(|one| one.wanted)
            .collect();
        wanted.sort();
        assert_eq!(wanted, [domain("con.example"), tree("example.net")]);

        let path = dir.path().join("release/=con.example");
        let set = |at: SystemTime| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
        };
        let modified = || path.metadata().unwrap().modified().unwrap();
        let a_moment_ago = SystemTime::now() - ONCE / 2;
        set(a_moment_ago);
        requests.ask_calmly(&domain("con.example"), "a test").unwrap();
        assert_eq!(modified(), a_moment_ago);
        set(SystemTime::now() - ONCE * 3);
        requests.ask_calmly(&domain("con.example"), "a test").unwrap();
        assert!(modified() > a_moment_ago, "asked again, later");

        let seen = modified();
        set(a_moment_ago);
        requests.remove(&domain("con.example"), seen);
        assert!(path.exists(), "it was made again since");
        requests.remove(&domain("con.example"), a_moment_ago);
        assert!(!path.exists());
    }

    #[test]
    fn a_door_is_for_this_machine_and_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let requests = Requests::of(dir.path());
        let door = Door {
            id: "01ABC".to_owned(),
            port: 2525,
            knock: "a".to_owned(),
            answer: "b".to_owned(),
        };
        let entry = Wanted::Entry("*.b.test".to_owned());
        requests.open(&[domain("a.test"), entry.clone()], &door).unwrap();
        let path = dir.path().join("release/+01ABC");
        assert!(entry.includes("x.b.test") && !entry.includes("b.test") && !entry.includes("xb.test"));

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"here\":\"", "\"here\":\"elsewhere ")).unwrap();
        assert_eq!(requests.all().unwrap(), []);
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - AT_DOOR * 2).unwrap();
        assert_eq!(requests.all().unwrap(), [], "nobody waits so long");
        requests.close(&door);
        assert!(!path.exists());

        requests.open(&[domain("a.test"), entry.clone()], &door).unwrap();
        assert!(!requests.is_seen(&door));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let all = requests.all().unwrap();
        let wanted: Vec<&Wanted> = all.iter().map(|one| &one.wanted).collect();
        assert_eq!(wanted, [&domain("a.test"), &entry]);
        assert!(all.iter().all(|one| one.door.as_ref() == Some(&door)));
        assert!(requests.is_seen(&door));
        assert_eq!(requests.all().unwrap(), [], "another node comes too late");
        requests.close(&door);
        assert_eq!(std::fs::read_dir(dir.path().join("release")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_accepted_is_seen_also_when_many_ask() {
        let dir = tempfile::tempdir().unwrap();
        let requests = Requests::of(dir.path());
        let numbered = |n: usize| domain(&format!("a{n}.test"));
        (0..FOR_CLIENTS).for_each(|n| requests.ask_calmly(&numbered(n), "a test").unwrap());
        let full = requests
            .ask_calmly(&numbered(FOR_CLIENTS), "a test")
            .unwrap_err()
            .to_string();
        assert!(
            full.ends_with("release: 1000 requests lie there, and 1000 may: try again later"),
            "{full}"
        );
        let door = Door {
            id: "01ABC".to_owned(),
            port: 2525,
            knock: String::new(),
            answer: String::new(),
        };
        assert!(requests.open(&[domain("a.test")], &door).is_err());
        let path = dir.path().join("release/=a0.test");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let before = SystemTime::now() - ONCE * 3;
        file.set_modified(before).unwrap();
        requests.ask_calmly(&numbered(0), "a test").unwrap();
        assert!(path.metadata().unwrap().modified().unwrap() > before, "renewed");

        // another process, and an operator
        let others = Requests::of(dir.path());
        assert!(others.ask_calmly(&numbered(FOR_CLIENTS), "a test").is_err());
        (FOR_CLIENTS..FOR_OPERATORS).for_each(|n| others.ask(&numbered(n), "a test").unwrap());
        assert!(others.ask(&numbered(FOR_OPERATORS), "a test").is_err());
        others.ask(&numbered(1), "a test").unwrap();
        assert_eq!(requests.all().unwrap().len(), FOR_OPERATORS);
    }

    #[test]
    fn a_domain_and_what_is_below_it() {
        for (wanted, yes, no) in [
            (domain("a.test"), "a.test", "b.a.test"),
            (tree("a.test"), "a.test", "ba.test"),
            (tree("a.test"), "c.b.a.test", "a.test.example"),
        ] {
            assert!(wanted.includes(yes) && !wanted.includes(no), "{wanted}");
            assert_eq!(Wanted::parse(&wanted.file_name()), Some(wanted));
        }
        for name in ["", "=", "a.test", "=A.test", "=a/b", "é.test", "=a.test~"] {
            assert_eq!(Wanted::parse(name), None, "{name}");
        }
    }
}
