//! Watching Pickup: a wake-up that shortens the wait (contract §4). The scan is the truth; losing every event here
//! costs at most one `pickup.poll`.
//!
//! Reads: change notifications. Writes: nothing. Thread: notify's own, which only fills [`Hints`].

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What happened to a name since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happened {
    /// Written, created or closed: worth a look.
    Changed,
    /// Renamed in, whole: no quiet time is asked of it.
    RenamedIn,
}

/// Names worth a look, collected until the intake takes them.
#[derive(Debug, Default)]
pub struct Hints {
    names: Mutex<HashMap<OsString, Happened>>,
}

/// Above this the names are dropped: the wake-up leads to a whole scan all the same.
const MAX_HINTS: usize = 16_384;

impl Hints {
    /// What came in since the last call.
    pub fn take(&self) -> HashMap<OsString, Happened> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, name: OsString, what: Happened) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MAX_HINTS || names.contains_key(&name) {
            let entry = names.entry(name).or_insert(what);
            *entry = what; // a write after a rename needs its quiet time again
        }
    }
}

/// Watches one folder; dropping it ends the watch.
pub struct Watch {
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Starts watching `folder`; `wake` must not block and must not panic.
    pub fn start(
        folder: &Path,
        hints: Arc<Hints>,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, notify::Error> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return wake() };
            if let Some(what) = meaning(&event.kind) {
                for name in event.paths.iter().filter_map(|path| path.file_name()) {
                    hints.note(name.to_owned(), what);
                }
                wake();
            } else if event.need_rescan() {
                wake();
            }
        })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher })
    }
}

fn meaning(kind: &EventKind) -> Option<Happened> {
    match kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Some(Happened::RenamedIn),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Create(_) => {
            Some(Happened::Changed)
        }
        // A link count that fell is a metadata change: writers that publish by link and unlink.
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Happened::Changed),
        // Some file systems do not say what changed.
        EventKind::Any | EventKind::Modify(ModifyKind::Any) => Some(Happened::Changed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_rename_in_and_a_write_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let pickup = dir.path().join("Pickup");
        std::fs::create_dir(&pickup).unwrap();
        let hints = Arc::new(Hints::default());
        let (tx, rx) = crossbeam_channel::bounded(1);
        let _watch = Watch::start(&pickup, Arc::clone(&hints), move || {
            let _ = tx.try_send(());
        })
        .unwrap();
        std::fs::write(dir.path().join("x"), "x").unwrap();
        std::fs::rename(dir.path().join("x"), pickup.join("moved")).unwrap();
        std::fs::write(pickup.join("written"), "x").unwrap();

        let mut seen = HashMap::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while seen.len() < 2 && Instant::now() < deadline {
            let _ = rx.recv_timeout(Duration::from_millis(100));
            seen.extend(hints.take());
        }
        assert_eq!(seen.get(&OsString::from("moved")), Some(&Happened::RenamedIn));
        assert_eq!(seen.get(&OsString::from("written")), Some(&Happened::Changed));
    }
}
