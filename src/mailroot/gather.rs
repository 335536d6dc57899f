//! One sync of a folder for all who wait for one: whoever comes while a sync runs waits for the next, which serves all
//! that have come meanwhile.
//!
//! A sync serves only what was done before it began. One that failed has failed for all whom it served, whatever a later
//! one says: the system may have dropped what it could not write.
//!
//! Reads and writes: nothing but the sync. Thread: any; the first of a group does the work.

use super::error::{DiskError, Result};
use super::spool::Shelf;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// The syncs of each folder that files are put into.
#[derive(Debug, Default)]
pub struct Gatherings {
    queue: Gathering,
    drop: Gathering,
    badmail: Gathering,
}

impl Gatherings {
    /// Those of one.
    pub fn of(&self, shelf: Shelf) -> &Gathering {
        match shelf {
            Shelf::Queue => &self.queue,
            Shelf::Drop => &self.drop,
            Shelf::Badmail => &self.badmail,
        }
    }
}

/// The syncs of one folder.
#[derive(Debug, Default)]
pub struct Gathering(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// For whom the next one is.
    next: Vec<Arc<Waiter>>,
}

/// One that waits; it alone is woken when there is something to tell.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    told: OnceLock<Told>,
}

#[derive(Debug)]
enum Told {
    /// To do the sync for itself and these.
    Lead(Mutex<Vec<Arc<Waiter>>>),
    /// How it ended.
    Ended(std::result::Result<(), Failure>),
}

#[derive(Debug, Clone)]
struct Failure {
    doing: &'static str,
    code: Option<i32>,
    kind: io::ErrorKind,
    words: String,
}

impl Gathering {
    /// Returns when a sync of `folder` that began after this call has ended. `sync` does one.
    pub fn sync(&self, folder: &Path, sync: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let others = match self.join() {
            None => Vec::new(),
            Some(waiter) => match waiter.wait() {
                Told::Ended(result) => return result.clone().map_err(|failure| failure.at(folder)),
                Told::Lead(others) => std::mem::take(&mut *lock(others)),
            },
        };
        // Whatever happens in it, the others are not left waiting.
        let mut running = Running {
            of: self,
            others,
            result: Err(Failure::UNKNOWN),
        };
        let result = sync(folder);
        running.result = result.as_ref().map(|&()| ()).map_err(Failure::of);
        result
    }

    /// `None`: none runs, and this thread does it.
    fn join(&self) -> Option<Arc<Waiter>> {
        let mut state = lock(&self.0);
        if !state.running {
            state.running = true;
            return None;
        }
        let waiter = Arc::new(Waiter {
            thread: std::thread::current(),
            told: OnceLock::new(),
        });
        state.next.push(Arc::clone(&waiter));
        Some(waiter)
    }

    /// Lets the next one begin: the first who waits does it for all who wait.
    fn pass_on(&self) {
        let mut state = lock(&self.0);
        let mut next = std::mem::take(&mut state.next);
        state.running = !next.is_empty();
        drop(state);
        if let Some(leader) = next.pop() {
            leader.tell(Told::Lead(Mutex::new(next)));
        }
    }
}

impl Waiter {
    fn wait(&self) -> &Told {
        loop {
            if let Some(told) = self.told.get() {
                return told;
            }
            std::thread::park();
        }
    }

    fn tell(&self, told: Told) {
        if self.told.set(told).is_ok() {
            self.thread.unpark();
        }
    }
}

struct Running<'a> {
    of: &'a Gathering,
    others: Vec<Arc<Waiter>>,
    result: std::result::Result<(), Failure>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.of.pass_on();
        for other in &self.others {
            other.tell(Told::Ended(self.result.clone()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Failure {
    const UNKNOWN: Self = Self {
        doing: "sync the folder",
        code: None,
        kind: io::ErrorKind::Other,
        words: String::new(),
    };

    fn of(error: &DiskError) -> Self {
        Self {
            doing: error.doing,
            code: error.source.raw_os_error(),
            kind: error.source.kind(),
            words: error.source.to_string(),
        }
    }

    fn at(&self, folder: &Path) -> DiskError {
        let source = match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.words.clone()),
        };
        DiskError::when(self.doing, folder)(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{bounded, unbounded};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn failed(folder: &Path) -> Result<()> {
        Err(DiskError::when("sync the folder", folder)(
            io::Error::from_raw_os_error(libc::EIO),
        ))
    }

    /// A sync runs, nine more ask; returns what they got, and how many syncs there were, when the first ends with
    /// `first` and those after it with `rest`.
    fn ten(first: bool, rest: bool) -> (Vec<bool>, usize) {
        let gathering = Arc::new(Gathering::default());
        let count = Arc::new(AtomicUsize::new(0));
        let (go, wait) = bounded::<()>(0);
        let (told, results) = unbounded();
        let folder = Path::new("folder");
        let ask = |good: bool, wait: Option<crossbeam_channel::Receiver<()>>| {
            let (gathering, count, told) = (Arc::clone(&gathering), Arc::clone(&count), told.clone());
            std::thread::spawn(move || {
                let result = gathering.sync(folder, |folder| {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Some(wait) = wait {
                        wait.recv_timeout(PATIENCE).unwrap();
                    }
                    if good { Ok(()) } else { failed(folder) }
                });
                told.send(result.is_ok()).unwrap();
            })
        };
        let leader = ask(first, Some(wait));
        let until = std::time::Instant::now() + PATIENCE;
        while count.load(Ordering::SeqCst) == 0 && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        let others: Vec<_> = (0..9).map(|_| ask(rest, None)).collect();
        while others.iter().any(|_| Arc::strong_count(&gathering) < 11) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50)); // so that they wait; the bounds below hold anyway
        go.send_timeout((), PATIENCE).unwrap();
        leader.join().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        drop(told);
        (results.iter().collect(), count.load(Ordering::SeqCst))
    }

    #[test]
    fn who_comes_while_one_runs_is_served_by_the_next_together() {
        let (results, syncs) = ten(true, true);
        assert_eq!(results, [true; 10]);
        assert!((2..=4).contains(&syncs), "{syncs} syncs for ten");
    }

    #[test]
    fn the_one_that_runs_serves_nobody_who_came_later_be_it_good_or_bad() {
        let (results, _) = ten(false, true);
        assert_eq!(results.iter().filter(|good| !**good).count(), 1);
        let (results, _) = ten(true, false);
        assert_eq!(results.iter().filter(|good| **good).count(), 1);
    }

    #[test]
    fn a_sync_that_panics_leaves_nobody_waiting() {
        let gathering = Gathering::default();
        let folder = Path::new("folder");
        let panics = std::panic::AssertUnwindSafe(|| gathering.sync(folder, |_| panic!("on purpose")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(gathering.sync(folder, |_| Ok(())).is_ok());
        let error = gathering.sync(folder, failed).unwrap_err();
        assert_eq!(error.to_string(), failed(folder).unwrap_err().to_string());
    }
}
