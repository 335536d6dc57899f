//! The arrows: every step that changes the tree, one function each (contract §3).
//!
//! Reads and writes: Pickup, Queue, Drop, Badmail. Thread: any; no state but a counter for TMP names.
//! Not here: when a step is due, and in which order steps follow each other (engine).

use super::error::{DiskError, Result};
use super::evidence::read_unseen;
use super::gather::Gatherings;
use super::hanging::asking;
use super::names::{NodeName, QueueName, taken_in};
use super::volume::Volume;
use crate::config::Folders;
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use rustix::fs::{CWD, RenameFlags};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{PoisonError, RwLock};
use tracing::warn;

/// One mailroot as one node sees it.
#[derive(Debug)]
pub struct Spool {
    folders: Folders,
    volumes: Volumes,
    pub(super) gatherings: Gatherings,
    node: RwLock<NodeName>,
    pub(super) next_tmp: AtomicU64,
}

/// The volumes that mail is moved to and taken from.
#[derive(Debug)]
struct Volumes {
    pickup: Volume,
    queue: Volume,
    drop: Volume,
    badmail: Volume,
}

/// Records of higher lives are not looked for where the life is not known.
const MOST_LIVES: u32 = 31;

/// Folders that files are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// Messages we answer for, and their ENV
    Queue,
    /// Mail for local domains
    Drop,
    /// What could be neither delivered nor returned
    Badmail,
}

/// What the fence sees of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// The name is there.
    Ours,
    /// Somebody took it.
    Gone,
    /// The disk does not say.
    Unknown,
}

impl Spool {
    /// A view of the tree for `node`. Touches nothing.
    pub fn new(folders: Folders, node: NodeName) -> Self {
        let volumes = Volumes {
            pickup: Volume::of(&folders.pickup),
            queue: Volume::of(&folders.queue),
            drop: Volume::of(&folders.drop),
            badmail: Volume::of(&folders.badmail),
        };
        Self {
            folders,
            volumes,
            gatherings: Gatherings::default(),
            node: RwLock::new(node),
            next_tmp: AtomicU64::new(1),
        }
    }

    /// The name of this process.
    pub fn node(&self) -> NodeName {
        self.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on under another name: what was claimed under the former one is no longer ours.
    pub fn rename_node(&self, node: NodeName) {
        *self.node.write().unwrap_or_else(PoisonError::into_inner) = node;
    }

    /// Where the folders are.
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Whether Pickup and Queue are where they were: nothing is claimed into the place that an unmounted volume has
    /// left.
    pub fn claims_are_possible(&self) -> Result<()> {
        let _asking = asking("look at", &self.folders.queue);
        let in_place =
            |volume: &Volume, path: &Path| volume.is_in_place().map_err(DiskError::when("use", path));
        in_place(&self.volumes.pickup, &self.folders.pickup)?;
        in_place(&self.volumes.queue, &self.folders.queue)
    }

    /// Arrow 1, **claim**: `Pickup/name` → `Queue/ID@NODE.EML`. `false`: somebody else has it, or it is gone.
    ///
    /// When Pickup is another volume, the rename that decides happens inside Pickup, and a synced copy is made
    /// before anything is sent.
    pub fn claim_from_pickup(&self, name: &OsStr, id: MessageId) -> Result<bool> {
        let from = self.folders.pickup.join(name);
        let to = self.taken(id);
        match self.rename(&from, &to, false) {
            Err(error) if error.is_other_volume() => self.claim_across_volumes(&from, id),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(true),
        }
    }

    /// What was swapped in between the look and the claim, and is no message, goes back to Pickup: under its name, or
    /// under that of the message if its own is taken by now. Nothing is replaced, nothing is opened.
    pub fn return_to_pickup(&self, id: MessageId, name: Option<&OsStr>) -> Result<()> {
        let own = self.folders.pickup.join(id.to_string());
        let to = name.map_or(own, |name| self.folders.pickup.join(name));
        self.put_back(&self.taken(id), &to, id)
    }

    pub(super) fn put_back(&self, from: &Path, to: &Path, id: MessageId) -> Result<()> {
        match self.rename(from, to, true) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                self.rename(from, &self.folders.pickup.join(id.to_string()), true)
            }
            other => other,
        }
    }

    /// Arrow 1, **claim**: `Queue/ID.EML` → `Queue/ID@NODE.EML`. `false`: somebody else has it, or it is gone.
    pub fn claim_waiting(&self, id: MessageId) -> Result<bool> {
        match self.rename(&self.waiting(id), &self.taken(id), true) {
            Ok(()) => Ok(true),
            Err(error) if error.is_gone() || error.source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Arrow 2, **record**: puts `ID.ENV`. Returns when it is durable.
    pub fn record(&self, id: MessageId, env: &[u8]) -> Result<()> {
        self.put(Shelf::Queue, &QueueName::Env(id).to_string(), &mut |file| {
            file.write_all(env)
        })
    }

    /// Arrow 3, **release**: `ID@NODE.EML` → `ID.EML`. The record comes before.
    pub fn release(&self, id: MessageId) -> Result<()> {
        let (from, to) = (self.taken(id), self.waiting(id));
        match self.rename(&from, &to, true) {
            // An empty file is no message: somebody touched the name while we had the message.
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists && is_empty(&to) => {
                self.rename(&from, &to, false)
            }
            // Somebody put a copy of the message back while we had it; ours knows what became of it.
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                let held = self.in_queue(&QueueName::Held(id));
                self.rename(&to, &held, true)?;
                warn!(%id, "a second file of this message lay in Queue; it is set aside as {id}.HOLD");
                self.rename(&from, &to, true)
            }
            other => other,
        }
    }

    /// Arrow 7, **remove**: at this instant the message is done. What it leaves behind goes after the next sync
    /// of the folder, by [`Self::sweep`]. `false`: it was not there, somebody else has it, and what belongs to it is
    /// his.
    pub fn remove(&self, id: MessageId) -> Result<bool> {
        let path = self.taken(id);
        let _asking = asking("remove", &path);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DiskError::when("remove", &path)(error)),
        }
    }

    /// Removes ENV and transcripts of these messages, of all lives up to theirs. The message files are gone, durably.
    /// What cannot be removed does not keep the rest; the error is the first one.
    pub fn sweep(&self, ids: &[MessageId]) -> Result<()> {
        let mut result = Ok(());
        let mut swept_older = Ok(());
        let aged: Vec<&MessageId> = ids.iter().filter(|id| id.life > 0).collect();
        for id in &aged {
            for life in 0..id.life {
                swept_older = swept_older.and(self.sweep_life(MessageId { life, ..**id }));
            }
        }
        if !aged.is_empty() {
            // A power cut must not keep an old record and drop the newest: a report could wait for it.
            swept_older = swept_older.and_then(|()| self.sync_queue());
        }
        for id in ids.iter().filter(|id| id.life == 0 || swept_older.is_ok()) {
            result = result.and(self.sweep_life(*id));
        }
        swept_older.and(result)
    }

    fn sweep_life(&self, id: MessageId) -> Result<()> {
        [
            QueueName::Env(id),
            QueueName::LocalTranscript(id),
            QueueName::RemoteTranscript(id),
        ]
        .iter()
        .try_for_each(|name| self.unlink(&self.in_queue(name)))
    }

    /// Takes a message from a dead owner: `ID@PEER.EML` → `ID-1.EML`. `false`: it is gone, or another node did it at
    /// the same time.
    pub fn take_over(&self, id: MessageId, peer: &NodeName) -> Result<bool> {
        let from = self.in_queue(&QueueName::Taken(id, peer.clone()));
        match self.rename(&from, &self.waiting(id.next_life()), true) {
            Ok(()) => Ok(true),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists && is_gone(&from) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Part of the fence: whether `ID@NODE.EML` is still there.
    pub fn claim_state(&self, id: MessageId) -> ClaimState {
        let path = self.taken(id);
        let _asking = asking("look at", &path);
        match rustix::fs::access(&path, rustix::fs::Access::EXISTS) {
            Ok(()) => ClaimState::Ours,
            Err(rustix::io::Errno::NOENT) => ClaimState::Gone,
            Err(_) => ClaimState::Unknown,
        }
    }

    /// What the transcripts of all lives say, each cut to its last `limit` bytes: (LTR, RTR).
    pub fn transcripts(&self, id: MessageId, limit: usize) -> (String, String) {
        let gather = |name: fn(MessageId) -> QueueName| {
            let mut text = String::new();
            for life in 0..=id.life {
                let bytes = std::fs::read(self.in_queue(&name(MessageId { life, ..id }))).unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            let from = text.len().saturating_sub(limit);
            let from = (from..text.len())
                .find(|&at| text.is_char_boundary(at))
                .unwrap_or(text.len());
            text.split_off(from)
        };
        (
            gather(QueueName::LocalTranscript),
            gather(QueueName::RemoteTranscript),
        )
    }

    /// The newest record that is not above this life; `None` when there is none.
    pub fn read_env(&self, id: MessageId) -> Result<Option<Vec<u8>>> {
        newest_env(&self.folders.queue, id, |name| {
            let path = self.in_queue(name);
            let _asking = asking("read", &path);
            read_unseen(&path)
        })
    }

    /// The newest record of a message whose life is not known. Lives are few: names are tried, Queue is not listed.
    pub fn newest_env(&self, ulid: Ulid) -> Result<Option<Vec<u8>>> {
        self.read_env(MessageId {
            ulid,
            life: MOST_LIVES,
        })
    }

    /// Appends to a transcript; not synced, never read back as truth.
    pub fn append(&self, name: &QueueName, text: &str) -> Result<()> {
        let path = self.in_queue(name);
        let _asking = asking("append to", &path);
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(DiskError::when("append to", &path))
    }

    /// Syncs what a message that stays needs: its bytes, and the claim that brought it here.
    pub fn make_durable(&self, id: MessageId) -> Result<()> {
        let path = self.taken(id);
        let _asking = asking("sync", &path);
        let file = File::open(&path).map_err(DiskError::when("open", &path))?;
        file.sync_data().map_err(DiskError::when("sync", &path))
    }

    /// Makes the names in Queue durable: claims, and records that another node may not have synced.
    pub fn sync_queue(&self) -> Result<()> {
        self.sync_shelf(Shelf::Queue)
    }

    /// Makes durable what went out of Pickup: else a power cut could bring it back beside what it became in Queue.
    pub fn sync_pickup(&self) -> Result<()> {
        sync_folder(&self.folders.pickup)
    }

    /// Syncs the folders that messages leave from, so that what went is proven gone.
    pub fn sync_removals(&self) -> Result<()> {
        self.sync_queue().and_then(|()| self.sync_pickup())
    }

    /// Unlinks a file of ours in Queue that no message needs any more.
    pub fn unlink(&self, path: &Path) -> Result<()> {
        let _asking = asking("remove", path);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::when("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Path of a name in Queue.
    pub fn in_queue(&self, name: &QueueName) -> PathBuf {
        self.folders.queue.join(name.to_string())
    }

    /// Path of the message file while it is ours.
    pub fn taken(&self, id: MessageId) -> PathBuf {
        taken_in(&self.folders.queue, id, &self.node())
    }

    /// Path of the message file while it waits.
    pub fn waiting(&self, id: MessageId) -> PathBuf {
        self.folders.queue.join(format!("{id}.EML"))
    }

    /// The volume of a folder that files are put into.
    pub(super) fn volume(&self, shelf: Shelf) -> &Volume {
        match shelf {
            Shelf::Queue => &self.volumes.queue,
            Shelf::Drop => &self.volumes.drop,
            Shelf::Badmail => &self.volumes.badmail,
        }
    }

    /// Path of a folder that files are put into.
    pub fn folder(&self, shelf: Shelf) -> &Path {
        match shelf {
            Shelf::Queue => &self.folders.queue,
            Shelf::Drop => &self.folders.drop,
            Shelf::Badmail => &self.folders.badmail,
        }
    }

    /// One rename. When it reports an error, the names say whether it happened all the same: a network file
    /// system may have done it and lost the answer.
    pub(super) fn rename(&self, from: &Path, to: &Path, keep_existing: bool) -> Result<()> {
        let _asking = asking("rename", from);
        let result = if keep_existing {
            rename_no_replace(from, to)
        } else {
            std::fs::rename(from, to)
        };
        let Err(error) = result else { return Ok(()) };
        let kind = error.kind();
        let decided = matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists | io::ErrorKind::CrossesDevices
        );
        if decided && kind != io::ErrorKind::NotFound {
            return Err(DiskError::when("rename", from)(error));
        }
        if is_gone(from) && to.symlink_metadata().is_ok() {
            return Ok(());
        }
        Err(DiskError::when("rename", from)(error))
    }
}

/// `RENAME_NOREPLACE` where the storage knows it, a look before the rename where it does not.
pub(super) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// Whether nothing bears that name. What cannot be asked is not gone.
pub fn is_gone(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn is_empty(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let _asking = asking("sync", folder);
    let file = File::open(folder).map_err(DiskError::when("open", folder))?;
    file.sync_all()
        .map_err(DiskError::when("sync the folder", folder))
}

/// See [`Spool::read_env`].
pub(super) fn newest_env(
    queue: &Path,
    id: MessageId,
    read: impl Fn(&QueueName) -> io::Result<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    for life in (0..=id.life).rev() {
        let name = QueueName::Env(MessageId { life, ..id });
        // Some storage shows nothing for a moment while a file is being replaced: who finds none looks again.
        let found = match read(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => read(&name),
            found => found,
        };
        match found {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::when("read", &queue.join(name.to_string()))(error)),
        }
    }
    Ok(None)
}

/// Modification time in nanoseconds since the Unix epoch.
pub fn mtime_nanos(meta: &std::fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}
