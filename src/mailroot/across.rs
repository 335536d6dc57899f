//! A claim when Pickup is another volume than Queue: two steps, between which the file is `Pickup/.ID@NODE.EML`
//! (contract §3, arrow 1).
//!
//! Reads and writes: Pickup, Queue. Thread: intake's pool; keeper, for what was left between the steps. Not here:
//! whose half-made claims are finished (engine).

use super::error::{DiskError, Result};
use super::evidence::{open_plain, open_single, strange};
use super::names::QueueName;
use super::spool::{Shelf, Spool, is_other_volume, sync_folder};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

impl Spool {
    /// Both steps. `false`: somebody else has it, or it is no message.
    pub(super) fn claim_across_volumes(&self, from: &Path, id: MessageId) -> Result<bool> {
        let decided = self.half_claimed(id);
        match self.rename(from, &decided, false) {
            Err(error) if error.is_gone() => return Ok(false),
            other => other?,
        }
        // A link, a FIFO, a folder that was swapped in before the rename: it is nothing to copy.
        if let Ok(Some(_)) = strange(&decided) {
            self.put_back(&decided, from, id)?;
            return Ok(false);
        }
        self.bring_in(&decided, id)?;
        Ok(true)
    }

    /// The second half of a claim across volumes: copy, sync, rename into Queue, unlink the former, sync its folder.
    pub fn bring_in(&self, decided: &Path, id: MessageId) -> Result<()> {
        // As long as it is now: a file that grows for ever is not followed.
        let single = |path: &Path| {
            let file = open_single(path)?;
            let len = file.metadata()?.len();
            Ok(file.take(len))
        };
        let mut source = single(decided).map_err(DiskError::when("open", decided))?;
        let name = QueueName::Taken(id, self.node().clone()).to_string();
        self.put(Shelf::Queue, &name, &mut |file| {
            io::copy(&mut source, file).map(drop)
        })?;
        std::fs::remove_file(decided).map_err(DiskError::when("remove", decided))?;
        sync_folder(&self.folders().pickup)
    }

    /// Finishes what a dead node, or a step of ours that reported an error, left in Pickup between its two steps:
    /// `decided` is `Pickup/.ID@PEER.EML`, and `copies` are the message files of that ULID in Queue. Returns the
    /// message that it became, `None` when its copy was there already.
    ///
    /// Everyone may put names into Pickup, this one too. So the name alone says nothing about a message in Queue, and
    /// takes none of its names: unless Queue holds the very same bytes, it is a message of its own.
    pub fn finish_half_claim(&self, decided: &Path, copies: &[QueueName]) -> Result<Option<MessageId>> {
        for copy in copies {
            if self.is_copy(decided, &self.in_queue(copy))? {
                // Once its name is durable only the former is left to go.
                sync_folder(&self.folders().queue)?;
                self.unlink(decided)?;
                sync_folder(&self.folders().pickup)?;
                return Ok(None);
            }
        }
        let id = MessageId::generate();
        match self.rename(decided, &self.waiting(id), true) {
            Ok(()) => return Ok(Some(id)),
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) if is_other_volume(&error) => {}
            Err(error) => return Err(error),
        }
        let ours = self.half_claimed(id);
        match self.rename(decided, &ours, false) {
            Err(error) if error.is_gone() => return Ok(None),
            other => other?,
        }
        self.bring_in(&ours, id)?;
        self.release(id)?;
        Ok(Some(id))
    }

    /// Whether a file of Queue holds what `decided` holds.
    fn is_copy(&self, decided: &Path, in_queue: &Path) -> Result<bool> {
        let open = |path: &Path| {
            let file = open_plain(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (mut one, one_len) = open(decided).map_err(DiskError::when("open", decided))?;
        let (mut other, other_len) = open(in_queue).map_err(DiskError::when("open", in_queue))?;
        if one_len != other_len {
            return Ok(false);
        }
        same_bytes(&mut one, &mut other).map_err(DiskError::when("read", decided))
    }

    fn half_claimed(&self, id: MessageId) -> PathBuf {
        let name = format!(".{}", QueueName::Taken(id, self.node().clone()));
        self.folders().pickup.join(name)
    }

    /// The message files in Queue of those ULIDs for which `is_wanted` says so, whatever their life and owner.
    pub fn messages(&self, is_wanted: impl Fn(Ulid) -> bool) -> Result<HashMap<Ulid, Vec<QueueName>>> {
        let queue = &self.folders().queue;
        let mut found: HashMap<Ulid, Vec<QueueName>> = HashMap::new();
        for entry in std::fs::read_dir(queue).map_err(DiskError::when("list", queue))? {
            let entry = entry.map_err(DiskError::when("list", queue))?;
            let name = QueueName::parse(&entry.file_name());
            if let Some(QueueName::Waiting(id) | QueueName::Taken(id, _) | QueueName::Held(id)) = &name
                && is_wanted(id.ulid)
            {
                found.entry(id.ulid).or_default().extend(name);
            }
        }
        Ok(found)
    }
}

fn same_bytes(one: &mut File, other: &mut File) -> io::Result<bool> {
    let mut other = BufReader::with_capacity(64 * 1024, other).bytes();
    for byte in BufReader::with_capacity(64 * 1024, one).bytes() {
        if other.next().transpose()? != Some(byte?) {
            return Ok(false);
        }
    }
    Ok(other.next().is_none())
}
