//! ENV and transcripts without a message file: since when. A memory of listings only; losing it costs time.
//!
//! Thread: keeper. Not here: the sweeping.

use crate::mail::MessageId;
use crate::mail::id::Ulid;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// They go when no listing has shown a message file of that ULID for this long: a listing can miss a file that is
/// being renamed, and an operator may be moving a message here, its record first.
const AGE: Duration = Duration::from_secs(600);

/// Since when each was seen alone.
#[derive(Default)]
pub struct Orphans(HashMap<Ulid, Instant>);

impl Orphans {
    /// Takes note of a listing made at `now`; what has been alone for long enough, each with its highest life.
    /// `remains`: the highest life of what lies there of each ULID.
    pub fn ripe(
        &mut self,
        remains: &HashMap<Ulid, u32>,
        is_alive: impl Fn(Ulid) -> bool,
        now: Instant,
    ) -> Vec<MessageId> {
        let mut alone = HashMap::new();
        let mut ripe = Vec::new();
        for (&ulid, &life) in remains.iter().filter(|(ulid, _)| !is_alive(**ulid)) {
            let since = self.0.get(&ulid).copied().unwrap_or(now);
            alone.insert(ulid, since);
            if now.saturating_duration_since(since) >= AGE {
                ripe.push(MessageId { ulid, life });
            }
        }
        self.0 = alone; // who was alive, or is gone, begins anew
        ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alone_goes_after_ten_minutes_and_not_before() {
        let id = MessageId::generate().next_life();
        let remains = HashMap::from([(id.ulid, id.life)]);
        let start = Instant::now();
        let mut orphans = Orphans::default();
        for seconds in [0, 1, 300, 599] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(orphans.ripe(&remains, |_| false, now), [], "after {seconds} s");
        }
        let now = start + Duration::from_secs(600);
        assert_eq!(orphans.ripe(&remains, |_| false, now), [id]);
    }

    #[test]
    fn one_sight_of_its_message_begins_the_wait_anew() {
        let id = MessageId::generate();
        let remains = HashMap::from([(id.ulid, 0)]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut orphans = Orphans::default();
        assert_eq!(orphans.ripe(&remains, |_| false, at(0)), []);
        assert_eq!(orphans.ripe(&remains, |ulid| ulid == id.ulid, at(500)), []);
        assert_eq!(orphans.ripe(&remains, |_| false, at(600)), []);
        assert_eq!(orphans.ripe(&remains, |_| false, at(1199)), []);
        assert_eq!(orphans.ripe(&remains, |_| false, at(1200)), [id]);
    }
}
