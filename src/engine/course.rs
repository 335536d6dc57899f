//! What goes to one destination: its line, and what is known of how that line moves.
//!
//! Thread: dispatch. Not here: sessions and who may have one (dispatch, quota).

use super::gate::Gate;
use super::job::Part;
use super::line::Line;
use crate::clock::Millis;
use crate::mail::Outcome;
use crate::route::Destination;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bulk parts join a line only while that is shorter than this: others wait behind few of them.
const BULK_LINE: usize = 32;
/// A line out of which nothing went for so long is stuck: longer than a greeting takes on most ways.
pub const STUCK_AFTER: Duration = Duration::from_millis(500);
/// So many parts show whether a destination takes anything.
const UNPROVEN: usize = 4;
/// Of what was put off at first so many are called …
pub const FIRST_CALL: usize = 32;
/// … then twice what went since the last call, and at most so many.
const MOST_CALLED: usize = 512;

/// What goes to one destination.
pub struct Course {
    /// Where it goes.
    pub destination: Arc<Destination>,
    /// What the sessions take from.
    pub line: Arc<Line<Part>>,
    /// Parts of messages that have very many: they fill the line only as far as others leave room.
    bulk: VecDeque<Part>,
    /// How many serve it.
    pub sessions: usize,
    /// Since when it has no session.
    pub since: Instant,
    /// It was not reached, and is left alone.
    pub down: Option<Down>,
    /// Parts that ever stood in line.
    entered: u64,
    /// How many of them had left it at the last look of each who looks.
    left: u64,
    seen_to_leave: u64,
    left_at_call: u64,
    /// When one was last seen to leave, or came into an empty line.
    moved: Instant,
    /// Some have left it between the last two looks.
    pub moves: bool,
    /// Something stands in line and nothing leaves it.
    pub stuck: bool,
    /// The gate is closed to its mail.
    is_closed: bool,
}

/// A destination that was not reached.
pub struct Down {
    /// When the attempt was meant that found it so.
    pub since: Millis,
    /// Until when it is left alone.
    pub until: Instant,
    /// Why.
    pub outcome: Outcome,
}

impl Down {
    /// From now on, for so long, as an attempt has shown that was meant at `since`.
    pub fn now(since: Millis, pause: Duration, outcome: Outcome) -> Self {
        Self {
            since,
            until: Instant::now() + pause,
            outcome,
        }
    }
}

impl Course {
    /// Nothing stands in line.
    pub fn new(destination: &Arc<Destination>) -> Self {
        let now = Instant::now();
        Self {
            destination: Arc::clone(destination),
            line: Arc::default(),
            bulk: VecDeque::new(),
            sessions: 0,
            since: now,
            down: None,
            entered: 0,
            left: 0,
            seen_to_leave: 0,
            left_at_call: 0,
            moved: now,
            moves: false,
            stuck: false,
            is_closed: false,
        }
    }

    /// Whether it is to be left alone.
    pub fn is_down(&self, now: Instant) -> bool {
        self.down.as_ref().is_some_and(|down| down.until > now)
    }

    /// Closes the gate where more would only wait: it is down, it is stuck and has its share, or it has not taken
    /// anything yet and has enough to show whether it does. Else opens it.
    pub fn judge_gate(&mut self, gate: &Gate, is_proven: bool, share_of_stuck: usize) {
        let backlog = self.backlog();
        let has_enough = self.is_down(Instant::now())
            || (self.stuck && backlog >= share_of_stuck)
            || (!is_proven && backlog >= UNPROVEN);
        if has_enough == self.is_closed {
            return;
        }
        if has_enough {
            gate.close(&self.destination.key);
            self.is_closed = true;
        } else {
            self.open_gate(gate);
        }
    }

    /// Opens the gate.
    pub fn open_gate(&mut self, gate: &Gate) {
        if std::mem::take(&mut self.is_closed) {
            gate.open(&self.destination.key);
        }
    }

    /// How many parts wait.
    pub fn backlog(&self) -> usize {
        self.line.len() + self.bulk.len()
    }

    /// Parts that have ever left the line.
    fn all_left(&self) -> u64 {
        self.entered.saturating_sub(self.backlog() as u64)
    }

    /// Parts that have left the line since the last look.
    pub fn pace(&mut self) -> usize {
        let left = self.all_left();
        let pace = left.saturating_sub(std::mem::replace(&mut self.left, left));
        usize::try_from(pace).unwrap_or(usize::MAX)
    }

    /// Sees whether it is stuck, nothing having left it for so long. To be called at each tick.
    pub fn look(&mut self, now: Instant, patience: Duration) {
        let left = self.all_left();
        self.moves = std::mem::replace(&mut self.seen_to_leave, left) != left;
        if self.moves || left == self.entered {
            self.moved = now;
        }
        self.stuck = now.saturating_duration_since(self.moved) >= patience;
    }

    /// Of what was put off for this destination, how many may come now.
    pub fn calls(&mut self) -> usize {
        let left = self.all_left();
        let gone = left.saturating_sub(std::mem::replace(&mut self.left_at_call, left));
        let wanted = usize::try_from(gone.saturating_mul(2)).unwrap_or(MOST_CALLED);
        if self.stuck {
            return 0;
        }
        let most = wanted.clamp(FIRST_CALL, MOST_CALLED);
        most.saturating_sub(self.backlog())
    }

    /// Takes out what stands behind the first `keep`.
    pub fn cut_after(&mut self, keep: usize) -> Vec<Part> {
        let mut all = self.take_all();
        let cut = all.split_off(keep.min(all.len()));
        self.entered = self.entered.saturating_sub(cut.len() as u64);
        all.into_iter().for_each(|part| self.line.push(part));
        cut
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Part> {
        let mut all = self.line.take_all();
        all.extend(self.bulk.drain(..));
        all
    }

    /// Puts a part at the end.
    pub fn push(&mut self, part: Part, is_bulk: bool) {
        self.entered += 1;
        if is_bulk {
            self.bulk.push_back(part);
            self.refill();
        } else {
            self.line.push(part);
        }
    }

    fn refill(&mut self) {
        while self.line.len() < BULK_LINE {
            let Some(part) = self.bulk.pop_front() else { return };
            self.line.push(part);
        }
    }

    /// Where others always fill the line, a bulk message gets on all the same, a part at each tick.
    pub fn tick(&mut self) {
        self.refill();
        if let Some(part) = self.bulk.pop_front() {
            self.line.push(part);
        }
        self.line.tick();
    }
}
