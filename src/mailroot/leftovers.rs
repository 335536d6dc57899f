//! What processes that ended left unfinished, and what proofs of the storage left that were killed: it goes.
//!
//! Reads and writes: TMP files in all folders of the tree. Thread: keeper. Not here: messages (takeover), ENV and
//! transcripts without a message (orphans).

use super::names::{NodeName, QueueName};
use super::spool::Spool;
use super::tree;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

impl Spool {
    /// Removes TMP files of nodes that are no more from the folders that others read.
    pub fn remove_temporaries(&self, is_worthless: &dyn Fn(&NodeName) -> bool) {
        for folder in [&self.folders().drop, &self.folders().badmail] {
            remove_temporaries_from(folder, &|node, _| !node.is_probe() && is_worthless(node));
        }
    }

    /// Removes what processes left that were killed while they put the storage to the proof: from Queue, which is long to
    /// list, what a listing has shown; from the other folders what they hold.
    pub fn remove_old_probes(&self, in_queue: &[PathBuf]) {
        for path in in_queue.iter().filter(|path| is_old(path)) {
            let _ = std::fs::remove_file(path);
        }
        let folders = tree::folders(self.folders());
        for folder in folders
            .iter()
            .filter(|folder| *folder.path != self.folders().queue)
        {
            remove_temporaries_from(folder.path, &|node, path| node.is_probe() && is_old(path));
        }
    }
}

/// Whether a name is one of those that proofs of the storage make.
pub fn is_probe(name: &OsStr) -> bool {
    let bare = name.to_str().and_then(|name| name.strip_prefix('.'));
    let parsed = bare.and_then(|name| QueueName::parse(name.as_ref()));
    matches!(parsed, Some(QueueName::Temporary(node)) if node.is_probe())
}

fn remove_temporaries_from(folder: &Path, is_worthless: &dyn Fn(&NodeName, &Path) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().map(|name| name.strip_prefix('.').unwrap_or(name)) else {
            continue;
        };
        if let Some(QueueName::Temporary(node)) = QueueName::parse(name.as_ref())
            && is_worthless(&node, &entry.path())
        {
            let _ = std::fs::remove_file(entry.path()); // worthless; the next start tries again
        }
    }
}

/// So long ago that no proof of the storage can still be at work on it.
fn is_old(path: &Path) -> bool {
    const OLD: std::time::Duration = std::time::Duration::from_secs(300);
    let written = path.symlink_metadata().and_then(|meta| meta.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > OLD))
}
