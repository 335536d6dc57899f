//! Trouble of the disk: what we were doing, where, and what the system said.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An operation on the tree that failed. The message concerned stays where it was.
#[derive(Debug)]
pub struct DiskError {
    /// The verb, as it reads after "cannot": `create`, `sync the folder`, `rename to Queue`.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// For `map_err`: keeps what was being done beside what the system said.
    pub fn when(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }

    /// The kind of trouble, for telling it once: the verb, the folder and what the system said, not the single file.
    pub fn kind(&self) -> String {
        let folder = if self.path.is_dir() {
            Some(self.path.as_path())
        } else {
            self.path.parent()
        };
        let folder = folder.unwrap_or(&self.path).display();
        format!("cannot {} in {folder}: {}", self.doing, self.source)
    }

    /// Whether a sync failed, after which the system may call written what is lost. An interruption or a missing name
    /// says nothing about the disk.
    pub fn is_failed_sync(&self) -> bool {
        self.doing.starts_with("sync")
            && !matches!(
                self.source.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::NotFound
            )
    }

    /// Whether a name cannot be moved there because that is another volume.
    pub fn is_other_volume(&self) -> bool {
        self.source.kind() == io::ErrorKind::CrossesDevices
    }

    /// Whether the name was simply not there (any more).
    pub fn is_gone(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.doing,
            self.path.display(),
            self.source
        )
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What every operation on the tree returns.
pub type Result<T> = std::result::Result<T, DiskError>;
