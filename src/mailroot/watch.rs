//! Watching Pickup: a wake-up that shortens the wait (contract §4). The scan is the truth; losing every event here
//! costs at most one `pickup.poll`.
//!
//! Reads: change notifications. Writes: nothing. Thread: notify's own, which only fills [`Hints`].

use crossbeam_channel::Sender;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

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
    /// A name was not noted, or the system says that it has lost some.
    lost: AtomicBool,
}

/// Above this the names are dropped: a whole scan finds them.
const MAX_HINTS: usize = 16_384;

impl Hints {
    /// What came in since the last call.
    pub fn take(&self) -> HashMap<OsString, Happened> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something may have come in of which nothing was told.
    pub fn are_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// A whole listing begins: it shows all that was lost.
    pub fn forget_losses(&self) {
        self.lost.store(false, Ordering::SeqCst);
    }

    fn note(&self, name: OsString, what: Happened) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MAX_HINTS || names.contains_key(&name) {
            let entry = names.entry(name).or_insert(what);
            *entry = what; // a write after a rename needs its quiet time again
        } else {
            self.note_loss();
        }
    }

    fn note_loss(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }
}

/// Watches one folder, also when that is removed and made again.
pub struct Watcher {
    folder: PathBuf,
    wanted: bool,
    hints: Arc<Hints>,
    wake: Sender<()>,
    watch: Option<Watch>,
    failing: bool,
}

/// A watch on a folder as it was when the watch began; dropping it ends the watch.
struct Watch {
    _watcher: RecommendedWatcher,
    /// Device and number of the folder: a watch does not follow a name.
    folder: (u64, u64),
}

impl Watcher {
    /// Watches `folder` when that is wanted and can be done; what happens is noted in `hints`, then `wake` is poked.
    pub fn start(folder: &Path, wanted: bool, hints: Arc<Hints>, wake: Sender<()>) -> Self {
        let mut watcher = Self {
            folder: folder.to_owned(),
            wanted,
            hints,
            wake,
            watch: None,
            failing: false,
        };
        watcher.follow();
        watcher
    }

    /// Whether notifications can come.
    pub fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    /// Begins a watch if there is none on the folder that has the name now. Cheap when there is.
    pub fn follow(&mut self) {
        if !self.wanted {
            return;
        }
        let Ok(meta) = self.folder.metadata() else {
            return; // said by whoever lists it
        };
        let now = (meta.dev(), meta.ino());
        if self.watch.as_ref().is_some_and(|watch| watch.folder == now) {
            return;
        }
        match self.begin() {
            Ok(watcher) => {
                self.failing = false;
                self.watch = Some(Watch {
                    _watcher: watcher,
                    folder: now,
                });
            }
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(%error, "Pickup cannot be watched; it is looked at every pickup.poll");
            }
            Err(_) => {}
        }
    }

    fn begin(&self) -> Result<RecommendedWatcher, notify::Error> {
        let (hints, wake) = (Arc::clone(&self.hints), self.wake.clone());
        // On notify's thread: must neither block nor panic.
        let wake = move || {
            let _ = wake.try_send(());
        };
        let mut own = Own::default();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else {
                hints.note_loss();
                return wake();
            };
            if let Some(what) = meaning(&event.kind) {
                for name in event.paths.iter().filter_map(|path| path.file_name()) {
                    hints.note(name.to_owned(), what);
                }
                wake();
            } else if event.need_rescan() {
                hints.note_loss();
                wake();
            } else {
                own.note();
            }
        })?;
        watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// What we do in the folder ourselves is told us too: each file that is opened, each that is claimed. While that is all
/// there is, and much of it, notify's thread lets some come together instead of being woken by each.
#[derive(Default)]
struct Own {
    /// Since when they are counted, and how many there were.
    counted: Option<(Instant, u32)>,
    /// There were many in the last count.
    many: bool,
    last: Option<Instant>,
    napped: Option<Instant>,
}

impl Own {
    /// So many within a [`Self::COUNT`] are many.
    const MANY: u32 = 200;
    const COUNT: Duration = Duration::from_millis(100);
    const PAUSE: Duration = Duration::from_millis(20);
    /// What else happens is noticed so much later at most.
    const NAP: Duration = Duration::from_millis(2);

    fn note(&mut self) {
        let now = Instant::now();
        // After a pause it is not the same work any more.
        if self
            .last
            .replace(now)
            .is_none_or(|last| now.duration_since(last) > Self::PAUSE)
        {
            self.many = false;
            self.counted = None;
        }
        let (since, count) = self.counted.get_or_insert((now, 0));
        *count += 1;
        if now.duration_since(*since) >= Self::COUNT {
            self.many = *count >= Self::MANY;
            self.counted = None;
        }
        // One nap for all that have come together in the last one.
        let rested = self.napped.is_none_or(|at| now.duration_since(at) > Self::NAP);
        if self.many && rested {
            std::thread::sleep(Self::NAP);
            self.napped = Some(Instant::now());
        }
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

    #[test]
    fn a_rename_in_and_a_write_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let pickup = dir.path().join("Pickup");
        std::fs::create_dir(&pickup).unwrap();
        let hints = Arc::new(Hints::default());
        let (tx, rx) = crossbeam_channel::bounded(1);
        let _watch = Watcher::start(&pickup, true, Arc::clone(&hints), tx);
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

    #[test]
    fn more_names_than_are_kept_are_a_loss_until_the_next_listing() {
        let hints = Hints::default();
        (0..MAX_HINTS).for_each(|n| hints.note(n.to_string().into(), Happened::Changed));
        hints.note("0".into(), Happened::RenamedIn);
        assert!(!hints.are_lost());
        hints.note("one more".into(), Happened::Changed);
        assert!(hints.are_lost());
        hints.forget_losses();
        assert!(!hints.are_lost());
    }

    #[test]
    fn a_folder_that_was_made_again_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let pickup = dir.path().join("Pickup");
        std::fs::create_dir(&pickup).unwrap();
        let hints = Arc::new(Hints::default());
        let (tx, rx) = crossbeam_channel::bounded(1);
        let mut watch = Watcher::start(&pickup, true, Arc::clone(&hints), tx);
        std::fs::rename(&pickup, dir.path().join("away")).unwrap();
        watch.follow();
        std::fs::create_dir(&pickup).unwrap();
        watch.follow();
        std::fs::write(pickup.join("written"), "x").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seen = HashMap::new();
        while !seen.contains_key(&OsString::from("written")) && Instant::now() < deadline {
            let _ = rx.recv_timeout(Duration::from_millis(100));
            seen.extend(hints.take());
        }
        assert!(seen.contains_key(&OsString::from("written")), "{seen:?}");
    }
}
