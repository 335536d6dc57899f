//! What has to be deferred because its destination is down. A record of that is dear and in no hurry: it waits as long
//! as other mail moves, a second at most.
//!
//! Thread: dispatch. Not here: the record (settle), when a destination is down (dispatch).

use super::job::Part;
use crate::mail::Outcome;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// It waits for so long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Parts that wait for their deferral, the oldest first.
#[derive(Default)]
pub struct Later(VecDeque<(Instant, Part, Outcome)>);

impl Later {
    /// A part, and why it is deferred.
    pub fn push(&mut self, part: Part, outcome: Outcome) {
        self.0.push_back((Instant::now(), part, outcome));
    }

    /// Whether more wait than that.
    pub fn is_over(&self, most: usize) -> bool {
        self.0.len() > most
    }

    /// The next one whose time has come; `other_mail_moves` while that is so.
    pub fn next(&mut self, other_mail_moves: bool) -> Option<(Part, Outcome)> {
        let (since, ..) = self.0.front()?;
        if other_mail_moves && since.elapsed() < PATIENCE {
            return None;
        }
        self.0.pop_front().map(|(_, part, outcome)| (part, outcome))
    }

    /// The newest one, whatever the time.
    pub fn newest(&mut self) -> Option<Part> {
        self.0.pop_back().map(|(_, part, _)| part)
    }
}
