//! What waits for its domain (hold), and not only for the time: it is called when it may go.
//!
//! Reads: `Status/release/` through `mailroot`, which removes what everybody has seen. Thread: keeper.

use super::{Duration, Instant, Keeper, Ordering, Reverse, clock, debug, info};
use crate::engine::hold::has_come;

impl Keeper<'_> {
    /// After a reload: what waits for its domain may go.
    pub(super) fn free_held_domains(&mut self) {
        let generation = self.shared.generation.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        if self.shared.holds_others.swap(false, Ordering::SeqCst) {
            self.waiting.clear();
            self.due.clear();
            return self.shared.poke_keeper();
        }
        for (ulid, waiting) in self
            .waiting
            .iter_mut()
            .filter(|(_, waiting)| waiting.held.is_any())
        {
            waiting.due = 0;
            waiting.marks.force();
            self.due.push(Reverse((0, *ulid)));
        }
    }

    /// What waits for a domain that somebody has come for may go. Whether it does is decided when it is taken.
    pub(super) fn look_who_asks(&mut self, poll: Duration) {
        if self.next_ask > Instant::now() {
            return;
        }
        self.next_ask = Instant::now() + poll;
        let all = match self.requests.all() {
            Ok(all) => all,
            Err(error) => return debug!(%error, "who asks for mail on hold is not seen"),
        };
        let now = clock::now();
        let new = self.shared.holds.note(all, now);
        for (wanted, at) in self.shared.holds.old(now) {
            self.requests.remove(&wanted, at);
        }
        if new.is_empty() {
            return;
        }
        let is_concerned = self.shared.holds.concerned(&new);
        let mut messages = 0;
        for (ulid, waiting) in &mut self.waiting {
            if waiting.due > 0 && is_concerned(waiting.held) && has_come(ulid.timestamp_ms(), now, now) {
                waiting.due = 0;
                self.due.push(Reverse((0, *ulid)));
                messages += 1;
            }
        }
        let domains: Vec<String> = new.iter().map(ToString::to_string).collect();
        if self.scanned {
            info!(
                domains = domains.join(" "),
                messages, "asked for: what waited for it goes"
            );
        } else {
            debug!(
                domains = domains.join(" "),
                "asked for before: what had come by then and was not tried since goes"
            );
        }
    }
}
