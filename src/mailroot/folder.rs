//! A folder that is open for a while: each name in it is found in one step. By its path each is found in as many as the
//! path is deep, and where the system knows millions of names every step is dear.
//!
//! Reads: one folder. Writes: nothing. Thread: any. For one listing and what follows from it: a folder that stays open
//! keeps its volume from being unmounted, and would not see another one mounted in its place.

use super::error::{DiskError, Result};
use super::evidence::{open_unseen, read_all};
use super::hanging::asking;
use super::spool::newest_env;
use crate::mail::MessageId;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// See above.
#[derive(Debug)]
pub struct OpenFolder {
    folder: OwnedFd,
    path: PathBuf,
}

impl OpenFolder {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self> {
        let _asking = asking("open", path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| DiskError::when("open", path)(error.into()))?;
        Ok(Self {
            folder,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the file was last written, in nanoseconds; a link is not followed.
    pub fn mtime_nanos(&self, name: &str) -> io::Result<i128> {
        let _asking = asking("look at", &self.path);
        let facts = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(i128::from(facts.st_mtime) * 1_000_000_000 + i128::from(facts.st_mtime_nsec))
    }

    /// The beginning of a regular file; a link is not followed, a FIFO or a device not read.
    pub fn begin_of<'b>(&self, name: &str, room: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let _asking = asking("read", &self.path);
        let file = self.open_file(name)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let n = file.read_at(room, 0)?;
        Ok(room.get(..n).unwrap_or_default())
    }

    /// The newest record that is not above this life; `None` when there is none.
    pub fn read_env(&self, id: MessageId) -> Result<Option<Vec<u8>>> {
        let _asking = asking("read", &self.path);
        newest_env(&self.path, id, |name| {
            read_all(&self.open_file(&name.to_string())?)
        })
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        open_unseen(|flags| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::from_bits_retain(flags.cast_unsigned());
            Ok(rustix::fs::openat(&self.folder, name, flags, Mode::empty())?.into())
        })
    }
}
