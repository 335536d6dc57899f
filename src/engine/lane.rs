//! Work that is done aside, so that neither much of it nor a large piece keeps the mail of others waiting: a line with
//! few places, and threads of its own that serve it.
//!
//! Threads: NAME-n, as long as the line exists. Not here: the work (look, burial).

use crossbeam_channel::{Sender, TrySendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tracing::error;

/// Places in a line. Who finds none waits where he is.
pub const PLACES: usize = 64;

/// Where work is handed over.
pub struct Lane<T> {
    line: Sender<T>,
    /// How many have a place: in line, being served, or about to be handed over.
    places: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Lane<T> {
    /// Starts `threads` that do `work`; `room` is told when half of the places are free again.
    pub fn start(
        name: &str,
        threads: usize,
        room: &Sender<()>,
        work: impl Fn(T) + Clone + Send + 'static,
    ) -> Self {
        let (line, items) = bounded::<T>(PLACES);
        let places = Arc::new(AtomicUsize::new(0));
        let mut started = Vec::new();
        for number in 0..threads {
            let (items, places, room, work) =
                (items.clone(), Arc::clone(&places), room.clone(), work.clone());
            let serve = move || {
                for item in items {
                    if catch_unwind(AssertUnwindSafe(|| work(item))).is_err() {
                        error!("an internal error while a file of Pickup was read or buried");
                    }
                    if places.fetch_sub(1, Ordering::SeqCst) == PLACES / 2 {
                        let _ = room.try_send(());
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            match thread.spawn(serve) {
                Ok(thread) => started.push(thread),
                Err(error) => error!(%error, "cannot start a thread"),
            }
        }
        Self {
            line,
            places,
            threads: started,
        }
    }

    /// Whether nothing more can be handed over at present.
    pub fn is_full(&self) -> bool {
        self.places.load(Ordering::SeqCst) >= PLACES
    }

    /// Takes a place; `false` when there is none.
    pub fn take_place(&self) -> bool {
        let one_more = |places| (places < PLACES).then_some(places + 1);
        let taken = self
            .places
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok()
    }

    /// Gives a place back that was not used.
    pub fn leave_place(&self) {
        self.places.fetch_sub(1, Ordering::SeqCst);
    }

    /// Hands over what a place was taken for; gives it back when there is nobody to serve it.
    pub fn hand_over(&self, item: T) -> Result<(), T> {
        self.line.try_send(item).map_err(|unsent| {
            self.leave_place();
            match unsent {
                TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
            }
        })
    }

    /// At the end: waits until all who have a place are served.
    pub fn finish(self) {
        drop(self.line);
        for thread in self.threads {
            let _ = thread.join(); // panics are caught inside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_room_is_told() {
        let (room, told) = bounded(1);
        let (go, gate) = bounded::<()>(0);
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let lane = Lane::start("test", 2, &room, move |panics: bool| {
            let _ = gate.recv();
            count.fetch_add(1, Ordering::SeqCst);
            assert!(!panics, "a panic of the work");
        });
        for number in 0..PLACES {
            assert!(lane.take_place());
            assert!(lane.hand_over(number % 2 == 0).is_ok());
        }
        assert!(lane.is_full() && !lane.take_place());
        drop(go);
        let patience = std::time::Duration::from_secs(10);
        assert!(told.recv_timeout(patience).is_ok());
        lane.finish();
        assert_eq!(served.load(Ordering::SeqCst), PLACES);
    }
}
