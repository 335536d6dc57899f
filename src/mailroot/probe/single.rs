//! Proofs that need one file and one thread: writing, syncing, time stamps, letter case, locks, leases.
//!
//! Writes: see [`super::storage`]. Thread: any, but on some storage a lock hangs: call it where waiting is bounded.

use super::storage::{Litter, Names, Real, Storage};
use crate::mailroot::error::{DiskError, Result};
use crate::mailroot::evidence::{self, Looked, Writers};
use crate::mailroot::watch::{Hints, Watcher};
use rustix::fs::{CWD, RenameFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What an advisory lock does.
#[derive(Debug)]
pub enum Locking {
    /// Who comes second does not get it.
    Works,
    /// Everyone gets it.
    Ignored,
    /// Nobody gets it.
    Refused(io::Error),
}

/// What a time stamp that the storage gives says beside our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// The storage's clock is so far from ours.
    pub off: Duration,
    /// It is ahead of ours; else behind.
    pub ahead: bool,
    /// No stamp had a fraction of a second.
    pub whole_seconds: bool,
}

/// How long the two kinds of sync took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syncs {
    /// A file.
    pub file: Duration,
    /// A folder.
    pub folder: Duration,
}

/// A file that exists as long as this value.
struct Trial {
    path: PathBuf,
}

impl Trial {
    /// A new file with a few bytes in it.
    fn new(folder: &Path) -> Result<(Self, File)> {
        let trial = Self {
            path: folder.join(Names::new().next()),
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&trial.path)
            .map_err(DiskError::when("create", &trial.path))?;
        file.write_all(b"mailroot check\n")
            .map_err(DiskError::when("write", &trial.path))?;
        Ok((trial, file))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes, syncs and removes a file.
pub fn writing(folder: &Path) -> Result<Syncs> {
    let (trial, file) = Trial::new(folder)?;
    let begun = Instant::now();
    file.sync_all().map_err(DiskError::when("sync", &trial.path))?;
    let of_file = begun.elapsed();
    std::fs::remove_file(&trial.path).map_err(DiskError::when("remove", &trial.path))?;
    let begun = Instant::now();
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(DiskError::when("sync the folder", folder))?;
    Ok(Syncs {
        file: of_file,
        folder: begun.elapsed(),
    })
}

/// Locks a file twice, as two nodes would: once in our folder, once as `theirs` shows it.
pub fn locking(ours: &Path, theirs: &Path) -> Result<Locking> {
    let (trial, first) = Trial::new(ours)?;
    if let Err(error) = fs2::FileExt::try_lock_exclusive(&first) {
        return Ok(Locking::Refused(error));
    }
    let path = theirs.join(trial.path.file_name().unwrap_or_default());
    super::race::within(Duration::from_secs(3), || path.symlink_metadata().is_ok());
    let second = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(DiskError::when("open", &path))?;
    match fs2::FileExt::try_lock_exclusive(&second) {
        Ok(()) => Ok(Locking::Ignored),
        Err(_) => Ok(Locking::Works),
    }
}

/// Asks who writes to a file of our own that nobody writes to: whether a read lease can be had here.
pub fn lease(folder: &Path) -> Result<Writers> {
    let (trial, file) = Trial::new(folder)?;
    drop(file);
    match evidence::look(&trial.path, true) {
        Looked::File(candidate) => Ok(candidate.writers),
        Looked::Unreadable(error) => Err(DiskError::when("read", &trial.path)(error)),
        _ => Ok(Writers::Unknown),
    }
}

/// Compares the time stamps of files just written with our clock.
pub fn stamps(folder: &Path) -> Result<Stamps> {
    let mut worst = Stamps {
        off: Duration::ZERO,
        ahead: false,
        whole_seconds: true,
    };
    let mut all = Vec::new();
    for _ in 0..3 {
        let before = SystemTime::now();
        let (trial, file) = Trial::new(folder)?;
        drop(file);
        let after = SystemTime::now();
        let meta = trial
            .path
            .symlink_metadata()
            .map_err(DiskError::when("read", &trial.path))?;
        worst.whole_seconds &= std::os::unix::fs::MetadataExt::mtime_nsec(&meta) == 0;
        let stamp = meta
            .modified()
            .map_err(DiskError::when("read the time of", &trial.path))?;
        all.push((before, stamp, after));
        std::thread::sleep(Duration::from_millis(7));
    }
    // What is cut to whole seconds seems up to a second old.
    let cut = Duration::from_secs(worst.whole_seconds.into());
    for (before, stamp, after) in all {
        let ahead = stamp.duration_since(after).unwrap_or_default();
        let behind = before
            .duration_since(stamp)
            .unwrap_or_default()
            .saturating_sub(cut);
        if ahead.max(behind) > worst.off {
            (worst.off, worst.ahead) = (ahead.max(behind), ahead > behind);
        }
    }
    Ok(worst)
}

/// Whether names that differ in case only are one file.
pub fn case_is_folded(folder: &Path) -> Result<bool> {
    let (trial, _) = Trial::new(folder)?;
    let name = trial.path.file_name().unwrap_or_default();
    Ok(folder.join(name.to_ascii_lowercase()).symlink_metadata().is_ok())
}

/// Whether a rename can be told to replace nothing. `Ok(None)`: it said that it would not, and did.
pub fn keeps_existing(folder: &Path, names: &Names) -> io::Result<Option<bool>> {
    let mut litter = Litter::new(&Real);
    let [one, two] = [0, 1].map(|_| litter.path(folder.join(names.next())));
    Real.create_new(&one, b"1")?;
    Real.create_new(&two, b"2")?;
    match rustix::fs::renameat_with(CWD, &one, CWD, &two, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::EXIST) => Ok(Some(true)),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            Ok(Some(false))
        }
        Err(error) => Err(error.into()),
    }
}

/// Watches `watched` as intake does and renames a file into it by way of `by`: how long until that is told.
pub fn notified(watched: &Path, by: &Path, patience: Duration) -> Result<Option<Duration>> {
    let hints = Arc::new(Hints::default());
    let (wake, line) = crossbeam_channel::bounded(1);
    let watcher = Watcher::start(watched, true, Arc::clone(&hints), wake);
    if !watcher.is_watching() {
        return Ok(None);
    }
    let mut litter = Litter::new(&Real);
    let names = Names::new();
    let new = names.next();
    let (from, to) = (litter.path(by.join(names.next())), litter.path(by.join(&new)));
    Real.create_new(&from, b"")
        .map_err(DiskError::when("create", &from))?;
    let _ = hints.take();
    let begun = Instant::now();
    Real.rename(&from, &to)
        .map_err(DiskError::when("rename", &from))?;
    while begun.elapsed() < patience {
        let left = patience.saturating_sub(begun.elapsed());
        let _ = line.recv_timeout(left);
        if hints.take().keys().any(|name| *name == *new) {
            return Ok(Some(begun.elapsed()));
        }
    }
    Ok(None)
}
