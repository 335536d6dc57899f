//! The few operations that are put to the proof, the names they are tried with, and the removal of what they left.
//!
//! Writes: files called `.MAILROOT-PROBE-xxxx.n.TMP`, and removes them. Thread: any.

use crate::mail::MessageId;
use crate::mailroot::NodeName;
use crate::mailroot::spool;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the proofs ask of a storage. The tests put one that lies in its place.
pub trait Storage: Send + Sync {
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, unless the new name is there: as claims in Queue do.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a file that must not be there yet.
    fn create_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes over a file in place, as a heartbeat does.
    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// All its bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether the name is there.
    fn is_there(&self, path: &Path) -> io::Result<bool>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The storage as it is.
#[derive(Debug, Clone, Copy)]
pub struct Real;

/// What we write is never longer; what others wrote in its place is not read whole.
const MAX_READ: u64 = 1 << 20;

impl Storage for Real {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        spool::rename_no_replace(from, to)
    }

    fn create_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Names that nobody takes for a message. Killed in the middle, the files lie there until an engine of this mailroot
/// finds them old: [`crate::mailroot::Spool::remove_old_probes`].
#[derive(Debug)]
pub struct Names {
    node: NodeName,
    next: AtomicU64,
}

impl Names {
    /// Names of this run; another run at the same moment has others.
    pub fn new() -> Self {
        // Four characters could meet by chance: the numbers begin at random, too.
        let random = (MessageId::generate().ulid.0 as u64) >> 16;
        Self {
            node: NodeName::for_probe(),
            next: AtomicU64::new(random),
        }
    }

    /// A new name. The period makes Pickup, readers of Drop, and listings of Queue leave it alone.
    pub fn next(&self) -> String {
        format!(".{}.{}.TMP", self.node, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

/// Files that exist as long as this value, whatever became of them.
pub struct Litter<'a> {
    storage: &'a dyn Storage,
    paths: Vec<PathBuf>,
}

impl<'a> Litter<'a> {
    /// Nothing yet.
    pub fn new(storage: &'a dyn Storage) -> Self {
        Self {
            storage,
            paths: Vec::new(),
        }
    }

    /// A path that may come to exist; it is removed at the end.
    pub fn path(&mut self, path: PathBuf) -> PathBuf {
        self.paths.push(path.clone());
        path
    }
}

impl Drop for Litter<'_> {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = self.storage.remove(path);
        }
    }
}
