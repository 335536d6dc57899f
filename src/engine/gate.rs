//! Which destinations have as much in hand as they may when room is short. Their mail stays in Pickup meanwhile, where
//! it costs one look and other nodes can take it.
//!
//! Threads: dispatch opens and closes, intake asks and waits to be called. Not here: who has enough (course).

use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The gate between Pickup and what is in hand.
pub struct Gate {
    closed: RwLock<HashSet<String>>,
    /// Somebody waits before it.
    awaited: AtomicBool,
    /// There is no room for more that would only wait, wherever it goes.
    full: AtomicBool,
    call: (Sender<()>, Receiver<()>),
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            closed: RwLock::default(),
            awaited: AtomicBool::new(false),
            full: AtomicBool::new(false),
            call: bounded(1),
        }
    }
}

impl Gate {
    /// Closes it to the mail of a destination.
    pub fn close(&self, destination: &str) {
        self.write().insert(destination.to_owned());
    }

    /// Opens it to the mail of a destination, and calls whoever waits.
    pub fn open(&self, destination: &str) {
        self.write().remove(destination);
        self.call();
    }

    /// Whether it is open to all.
    pub fn is_open(&self) -> bool {
        self.read().is_empty()
    }

    /// Whether it is closed to the mail of this destination.
    pub fn is_closed_to(&self, destination: &str) -> bool {
        self.read().contains(destination)
    }

    /// Whether there is room for what would only wait.
    pub fn has_room(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    /// Says whether there is; if so, whoever waits is called.
    pub fn set_room(&self, has_room: bool) {
        self.full.store(!has_room, Ordering::Relaxed);
        if has_room {
            self.call();
        }
    }

    /// Whoever waits may look again: there is room, or it was opened.
    pub fn call(&self) {
        if self.awaited.load(Ordering::SeqCst) {
            let _ = self.call.0.try_send(()); // one call that was not heard yet is enough
        }
    }

    /// Says whether anything waits for a call.
    pub fn set_awaited(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    /// Where the calls come in.
    pub fn calls(&self) -> &Receiver<()> {
        &self.call.1
    }

    fn read(&self) -> RwLockReadGuard<'_, HashSet<String>> {
        self.closed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<String>> {
        self.closed.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of files that wait before the gate, by the destination that it is closed to; the first come first. A hint: a
/// file can be gone.
#[derive(Default)]
pub struct Outside {
    files: HashMap<String, VecDeque<OsString>>,
    count: usize,
}

/// When so many wait outside, others are let in and wait in Queue.
const MOST_OUTSIDE: usize = 100_000;

impl Outside {
    /// Whether more can wait.
    pub fn has_room(&self) -> bool {
        self.count < MOST_OUTSIDE
    }

    /// A file waits.
    pub fn put(&mut self, destination: &str, file: OsString) {
        self.count += 1;
        match self.files.get_mut(destination) {
            Some(files) => files.push_back(file),
            None => {
                self.files.insert(destination.to_owned(), VecDeque::from([file]));
            }
        }
    }

    /// Takes out some that may come in, of each destination as many as of the others: about `room` where there is room
    /// for anybody's, else `most` of those that the gate is open to.
    pub fn take(&mut self, gate: &Gate, room: usize, most: usize) -> Vec<OsString> {
        let may_come = |destination: &String| room > 0 || !gate.is_closed_to(destination);
        let those = self
            .files
            .keys()
            .filter(|destination| may_come(destination))
            .count();
        let share = if room > 0 { room } else { most }.div_ceil(those.max(1));
        let mut taken = Vec::new();
        self.files.retain(|destination, files| {
            if may_come(destination) {
                taken.extend(files.drain(..share.min(files.len())));
            }
            !files.is_empty()
        });
        self.count -= taken.len();
        taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_outside_all_destinations_come_in_alike_and_only_the_open_ones_where_room_is_short() {
        let (gate, mut outside) = (Gate::default(), Outside::default());
        for number in 0..5 {
            outside.put("slow", format!("slow {number}").into());
        }
        outside.put("down", "down 0".into());
        gate.close("slow");
        gate.close("down");
        assert!(outside.take(&gate, 0, 4).is_empty());
        let mut both = outside.take(&gate, 4, 9);
        both.sort();
        assert_eq!(both, ["down 0", "slow 0", "slow 1"]);
        gate.open("slow");
        assert_eq!(outside.take(&gate, 0, 2), ["slow 2", "slow 3"]);
        assert_eq!(outside.take(&gate, 0, 2), ["slow 4"]);
        assert!(outside.is_empty());
    }

    #[test]
    fn it_is_closed_to_each_for_itself_and_opening_it_calls() {
        let gate = Gate::default();
        assert!(gate.is_open());
        gate.call();
        assert!(gate.calls().is_empty(), "nobody waits");
        gate.set_awaited(true);
        gate.close("slow");
        gate.close("down");
        assert!(gate.is_closed_to("slow") && !gate.is_closed_to("good") && !gate.is_open());
        assert!(gate.calls().is_empty());
        gate.open("slow");
        gate.open("slow");
        assert_eq!(gate.calls().len(), 1);
        assert!(!gate.is_closed_to("slow") && gate.is_closed_to("down"));
        gate.open("down");
        assert!(gate.is_open());
    }
}
