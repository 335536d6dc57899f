//! Advisory locks. On storage of several machines they are asked for one at a time in a process: GlusterFS comes to a standstill when a process is killed
//! that waits for the answers to several.
//!
//! Its client (seen with 10.3) keeps one of its few network threads for each lock whose asker was killed, until an
//! answer has come that only another such thread could take: with two, the mount hangs for half an hour, and the
//! process never ends. One lock under way at a time is safe. Writes nothing. Thread: any. Not here: what a lock means.

use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whose turn it is to ask.
struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    taken: bool,
    /// Somebody has waited in vain: the lock that is being asked for hangs. Nobody else waits until it has an answer.
    hangs: bool,
}

/// A lock that hangs keeps the others for so long, once.
const PATIENCE: Duration = Duration::from_secs(2);

static ALL: Turns = Turns::new();

/// Asks for the lock that nobody else may hold, without waiting for it; it is held as long as the file is open.
/// `None`: another lock hangs.
pub fn try_exclusive(file: &File) -> Option<io::Result<()>> {
    ALL.next(PATIENCE, || fs2::FileExt::try_lock_exclusive(file))
}

/// Whether a process holds a lock on it.
pub fn is_locked(file: &File) -> bool {
    match fs2::FileExt::try_lock_exclusive(file) {
        Err(error) => error.raw_os_error() == fs2::lock_contended_error().raw_os_error(),
        Ok(()) => {
            let _ = fs2::FileExt::unlock(file);
            false
        }
    }
}

/// As [`is_locked`], when nobody else asks. Where nobody answers none is known.
pub fn is_locked_in_turn(file: &File) -> bool {
    ALL.next(PATIENCE, || is_locked(file)).unwrap_or(false)
}

/// Ends a turn, also by a panic.
struct Turn<'a>(&'a Turns);

impl Turns {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                taken: false,
                hangs: false,
            }),
            free: Condvar::new(),
        }
    }

    fn next<T>(&self, patience: Duration, ask: impl FnOnce() -> T) -> Option<T> {
        let in_the_way = |state: &mut State| state.taken && !state.hangs;
        let (mut state, _) = self
            .free
            .wait_timeout_while(self.lock(), patience, in_the_way)
            .unwrap_or_else(PoisonError::into_inner);
        if state.taken {
            state.hangs = true;
            return None;
        }
        state.taken = true;
        drop(state);
        let _turn = Turn(self);
        Some(ask())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() = State::default();
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    #[test]
    fn no_two_ask_at_once_and_all_come_to_ask() {
        let (turns, asking, asked) = (Turns::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            assert_eq!(asking.fetch_add(1, Ordering::SeqCst), 0);
            std::thread::sleep(Duration::from_millis(1));
            asking.fetch_sub(1, Ordering::SeqCst);
            asked.fetch_add(1, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20).for_each(|_| assert!(turns.next(PATIENCE * 10, ask).is_some())));
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 80);
    }

    #[test]
    fn one_that_hangs_is_waited_for_once_and_forgotten_when_it_has_an_answer() {
        let turns = Turns::new();
        let (answer, wait) = crossbeam_channel::bounded::<()>(1);
        let (begun, has_begun) = crossbeam_channel::bounded::<()>(1);
        std::thread::scope(|scope| {
            let hanging = scope.spawn(|| {
                turns.next(PATIENCE, || {
                    begun.send(()).unwrap();
                    wait.recv().unwrap();
                })
            });
            has_begun.recv().unwrap();
            assert_eq!(turns.next(Duration::from_millis(20), || ()), None);
            let at = Instant::now();
            assert_eq!(turns.next(Duration::from_secs(30), || ()), None);
            assert!(
                at.elapsed() < Duration::from_secs(10),
                "nobody waits a second time"
            );
            answer.send(()).unwrap();
            assert_eq!(hanging.join().unwrap(), Some(()));
        });
        assert_eq!(turns.next(PATIENCE, || 7), Some(7));
    }
}
