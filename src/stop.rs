//! The one way to end: every thread holds a [`Stop`] and looks at it before it begins something new.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A flag that all threads share. Set once, never cleared.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Dropping the sender is the signal: every receiver wakes at once.
    armed: Arc<Mutex<Option<Sender<()>>>>,
    signal: Receiver<()>,
}

impl Default for Stop {
    fn default() -> Self {
        let (sender, signal) = bounded(0);
        Self {
            armed: Arc::new(Mutex::new(Some(sender))),
            signal,
        }
    }
}

impl Stop {
    /// Asks everyone to end.
    pub fn set(&self) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the end has been asked for.
    pub fn is_set(&self) -> bool {
        matches!(
            self.signal.try_recv(),
            Err(crossbeam_channel::TryRecvError::Disconnected)
        )
    }

    /// For `select!`: ready (disconnected) once the end has been asked for.
    pub fn signal(&self) -> &Receiver<()> {
        &self.signal
    }

    /// Waits; `true` when the end was asked for meanwhile.
    pub fn sleep(&self, duration: Duration) -> bool {
        matches!(
            self.signal.recv_timeout(duration),
            Err(RecvTimeoutError::Disconnected)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_wakes() {
        let stop = Stop::default();
        assert!(!stop.is_set() && !stop.sleep(Duration::from_millis(1)));
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.sleep(Duration::from_secs(60)));
        stop.set();
        assert!(waiter.join().unwrap() && stop.is_set());
    }
}
