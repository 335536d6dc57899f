//! Who may open a session: all share `delivery.max_connections`, and destinations that were never reached share a part
//! of it, so that many that never answer do not hold up the mail of those that do.
//!
//! Threads: dispatch; [`Turns`] also the sessions. Not here: how many sessions a destination wants, and who is next
//! (dispatch).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// More reached destinations are not remembered: only those with a session are then.
const MOST: usize = 10_000;

/// The sessions that are open, by the key of their destination.
#[derive(Default)]
pub struct Quota {
    open: HashMap<String, usize>,
    all: usize,
    /// Destinations at which a conversation has gone well, and which were not found unreachable since.
    reached: HashSet<String>,
    /// Sessions of the others.
    unproven: usize,
}

impl Quota {
    /// Counts one session more; `false` when there is none to be had among `most`.
    pub fn take(&mut self, key: &str, most: usize) -> bool {
        if self.all >= most.max(1) || !self.could_have(key, most) {
            return false;
        }
        self.all += 1;
        self.unproven += usize::from(!self.reached.contains(key));
        match self.open.get_mut(key) {
            Some(open) => *open += 1,
            None => {
                self.open.insert(key.to_owned(), 1);
            }
        }
        true
    }

    /// Whether it could have a session if any other ended.
    pub fn could_have(&self, key: &str, most: usize) -> bool {
        self.unproven < most.max(1).div_ceil(2) || self.reached.contains(key)
    }

    /// One of them has ended.
    pub fn leave(&mut self, key: &str) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        *open -= 1;
        if *open == 0 {
            self.open.remove(key);
        }
        self.all -= 1;
        self.unproven -= usize::from(!self.reached.contains(key));
    }

    /// A conversation went well.
    pub fn is_reached(&mut self, key: &str) {
        if self.reached.len() >= MOST {
            self.reached.retain(|key| self.open.contains_key(key));
        }
        if !self.reached.contains(key) {
            self.reached.insert(key.to_owned());
            self.unproven -= self.of(key);
        }
    }

    /// Whether one did since it was last found unreachable.
    pub fn has_reached(&self, key: &str) -> bool {
        self.reached.contains(key)
    }

    /// No host of it answers.
    pub fn is_unreachable(&mut self, key: &str) {
        if self.reached.remove(key) {
            self.unproven += self.of(key);
        }
    }

    fn of(&self, key: &str) -> usize {
        self.open.get(key).copied().unwrap_or(0)
    }
}

/// A session that always has something to send would never end: when all are taken, others ask for its place.
#[derive(Default)]
pub struct Turns(AtomicUsize);

/// So long a session may serve its destination before others ask for its place.
const TURN: Duration = Duration::from_secs(1);

impl Turns {
    /// So many wait for a place. What was asked for before and not given is asked for no more.
    pub fn ask(&self, places: usize) {
        self.0.store(places, Ordering::Relaxed);
    }

    /// Whether a session that began then is asked for its place.
    pub fn is_asked(&self, begun: Instant) -> bool {
        self.0.load(Ordering::Relaxed) > 0 && begun.elapsed() >= TURN
    }

    /// Whether a session that began then gives its place to one of them.
    pub fn is_over(&self, begun: Instant) -> bool {
        let one_less = |places: usize| places.checked_sub(1);
        self.is_asked(begun)
            && self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes until there is none.
    fn taken(quota: &mut Quota, key: &str, most: usize) -> usize {
        (0..1000).take_while(|_| quota.take(key, most)).count()
    }

    #[test]
    fn who_was_never_reached_gets_half_and_the_others_all() {
        for (most, half) in [(0, 1), (1, 1), (2, 1), (3, 2), (200, 100)] {
            let mut quota = Quota::default();
            quota.is_reached("good");
            assert_eq!(taken(&mut quota, "dead", most), half);
            assert_eq!(taken(&mut quota, "good", most), most.max(1) - half);
            quota.leave("dead");
            assert!(quota.take("good", most), "of {most}");
            let mut alone = Quota::default();
            alone.is_reached("good");
            assert_eq!(taken(&mut alone, "good", most), most.max(1));
        }
    }

    #[test]
    fn sessions_change_sides_with_their_destination() {
        let mut quota = Quota::default();
        assert_eq!(taken(&mut quota, "new", 8), 4);
        quota.is_reached("new");
        quota.is_reached("new");
        assert_eq!(taken(&mut quota, "other", 8), 4);
        quota.is_unreachable("new");
        quota.is_unreachable("new");
        for _ in 0..4 {
            quota.leave("other");
        }
        assert!(
            !quota.take("other", 8),
            "four are held by one that is not reached any more"
        );
        for _ in 0..9 {
            quota.leave("new"); // more often than it was taken: nothing is counted
        }
        assert_eq!(taken(&mut quota, "other", 8), 4);
        assert_eq!(quota.of("other"), 4);
    }

    #[test]
    fn as_many_give_their_place_as_are_asked_to() {
        let turns = Turns::default();
        let Some(long_ago) = Instant::now().checked_sub(TURN) else {
            return;
        };
        assert!(!turns.is_over(long_ago));
        turns.ask(2);
        assert!(!turns.is_over(Instant::now()), "it has just begun");
        assert!(turns.is_over(long_ago) && turns.is_over(long_ago) && !turns.is_over(long_ago));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut quota = Quota::default();
        assert!(quota.take("kept", 8));
        quota.is_reached("kept");
        for number in 0..2 * MOST {
            quota.is_reached(&number.to_string());
        }
        assert!(quota.reached.len() <= MOST && quota.reached.contains("kept"));
        assert_eq!(quota.unproven, 0);
    }
}
