//! What has to be deferred because its destination is down. A record of that is dear and in no hurry: it waits as long
//! as other mail moves, a second at most.
//!
//! Thread: dispatch. Not here: the record (settle), when a destination is down and whether mail moves (dispatch).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// It waits for so long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// What waits, the oldest first.
pub struct Later<T>(VecDeque<(Instant, T)>);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Later<T> {
    /// One more, from now on.
    pub fn push(&mut self, one: T, now: Instant) {
        self.0.push_back((now, one));
    }

    /// Whether more wait than that.
    pub fn is_over(&self, most: usize) -> bool {
        self.0.len() > most
    }

    /// The oldest one, if its time has come.
    pub fn ripe(&mut self, other_mail_moves: bool, now: Instant) -> Option<T> {
        let (since, _) = self.0.front()?;
        if other_mail_moves && now.saturating_duration_since(*since) < PATIENCE {
            return None;
        }
        self.0.pop_front().map(|(_, one)| one)
    }

    /// The newest one, whatever the time.
    pub fn newest(&mut self) -> Option<T> {
        self.0.pop_back().map(|(_, one)| one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_as_long_as_mail_moves_and_a_second_at_most() {
        let (mut later, begin) = (Later::default(), Instant::now());
        let soon = begin + PATIENCE / 2;
        for (number, time) in [(1, begin), (2, begin), (3, soon), (4, soon)] {
            later.push(number, time);
        }
        assert_eq!(later.ripe(true, soon), None);
        assert_eq!(later.ripe(false, soon), Some(1));
        assert_eq!(later.ripe(true, begin + PATIENCE), Some(2));
        assert_eq!(later.ripe(true, begin + PATIENCE), None, "that one came later");
        assert!(later.is_over(1) && !later.is_over(2));
        assert_eq!(
            (later.newest(), later.newest(), later.newest()),
            (Some(4), Some(3), None)
        );
    }
}
