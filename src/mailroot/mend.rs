//! After a sync has failed: writing anew what may be lost, and showing that a folder takes files again.
//!
//! Reads and writes: a message of ours in Queue; a file that nobody needs, in any folder. Thread: whoever records;
//! mender. Not here: when a disk is believed (engine).

use super::error::{DiskError, Result};
use super::hanging::asking;
use super::spool::{Shelf, Spool, sync_folder};
use crate::mail::MessageId;
use std::fs::{FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

impl Spool {
    /// After a sync of it failed: writes the bytes of a message of ours over themselves, so that the next sync has
    /// something to write. The system may call pages written that it could not write. Never makes a file.
    pub fn rewrite(&self, id: MessageId) -> Result<()> {
        let path = self.taken(id);
        let _asking = asking("write again", &path);
        let again = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            let meta = file.metadata()?;
            let mut block = vec![0; 64 * 1024];
            let mut at = 0;
            loop {
                let n = file.read_at(&mut block, at)?;
                let Some(read) = block.get(..n).filter(|read| !read.is_empty()) else {
                    break;
                };
                file.write_all_at(read, at)?;
                at += n as u64;
            }
            // A time that changes would pass for an operator's touch.
            file.set_times(FileTimes::new().set_modified(meta.modified()?))
        };
        again().map_err(DiskError::when("write again", &path))
    }

    /// Shows that a folder takes a whole put: write, sync, rename, sync of the folder. Leaves nothing.
    pub fn prove(&self, shelf: Shelf) -> Result<()> {
        let name = self.next_tmp(shelf);
        self.put(shelf, &name, &mut |file| file.write_all(&[b'-'; 4096]))?;
        self.unlink(&self.folder(shelf).join(&name))?;
        sync_folder(self.folder(shelf))
    }
}
