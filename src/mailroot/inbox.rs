//! Mail that comes by another way than a file: put into Pickup as a whole and for good, or not at all.
//!
//! Writes: Pickup. While it comes it has no name where the storage knows such files (`O_TMPFILE`), so whatever ends the
//! process leaves nothing behind; elsewhere its name begins with a period, so that nobody takes it, and old ones are
//! removed at the next start. Thread: any; those who publish at the same time share the syncs of the folder.

use super::error::{DiskError, Result};
use super::gather::Gathering;
use super::hanging::asking;
use super::probe::kind::number;
use super::spool::sync_folder;
use super::volume::Volume;
use super::written::Commits;
use crate::mail::MessageId;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// File systems on which the sync of a file without a name, and then of the folder that names it, is enough: ext4, XFS,
/// tmpfs.
const SURE: [i64; 3] = [0xEF53, 0x5846_5342, 0x0102_1994];
/// The engine's user reads it, and nobody else.
const MODE: u32 = 0o640;
/// What has a name while it comes.
const PREFIX: &str = ".incoming-";
/// Such a file that nobody wrote to for this long is of a process that has ended.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Pickup, for those who put mail there in parallel.
#[derive(Debug)]
pub struct Inbox {
    pickup: PathBuf,
    volume: Volume,
    syncs: Gathering,
    /// Files without a name can be made here, and named.
    nameless: AtomicBool,
    /// A sync of such a file is not known to hold here.
    forgets_nameless: bool,
}

impl Inbox {
    /// Of the folder `pickup`.
    pub fn new(pickup: &Path) -> Self {
        Self {
            pickup: pickup.to_owned(),
            volume: Volume::of(pickup),
            syncs: Gathering::default(),
            nameless: AtomicBool::new(Path::new("/proc/self/fd").exists()),
            forgets_nameless: !number(pickup).is_some_and(|number| SURE.contains(&number)),
        }
    }

    /// Begins a message. Dropped before it is published, it leaves nothing.
    pub fn open(&self) -> Result<Incoming<'_>> {
        let _asking = asking("create a file in", &self.pickup);
        let failed = DiskError::when("create a file in", &self.pickup);
        let (file, named) = match self.open_nameless() {
            Some(file) => (file.map_err(failed)?, None),
            None => {
                let path = self.pickup.join(format!("{PREFIX}{}", MessageId::generate()));
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(MODE)
                    .open(&path);
                (file.map_err(failed)?, Some(path))
            }
        };
        let mut incoming = Incoming {
            inbox: self,
            file,
            named,
            commits: Commits::Unknown,
        };
        let device = incoming.file.metadata().map(|meta| meta.dev());
        incoming.commits = device
            .and_then(|device| self.volume.expects(device))
            .map_err(DiskError::when("write in", &self.pickup))?;
        Ok(incoming)
    }

    /// `None`: this storage knows no such files.
    fn open_nameless(&self) -> Option<io::Result<File>> {
        if !self.nameless.load(Ordering::Relaxed) {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &self.pickup, flags, Mode::from_raw_mode(MODE)) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                self.nameless.store(false, Ordering::Relaxed);
                None
            }
            Err(error) => Some(Err(error.into())),
            Ok(file) => Some(Ok(File::from(file))),
        }
    }

    /// Whose folder it is; `None`: it cannot be looked at.
    pub fn owner(&self) -> Option<u32> {
        self.pickup.metadata().ok().map(|meta| meta.uid())
    }

    /// Bytes that are free for us on the volume of Pickup.
    pub fn free(&self) -> Result<u64> {
        fs2::available_space(&self.pickup).map_err(DiskError::when("look at the volume of", &self.pickup))
    }

    /// Removes what was on its way when a process ended, where such files have names.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.pickup) else {
            return;
        };
        for entry in entries.flatten() {
            let is_ours = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes());
            if is_ours && entry.metadata().is_ok_and(|meta| is_abandoned(meta.modified())) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn is_abandoned(modified: io::Result<SystemTime>) -> bool {
    let age = modified
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > ABANDONED)
}

/// A message that is coming in.
#[derive(Debug)]
pub struct Incoming<'a> {
    inbox: &'a Inbox,
    file: File,
    named: Option<PathBuf>,
    commits: Commits,
}

impl Incoming<'_> {
    /// Puts it into Pickup as `ID.EML`. When this returns, no power cut takes it away any more.
    pub fn publish(mut self, id: MessageId) -> Result<()> {
        let pickup = &self.inbox.pickup;
        let path = pickup.join(format!("{id}.EML"));
        let _asking = asking("publish", &path);
        self.commits
            .write_out(&self.file)
            .map_err(DiskError::when("sync", &path))?;
        // From here on it is open for reading only: the engine takes nothing that somebody may still write.
        let named = self.named.clone();
        let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let reading = File::open(named.as_deref().unwrap_or(Path::new(&itself)));
        self.file = reading.map_err(DiskError::when("open", &path))?;
        match named {
            Some(name) => {
                std::fs::rename(&name, &path).map_err(DiskError::when("rename", &name))?;
                self.named = None;
            }
            None => {
                let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, &itself, CWD, &path, AtFlags::SYMLINK_FOLLOW)
                    .map_err(|error| DiskError::when("name", &path)(error.into()))?;
            }
        }
        let synced = self
            .sync_again(&path)
            .and_then(|()| self.inbox.syncs.sync(pickup, sync_folder));
        if synced.is_err() {
            // It is not promised, so it must not be sent: unless the engine has taken it, it goes.
            let _ = std::fs::remove_file(&path);
        }
        synced
    }

    /// Some file systems keep nothing of a file that had no name when it was synced.
    fn sync_again(&self, path: &Path) -> Result<()> {
        match self.inbox.forgets_nameless {
            true => self.file.sync_all().map_err(DiskError::when("sync", path)),
            false => Ok(()),
        }
    }
}

impl Write for Incoming<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _asking = asking("write in", &self.inbox.pickup);
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.named {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_message_is_there_as_a_whole_or_not_at_all() {
        for nameless in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let inbox = Inbox::new(dir.path());
            inbox.nameless.store(nameless, Ordering::Relaxed);
            let mut given_up = inbox.open().unwrap();
            given_up.write_all(b"half").unwrap();
            let nobody_takes = |names: Vec<String>| names.iter().all(|name| name.starts_with('.'));
            assert!(nobody_takes(names(dir.path())), "{nameless}");
            drop(given_up);
            assert!(names(dir.path()).is_empty(), "{nameless}");

            let id = MessageId::generate();
            let mut whole = inbox.open().unwrap();
            whole.write_all(b"A: b\r\n\r\nwhole").unwrap();
            whole.publish(id).unwrap();
            let name = format!("{id}.EML");
            assert_eq!(names(dir.path()), [name.as_str()], "{nameless}");
            assert_eq!(
                std::fs::read(dir.path().join(name)).unwrap(),
                b"A: b\r\n\r\nwhole"
            );
        }
    }

    #[test]
    fn what_a_killed_process_left_goes_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(dir.path());
        for name in [".incoming-old", ".incoming-new", "message.eml"] {
            File::create(dir.path().join(name)).unwrap();
        }
        let long_ago = SystemTime::now() - ABANDONED * 2;
        for name in [".incoming-old", "message.eml"] {
            File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        inbox.sweep();
        assert_eq!(names(dir.path()), [".incoming-new", "message.eml"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(&dir.path().join("Pickup"));
        assert!(inbox.open().is_err() && inbox.free().is_err());
        inbox.sweep();
    }
}
