//! Calls to the storage that have not returned: a disk that hangs gives no error, and without a word nobody knows why
//! the mail waits.
//!
//! Each thread notes what it asks for while it waits ([`asking`]); one that does not touch the storage looks
//! ([`Watch`]). Reads and writes nothing. Not here: what is done about it (nothing can be: the call returns or not).

use std::cell::RefCell;
use std::fs::{DirEntry, ReadDir};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A call that takes longer is told.
pub const LONG: Duration = Duration::from_secs(5);

/// What one thread asks for: a call within a call stands behind it. Paths keep their buffers, for these are made for
/// every step of every message.
#[derive(Default)]
struct Calls {
    calls: Vec<(Instant, &'static str, PathBuf)>,
    /// So many of them have not returned.
    open: usize,
}

type Slot = Mutex<Calls>;

/// One slot for each thread that has ever asked; a slot goes with its thread.
static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static OURS: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// As long as it lives, this thread waits for the storage.
pub struct Asking(Option<Arc<Slot>>);

/// Notes that this thread asks the storage for something: `rename`, `sync`.
pub fn asking(doing: &'static str, path: &Path) -> Asking {
    let ours = OURS.try_with(|ours| Arc::clone(ours.borrow_mut().get_or_insert_with(new_slot)));
    let Ok(slot) = ours else { return Asking(None) };
    lock(&slot).begin(doing, path);
    Asking(Some(slot))
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            let mut calls = lock(slot);
            calls.open = calls.open.saturating_sub(1);
        }
    }
}

impl Calls {
    fn begin(&mut self, doing: &'static str, path: &Path) {
        let now = Instant::now();
        if let Some(call) = self.calls.get_mut(self.open) {
            (call.0, call.1) = (now, doing);
            call.2.as_mut_os_string().clear();
            call.2.push(path);
        } else {
            self.calls.push((now, doing, path.to_owned()));
        }
        self.open += 1;
    }

    /// The innermost call that has not returned.
    fn present(&self) -> Option<&(Instant, &'static str, PathBuf)> {
        self.open.checked_sub(1).and_then(|last| self.calls.get(last))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries of a folder; each step may hang.
pub fn read_dir(folder: &Path) -> io::Result<Entries> {
    let _asking = asking("list", folder);
    Ok(Entries {
        entries: std::fs::read_dir(folder)?,
        folder: folder.to_owned(),
    })
}

/// See [`read_dir`].
pub struct Entries {
    entries: ReadDir,
    folder: PathBuf,
}

impl Iterator for Entries {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let _asking = asking("list", &self.folder);
        self.entries.next()
    }
}

fn new_slot() -> Arc<Slot> {
    let slot = Arc::new(Slot::default());
    let mut slots = lock(&SLOTS);
    slots.retain(|slot| slot.strong_count() > 0);
    slots.push(Arc::downgrade(&slot));
    slot
}

/// The call that waits longest, if any waits longer than `long`, and how many do.
fn longest(long: Duration) -> Option<(&'static str, PathBuf, Duration, usize)> {
    let slots = lock(&SLOTS);
    let mut found: Option<(&'static str, PathBuf, Duration, usize)> = None;
    for slot in slots.iter().filter_map(Weak::upgrade) {
        let calls = lock(&slot);
        let Some((since, doing, path)) = calls.present() else {
            continue;
        };
        let waited = since.elapsed();
        if waited < long {
            continue;
        }
        let count = found.as_ref().map_or(0, |found| found.3) + 1;
        found = match found {
            Some(former) if former.2 >= waited => Some((former.0, former.1, former.2, count)),
            _ => Some((doing, path.clone(), waited, count)),
        };
    }
    found
}

/// Tells when the storage begins and ceases to hang.
#[derive(Default)]
pub struct Watch {
    hangs: bool,
}

impl Watch {
    /// To be called every second or so, by a thread that does not touch the storage.
    pub fn look(&mut self) {
        match longest(LONG) {
            Some((doing, path, waited, calls)) if !self.hangs => {
                self.hangs = true;
                warn!(
                    path = %path.display(),
                    seconds = waited.as_secs(),
                    calls,
                    "the storage does not answer (to {doing}): mail waits for it"
                );
            }
            None if self.hangs => {
                self.hangs = false;
                info!("the storage answers again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_returned_is_found_and_what_has_is_not() {
        let mine = |found: Option<(_, PathBuf, _, _)>| found.filter(|f| f.1.ends_with("hanging-test"));
        let path = Path::new("hanging-test");
        drop(asking("rename", path));
        assert!(mine(longest(Duration::ZERO)).is_none());
        let outer = asking("list", path);
        drop(asking("look at", Path::new("another")));
        assert_eq!(mine(longest(Duration::ZERO)).map(|found| found.0), Some("list"));
        drop(outer);
        let (go, wait) = crossbeam_channel::bounded::<()>(0);
        let other = std::thread::spawn(move || {
            let _asking = asking("sync", Path::new("hanging-test"));
            let _ = wait.recv();
        });
        let until = Instant::now() + Duration::from_secs(10);
        let hangs = || mine(longest(Duration::from_millis(300))).is_some();
        while !hangs() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(hangs());
        drop(go);
        other.join().unwrap();
        assert!(!hangs());
    }
}
