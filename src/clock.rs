//! The time of day, in one place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// The present; 0 before the epoch.
pub fn now() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Finds out when the wall clock was set, by a clock that cannot be.
#[derive(Debug)]
pub struct Steady {
    wall: Millis,
    at: Instant,
}

/// Smaller steps are made by every machine that keeps its time.
const A_STEP: i64 = 5_000;

impl Default for Steady {
    fn default() -> Self {
        Self {
            wall: now(),
            at: Instant::now(),
        }
    }
}

impl Steady {
    /// By how many milliseconds the clock was set since the last call, if it was. A machine that slept counts too.
    pub fn was_set(&mut self) -> Option<i64> {
        let before = std::mem::take(self);
        let passed = i64::try_from((self.at - before.at).as_millis()).unwrap_or(i64::MAX);
        let by = self.wall.cast_signed() - before.wall.cast_signed() - passed;
        (by.abs() >= A_STEP).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_found_out_once() {
        let mut steady = Steady::default();
        assert_eq!(steady.was_set(), None);
        steady.wall -= 3_600_000;
        let by = steady.was_set().unwrap();
        assert!((3_599_000..3_601_000).contains(&by), "{by}");
        assert_eq!(steady.was_set(), None);
        steady.wall += 3_600_000;
        assert!(steady.was_set().unwrap() < 0);
    }
}
