//! When a deferred recipient is tried again, told of, or given up (contract §5). To change the default times, see
//! `config`: `delivery.retry`, `delay_notice`, `expire`, and the same under `[drop]`.

use crate::clock::Millis;
use crate::config::Schedule;
use crate::mail::MessageId;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// What the schedule says of a recipient that was just deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again then.
    At(Millis),
    /// Its time is over: failed, 4.4.7.
    Expired,
}

/// After the attempt number `tries` (from 1) failed at `now`.
pub fn next(schedule: &Schedule, id: MessageId, tries: u32, arrived: Millis, now: Millis) -> Next {
    let expires = arrived.saturating_add(millis(schedule.expire));
    if now >= expires {
        return Next::Expired;
    }
    let step = (tries.max(1) as usize - 1).min(schedule.retry.len().saturating_sub(1));
    let wait = schedule
        .retry
        .get(step)
        .copied()
        .unwrap_or(Duration::from_secs(60));
    let at = now.saturating_add(jittered(millis(wait), id, tries));
    // One last attempt when the time is over, not a wait beyond it.
    Next::At(at.min(expires))
}

/// Whether the sender is to be told of the delay now.
pub fn delay_is_due(schedule: &Schedule, arrived: Millis, now: Millis) -> bool {
    !schedule.delay_notice.is_zero() && now >= arrived.saturating_add(millis(schedule.delay_notice))
}

/// When the message is given up, for `Will-Retry-Until`.
pub fn expires(schedule: &Schedule, arrived: Millis) -> Millis {
    arrived.saturating_add(millis(schedule.expire))
}

/// ±10 %, so that what failed together does not come back together. Derived from the ID: no state, and a test can
/// foresee it.
fn jittered(wait: Millis, id: MessageId, tries: u32) -> Millis {
    let mut hasher = DefaultHasher::new();
    (id.ulid.0, tries).hash(&mut hasher);
    let tenth = wait / 10;
    wait - tenth
        + if tenth == 0 {
            0
        } else {
            hasher.finish() % (2 * tenth + 1)
        }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            retry: vec![Duration::from_secs(60), Duration::from_secs(900)],
            delay_notice: Duration::from_secs(3600),
            expire: Duration::from_secs(7200),
        }
    }

    #[test]
    fn the_last_wait_repeats_and_jitter_stays_within_a_tenth() {
        for (tries, wait) in [(1, 60_000), (2, 900_000), (3, 900_000)] {
            let mut seen = std::collections::HashSet::new();
            for _ in 0..200 {
                let Next::At(at) = next(&schedule(), MessageId::generate(), tries, 0, 1000) else {
                    panic!()
                };
                let waited = at - 1000;
                assert!((wait * 9 / 10..=wait * 11 / 10).contains(&waited), "{waited}");
                seen.insert(waited);
            }
            assert!(seen.len() > 50, "no jitter");
        }
    }

    #[test]
    fn the_end_is_an_attempt_and_then_expiry() {
        let id = MessageId::generate();
        assert_eq!(next(&schedule(), id, 9, 0, 7_000_000), Next::At(7_200_000));
        assert_eq!(next(&schedule(), id, 9, 0, 7_200_000), Next::Expired);
    }

    #[test]
    fn a_delay_is_told_once_due_and_never_when_switched_off() {
        assert!(!delay_is_due(&schedule(), 0, 3_599_999));
        assert!(delay_is_due(&schedule(), 0, 3_600_000));
        let off = Schedule {
            delay_notice: Duration::ZERO,
            ..schedule()
        };
        assert!(!delay_is_due(&off, 0, u64::MAX));
    }
}
