//! Which destinations are in trouble and have been told so in the log: once each, until it is over.
//!
//! Thread: dispatch.

use crate::mail::Outcome;
use crate::route::Destination;
use std::collections::HashSet;
use tracing::{info, warn};

/// More are not remembered: then all are told again.
const MOST: usize = 10_000;

/// The keys of those destinations.
#[derive(Default)]
pub struct Told(HashSet<String>);

impl Told {
    /// Each further attempt would say the same.
    pub fn trouble(&mut self, destination: &Destination, outcome: &Outcome, what: &str) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        if self.0.insert(destination.key.clone()) {
            warn!(destination = %destination.key, status = %outcome.status, reply = %outcome.text, "{what}; its mail waits");
        }
    }

    /// Mail goes there.
    pub fn is_reached(&mut self, destination: &Destination) {
        if self.0.remove(&destination.key) {
            info!(destination = %destination.key, "is reached again");
        }
    }
}
