//! Trouble is told, not poured out: of each kind of warning at most [`TIMES`] lines in a [`WINDOW`], the rest is
//! counted and said in one line. A disk that is full has a thousand messages wait for the same reason.
//!
//! A kind is a place in the code. Not concerned: what is said at info level, and what must be told of each message
//! ([`super::EACH`]). No thread, no clock of its own: what was counted is said with the next event that comes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind that are written in a window.
const TIMES: u32 = 4;
/// How long a kind is counted.
const WINDOW: Duration = Duration::from_secs(60);

/// What has been told of late, by kind.
pub(super) struct Calm<K> {
    kinds: Mutex<HashMap<K, Kind>>,
}

struct Kind {
    since: Instant,
    lines: u32,
    left_out: u64,
    /// Of the last line that was left out.
    message: String,
}

impl<K: Eq + Hash> Calm<K> {
    pub(super) fn new() -> Self {
        Self {
            kinds: Mutex::default(),
        }
    }

    /// Whether a line of this kind is to be written; if not, it is counted, with its message.
    pub(super) fn lets_pass(&self, kind: K, now: Instant, message: impl FnOnce() -> String) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            since: now,
            lines: 0,
            left_out: 0,
            message: String::new(),
        });
        if kind.lines < TIMES {
            kind.lines += 1;
            return true;
        }
        kind.left_out += 1;
        kind.message = message();
        false
    }

    /// A line for each kind whose window is over and of which lines were left out; they begin anew.
    pub(super) fn left_out(&self, now: Instant) -> Vec<String> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        kinds.retain(|_, kind| {
            let over = now.saturating_duration_since(kind.since) >= WINDOW;
            if over && kind.left_out > 0 {
                lines.push(format!(
                    "{} more lines like this one: {}",
                    kind.left_out, kind.message
                ));
            }
            !over
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_other_kinds_are_not_held_back() {
        let calm = Calm::new();
        let began = Instant::now();
        let passed = |kind, now| calm.lets_pass(kind, now, || format!("words of {kind}"));
        let of_a_thousand = (0..1000).filter(|_| passed("disk", began)).count();
        assert_eq!(of_a_thousand, 4);
        assert!(passed("heartbeat", began));
        assert_eq!(calm.left_out(began + WINDOW / 2), Vec::<String>::new());
        let told = calm.left_out(began + WINDOW);
        assert_eq!(told, ["996 more lines like this one: words of disk"]);
        assert!(passed("disk", began + WINDOW), "the next window");
        assert_eq!(calm.left_out(began + WINDOW * 3), Vec::<String>::new());
    }
}
