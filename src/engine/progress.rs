//! Whoever waits for "something happened".

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Lets `main` wait for "something happened" without polling hard.
#[derive(Default)]
pub struct Progress {
    moved: Mutex<bool>,
    signal: Condvar,
}

impl Progress {
    /// Something happened.
    pub fn note(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.notify_all();
    }

    /// Until something happens, at most for `patience`.
    pub fn wait(&self, patience: Duration) {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut moved, _) = self
            .signal
            .wait_timeout_while(moved, patience, |m| !*m)
            .unwrap_or_else(PoisonError::into_inner);
        *moved = false;
    }
}
