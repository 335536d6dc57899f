//! Whether Drop has room (`drop.quota`): asked at RCPT for a local domain, so that a sender hears of it.
//!
//! It counts as much as it can be known: one thread at a time weighs the folder, never more often than a twentieth of the
//! time allows, and a client waits a second for it at most. What comes in spite of a full Drop waits in Queue, as ever: the
//! engine holds the quota. Reads: sizes of the files in Drop. Thread: the sessions'; `drop-room` weighs.

use crate::mailroot::weigh;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// A count is good for this long, or for so many times as long as it took.
const GOOD: Duration = Duration::from_secs(2);
const TIMES: u32 = 20;
/// A client waits for a count so long …
const PATIENCE: Duration = Duration::from_secs(1);
/// … when the last one is older than this, or there is none.
const OLD: Duration = Duration::from_secs(30);

/// What is known of it.
pub(super) struct DropRoom {
    folder: PathBuf,
    seen: Mutex<Seen>,
    counted: Condvar,
}

#[derive(Default)]
struct Seen {
    /// When a count ended, how long it is good, and what it came to.
    last: Option<(Instant, Duration, u64)>,
    counting: bool,
    /// Somebody has waited in vain for the count that is under way.
    is_slow: bool,
}

impl DropRoom {
    pub fn of(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            folder,
            seen: Mutex::default(),
            counted: Condvar::new(),
        })
    }

    /// Whether so many bytes more fit below the quota (0: there is none), as far as is known.
    pub fn has_room(self: &Arc<Self>, quota: u64, more: u64) -> bool {
        if quota == 0 {
            return true;
        }
        let mut seen = self.lock();
        if !seen.counting && seen.last.is_none_or(|(at, good, _)| at.elapsed() > good) {
            seen.counting = self.start(quota);
        }
        if !seen.is_slow && seen.last.is_none_or(|(at, ..)| at.elapsed() > OLD) {
            let waited = self
                .counted
                .wait_timeout_while(seen, PATIENCE, |seen| seen.counting);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
            seen.is_slow = seen.counting;
        }
        let used = seen.last.map_or(0, |(_, _, used)| used);
        used.saturating_add(more.max(1)) <= quota
    }

    /// Counts on a thread of its own; whether there is one.
    fn start(self: &Arc<Self>, quota: u64) -> bool {
        let this = Arc::clone(self);
        let count = move || {
            let began = Instant::now();
            let used = weigh::bytes_in(&this.folder, quota);
            let good = GOOD.max(began.elapsed().saturating_mul(TIMES));
            *this.lock() = Seen {
                last: Some((Instant::now(), good, used)),
                ..Seen::default()
            };
            this.counted.notify_all();
        };
        let thread = std::thread::Builder::new().name("drop-room".to_owned());
        match thread.spawn(count) {
            Ok(_) => true,
            Err(error) => {
                warn!(%error, "cannot start a thread: Drop's quota is not told to clients");
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_count_serves_many_and_a_new_one_sees_what_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, [0; 60]).unwrap();
        let room = DropRoom::of(dir.path().to_owned());
        assert!(room.has_room(0, u64::MAX), "no quota");
        assert!(room.lock().last.is_none(), "and nothing is counted");
        assert!(room.has_room(100, 40) && !room.has_room(100, 41));
        assert!(!room.has_room(60, 0), "it is reached");
        std::fs::remove_file(&file).unwrap();
        assert!(!room.has_room(100, 41), "the count is still good");
        let (at, _, used) = room.lock().last.unwrap();
        room.lock().last = Some((at, Duration::ZERO, used));
        let end = Instant::now() + Duration::from_secs(20);
        while !room.has_room(100, 41) {
            assert!(Instant::now() < end, "it is not counted again");
            std::thread::yield_now();
        }
    }

    #[test]
    fn nobody_waits_twice_for_a_count_that_takes_long() {
        let room = DropRoom::of(PathBuf::new());
        room.lock().counting = true; // a storage that does not answer
        let began = Instant::now();
        assert!(room.has_room(100, 1), "nobody can say");
        let once = began.elapsed();
        assert!(once >= PATIENCE);
        for _ in 0..100 {
            room.has_room(100, 1);
        }
        assert!(began.elapsed() < once + PATIENCE);
    }
}
