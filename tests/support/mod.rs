//! What tests of the whole program need: a DNS server, certificates, the binary as a child process, waiting, listings.
//!
//! The other side of SMTP is `mailroot::practice::Host`.

// each test crate takes what it needs
#![allow(dead_code)]

pub mod certificates;
pub mod dns;
pub mod hosts;
pub mod listener;
pub mod place;
pub mod process;
pub mod scenario;
pub mod stable;
pub mod tree;

use std::time::{Duration, Instant};

/// Waits until the condition holds; panics with `what` when it does not within the time.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    assert!(
        holds_within(within, &mut condition),
        "not within {within:?}: {what}"
    );
}

/// Waits until the condition holds, or says that it did not.
pub fn holds_within(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
