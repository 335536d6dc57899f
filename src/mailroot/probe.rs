//! Trying what the engine relies on, in the folders themselves: writing, renaming, locking, leases.
//!
//! Writes: files with names that nobody takes for a message, and removes them. Thread: any, but on some storage a
//! lock hangs, so call it where waiting is bounded. Used by `mailroot check` only.

use super::error::{DiskError, Result};
use super::evidence::{self, Looked, Writers};
use super::names::NodeName;
use crate::config::Folders;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What one rename from Pickup to Queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renaming {
    /// One rename, and the file has its new name and no longer its old one.
    Works,
    /// The folders are on different volumes.
    OtherVolume,
    /// It said that it worked, and the two names say otherwise.
    Lies,
}

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

/// A file that exists as long as this value.
struct Trial {
    path: PathBuf,
}

impl Trial {
    /// A new file with a few bytes in it.
    fn new(folder: &Path) -> Result<(Self, File)> {
        // The dot makes Pickup, and readers of Drop, leave it alone.
        let trial = Self {
            path: folder.join(format!(".{}.0.TMP", NodeName::generate("CHECK"))),
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
pub fn writing(folder: &Path) -> Result<()> {
    let (trial, file) = Trial::new(folder)?;
    file.sync_all().map_err(DiskError::when("sync", &trial.path))?;
    std::fs::remove_file(&trial.path).map_err(DiskError::when("remove", &trial.path))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(DiskError::when("sync the folder", folder))
}

/// Renames a file from Pickup to Queue, as a claim does.
pub fn renaming(folders: &Folders) -> Result<Renaming> {
    let (trial, _) = Trial::new(&folders.pickup)?;
    // `NODE.n.TMP` is what Queue knows as worthless, should we be killed between here and the end.
    let name = format!("{}.0.TMP", NodeName::generate("CHECK"));
    let target = Trial {
        path: folders.queue.join(name),
    };
    match std::fs::rename(&trial.path, &target.path) {
        Ok(()) if target.path.exists() && !trial.path.exists() => Ok(Renaming::Works),
        Ok(()) => Ok(Renaming::Lies),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(Renaming::OtherVolume),
        Err(error) => Err(DiskError::when("rename into Queue", &trial.path)(error)),
    }
}

/// Locks a file twice, as two nodes would.
pub fn locking(folder: &Path) -> Result<Locking> {
    let (trial, first) = Trial::new(folder)?;
    if let Err(error) = fs2::FileExt::try_lock_exclusive(&first) {
        return Ok(Locking::Refused(error));
    }
    let second = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&trial.path)
        .map_err(DiskError::when("open", &trial.path))?;
    match fs2::FileExt::try_lock_exclusive(&second) {
        Ok(()) => Ok(Locking::Ignored),
        Err(_) => Ok(Locking::Works),
    }
}

/// Asks who writes to a file of our own that nobody writes to: whether a read lease can be had here.
pub fn lease(folder: &Path) -> Result<Writers> {
    let (trial, file) = Trial::new(folder)?;
    drop(file);
    match evidence::look(&trial.path) {
        Looked::File(candidate) => Ok(candidate.writers),
        Looked::Unreadable(error) => Err(DiskError::when("read", &trial.path)(error)),
        _ => Ok(Writers::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_plain_folder_does_it_all_and_is_left_empty() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Config::parse("", dir.path(), "h.example").unwrap().folders;
        super::super::tree::make(&folders).unwrap();
        writing(&folders.pickup).unwrap();
        assert_eq!(renaming(&folders).unwrap(), Renaming::Works);
        assert!(matches!(locking(&folders.status).unwrap(), Locking::Works));
        assert!(matches!(
            lease(&folders.pickup).unwrap(),
            Writers::None | Writers::Unknown
        ));
        for folder in [&folders.pickup, &folders.queue, &folders.status] {
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{folder:?}");
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("x");
        let error = writing(&missing).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot create {}/", missing.display())),
            "{error}"
        );
    }
}
