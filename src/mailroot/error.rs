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
