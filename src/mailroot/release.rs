//! `Status/release/`: which domains on hold have been asked for, as files.
//!
//! ```text
//! =example.com         what waits for this domain is to go
//! @example.com         the same of this domain and of every name below it
//! ```
//!
//! The time of a request is the file's own; asking again renews it. Inside stands who asked, for people. The mark in
//! front keeps a domain such as `con.example` from being a name that Windows keeps for itself. The folder belongs to
//! the service's user, so nobody else can ask. A request that is lost is asked again: nothing else rests on it.
//!
//! Reads and writes: that folder only. Thread: any.

use super::error::{DiskError, Result};
use super::hanging;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// By then every node has seen a request, and whoever finds it removes it. A drain that runs more seldom misses it.
const KEPT: Duration = Duration::from_secs(3600);
/// What is asked for twice within this time is asked for once.
const ONCE: Duration = Duration::from_secs(1);
/// More requests at a time are not looked at.
const MOST: usize = 10_000;

/// What is asked for: domains in lower-case A-labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// This one.
    Domain(String),
    /// This one and all below it.
    Tree(String),
}

impl Wanted {
    /// The name of its file.
    fn file_name(&self) -> String {
        match self {
            Self::Domain(name) => format!("={name}"),
            Self::Tree(name) => format!("@{name}"),
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

    /// Whether this domain is meant.
    pub fn includes(&self, domain: &str) -> bool {
        match self {
            Self::Domain(name) => name == domain,
            Self::Tree(name) => domain
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    }
}

impl std::fmt::Display for Wanted {
    /// As ETRN writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
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
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Requests {
    folder: PathBuf,
}

impl Requests {
    /// Below `folders.status`.
    pub fn of(status: &Path) -> Self {
        Self {
            folder: status.join("release"),
        }
    }

    /// It belongs to whom Status belongs: root may be the first who asks.
    fn make(&self) -> Result<()> {
        match DirBuilder::new().mode(0o755).create(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(DiskError::when("make the folder", &self.folder)(error)),
            Ok(()) => {
                if let Some((user, group)) = self.owner() {
                    let _ = std::os::unix::fs::lchown(&self.folder, user, group);
                }
                Ok(())
            }
        }
    }

    /// Of Status.
    fn owner(&self) -> Option<(Option<u32>, Option<u32>)> {
        let above = self.folder.parent()?.metadata().ok()?;
        Some((Some(above.uid()), Some(above.gid())))
    }

    /// Asks for it, or asks again.
    pub fn ask(&self, wanted: &Wanted, by: &str) -> Result<()> {
        self.make()?;
        let path = self.folder.join(wanted.file_name());
        let text = format!("{} {by}\n", jiff::Timestamp::now());
        // Root may ask too, and the folder is another's: no link is followed.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(DiskError::when("write", &path))?;
        if let Some((user, group)) = self.owner() {
            let _ = std::os::unix::fs::fchown(&file, user, group);
        }
        file.write_all(text.as_bytes())
            .map_err(DiskError::when("write", &path))
    }

    /// The same for somebody who may ask a thousand times a second.
    pub fn ask_calmly(&self, wanted: &Wanted, by: &str) -> Result<()> {
        let path = self.folder.join(wanted.file_name());
        let modified = path.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < ONCE) {
            return Ok(());
        }
        self.ask(wanted, by)
    }

    /// All that lie there; those that everybody has seen are removed. Where nobody has ever asked there is no folder,
    /// and so nothing to list.
    pub fn all(&self) -> Result<Vec<Request>> {
        let entries = match hanging::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(DiskError::when("list", &self.folder))?,
        };
        let mut all = Vec::new();
        for entry in entries.flatten().take(MOST) {
            let wanted = entry.file_name().to_str().and_then(Wanted::parse);
            let Some((wanted, at)) = wanted.zip(entry.metadata().and_then(|meta| meta.modified()).ok())
            else {
                continue;
            };
            if at.elapsed().is_ok_and(|age| age > KEPT) {
                let _ = std::fs::remove_file(entry.path());
                continue;
            }
            all.push(Request { wanted, at });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

        set(SystemTime::now() - KEPT * 2);
        assert_eq!(requests.all().unwrap().len(), 1);
        assert!(!path.exists());
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
