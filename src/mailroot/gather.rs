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
use std::sync::{Condvar, Mutex, PoisonError};

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
pub struct Gathering {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// Syncs are numbered from 1.
    last_begun: u64,
    last_ended: u64,
    /// The last one that failed, and what the system said.
    last_failed: Option<(u64, Failure)>,
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
        let mut state = self.lock();
        let wanted = state.last_begun + 1;
        while state.running && state.last_ended < wanted {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.last_ended >= wanted {
            return match &state.last_failed {
                Some((number, failure)) if *number >= wanted => Err(failure.at(folder)),
                _ => Ok(()),
            };
        }
        state.running = true;
        state.last_begun += 1;
        let number = state.last_begun;
        drop(state);
        // Whatever happens in it, the others are not left waiting.
        let mut running = Running {
            of: self,
            number,
            failure: Some(Failure::UNKNOWN),
        };
        let result = sync(folder);
        running.failure = result.as_ref().err().map(Failure::of);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running<'a> {
    of: &'a Gathering,
    number: u64,
    failure: Option<Failure>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.running = false;
        state.last_ended = self.number;
        if let Some(failure) = self.failure.take() {
            state.last_failed = Some((self.number, failure));
        }
        self.of.ended.notify_all();
    }
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
    use std::sync::Arc;
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
