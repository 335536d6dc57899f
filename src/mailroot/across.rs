//! A claim when Pickup is another volume than Queue: two steps, between which the file is `Pickup/.ID@NODE.EML`
//! (contract §3, arrow 1).
//!
//! Reads and writes: Pickup, Queue. Thread: intake's pool; keeper, for what was left between the steps. Not here:
//! whose half-made claims are finished (engine).

use super::error::{DiskError, Result};
use super::evidence::{open_plain, open_single, strange};
use super::hanging;
use super::names::{NodeName, QueueName};
use super::spool::{Shelf, Spool, sync_folder};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

impl Spool {
    /// Both steps. `false`: somebody else has it, or it is no message.
    pub(super) fn claim_across_volumes(&self, from: &Path, id: MessageId) -> Result<bool> {
        // Taken once: should we go on under another name meanwhile, all of this still bears the former one.
        let node = self.node();
        let decided = self.half_claimed(id, &node);
        match self.rename(from, &decided, false) {
            Err(error) if error.is_gone() => return Ok(false),
            other => other?,
        }
        // A link, a FIFO, a folder that was swapped in before the rename: it is nothing to copy.
        if let Ok(Some(_)) = strange(&decided) {
            self.put_back(&decided, from, id)?;
            return Ok(false);
        }
        // Else a power cut could keep the copy and bring the former name back.
        sync_folder(&self.folders().pickup)?;
        self.bring_in(&decided, id, &node)
    }

    /// The second half of a claim across volumes: copy, sync, rename into Queue, unlink the former, sync its folder.
    /// `false`: somebody took it over meanwhile, and our copy is worthless. The file in Pickup decides who has it.
    fn bring_in(&self, decided: &Path, id: MessageId, node: &NodeName) -> Result<bool> {
        // As long as it is now: a file that grows for ever is not followed.
        let single = |path: &Path| {
            let file = open_single(path)?;
            let len = file.metadata()?.len();
            Ok(file.take(len))
        };
        let mut source = single(decided).map_err(DiskError::when("open", decided))?;
        let name = QueueName::Taken(id, node.clone());
        self.put(Shelf::Queue, &name.to_string(), &mut |file| {
            io::copy(&mut source, file)?;
            decided.symlink_metadata().map(drop) // a look before the rename: copying may have taken long
        })?;
        match std::fs::remove_file(decided) {
            Ok(()) => sync_folder(&self.folders().pickup).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.unlink(&self.in_queue(&name))?;
                Ok(false)
            }
            Err(error) => Err(DiskError::when("remove", decided)(error)),
        }
    }

    /// Finishes what a dead node, or a step of ours that reported an error, left in Pickup between its two steps:
    /// `decided` is `Pickup/.ID@NODE.EML`, and `copies` are the message files of that ULID in Queue. Returns the
    /// message that it became, `None` when that was there already, or somebody else has it.
    ///
    /// A copy that NODE itself made, or one before it, is not believed: it may be frozen just there, and will remove
    /// it. Everyone may put
    /// names into Pickup, this one too: unless Queue holds the very same bytes, the name says nothing about a message
    /// there, and what lies in Pickup is a message of its own.
    pub fn finish_half_claim(
        &self,
        decided: &Path,
        id: MessageId,
        node: &NodeName,
        copies: &[QueueName],
    ) -> Result<Option<MessageId>> {
        let mut is_foreign = false;
        for copy in copies {
            if !self.is_copy(decided, &self.in_queue(copy))? {
                is_foreign = true;
            } else if !matches!(copy, QueueName::Taken(found, _) if found.life <= id.life) {
                // It was finished. Once that name is durable only the former is left to go.
                sync_folder(&self.folders().queue)?;
                self.unlink(decided)?;
                sync_folder(&self.folders().pickup)?;
                return Ok(None);
            }
        }
        let own = self.node();
        let becomes = match (is_foreign, *node == own) {
            (true, _) => MessageId::generate(),
            (false, true) => id, // begun again: a disk that is full does not make it older
            (false, false) => id.next_life(),
        };
        let ours = self.half_claimed(becomes, &own);
        if ours != decided {
            match self.rename(decided, &ours, false) {
                Err(error) if error.is_gone() => return Ok(None),
                other => other?,
            }
            sync_folder(&self.folders().pickup)?;
        }
        if !is_foreign {
            // Of NODE, and of those from whom NODE had taken it over.
            for copy in copies {
                self.unlink(&self.in_queue(copy))?;
            }
        }
        if !self.bring_in(&ours, becomes, &own)? {
            return Ok(None);
        }
        self.release(becomes)?;
        Ok(Some(becomes))
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

    fn half_claimed(&self, id: MessageId, node: &NodeName) -> PathBuf {
        let name = format!(".{}", QueueName::Taken(id, node.clone()));
        self.folders().pickup.join(name)
    }

    /// The message files in Queue of those ULIDs for which `is_wanted` says so, whatever their life and owner.
    pub fn messages(&self, is_wanted: impl Fn(Ulid) -> bool) -> Result<HashMap<Ulid, Vec<QueueName>>> {
        let queue = &self.folders().queue;
        let mut found: HashMap<Ulid, Vec<QueueName>> = HashMap::new();
        for entry in hanging::read_dir(queue).map_err(DiskError::when("list", queue))? {
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
