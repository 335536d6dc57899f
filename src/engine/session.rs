//! One connection at a time to the hosts of one destination: takes parts from its line while there are any, sends
//! them, settles them.
//!
//! Where a host offers PIPELINING, several short messages are under way at once (`serve_line`); the first of a
//! connection, a long one, and one with which something went wrong go alone (`serve`).
//!
//! Threads: session-n, bounded per destination and in all (dispatch). Not here: the protocol (smtp), where a
//! destination's hosts are (route), what follows from outcomes (settle).

use super::attempt::{Link, Progress, Sender};
use super::desk::{crashed, said};
use super::dispatch::Event;
use super::job::{Means, Part, Settled};
use super::line::Line;
use super::order::Order;
use super::settle;
use super::shared::{Settings, Shared, lock};
use crate::mail::{EnhancedStatus, Outcome, Verdict};
use crate::route::Destination;
use crate::smtp::Launch;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection with nothing to send is kept this long.
const IDLE: Duration = Duration::from_secs(5);
/// So many parts in one go; then it is looked whether others want the place, or the settings are new.
const ROUND: usize = 256;

/// Serves the line of `to` until it is empty for a while, the destination fails, others want the place, or the end
/// comes.
pub fn run(shared: &Arc<Shared>, to: &Arc<Destination>, line: &Line<Part>) {
    let _ended = Ended { shared, to, line };
    let mut sender = Sender {
        shared,
        to,
        begun: Instant::now(),
        link: None,
        hosts: Vec::new(),
        resolved: false,
        reached: false,
    };
    while let Some(part) = line.next(IDLE) {
        if shared.stop.is_set() {
            settle::give_back(shared, &part.job);
            break;
        }
        if !sender.serve_line(part, line) || (to.door.is_none() && shared.turns.is_over(sender.begun)) {
            break;
        }
    }
    sender.hang_up();
}

/// Says so when the session ends, however it ends.
struct Ended<'a> {
    shared: &'a Arc<Shared>,
    to: &'a Arc<Destination>,
    line: &'a Line<Part>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.line.leave();
        let _ = self.shared.events.send(Event::SessionEnded(Arc::clone(self.to)));
    }
}

/// A part under way.
struct Aboard {
    part: Part,
    progress: Progress,
}

/// What became of a launch.
enum Launched {
    UnderWay(Aboard),
    /// It has to wait, or to go alone.
    NotNow(Part),
    /// It could not go at all.
    Settled,
}

impl Sender<'_> {
    /// Sends this part and those that stand behind it, several at a time where the host likes that; `false` when the
    /// destination cannot be reached.
    fn serve_line(&mut self, part: Part, line: &Line<Part>) -> bool {
        let settings = self.shared.settings();
        let mut next = Some(part);
        let mut aboard: VecDeque<Aboard> = VecDeque::new();
        let mut again: Vec<Aboard> = Vec::new();
        let mut to_record: Vec<Aboard> = Vec::new();
        let mut round = 0;
        loop {
            while let Some(part) = next.take().or_else(|| {
                let goes_on = round < ROUND && again.is_empty() && to_record.is_empty();
                goes_on.then(|| self.another(line, aboard.len())).flatten()
            }) {
                match self.launch(part, &settings) {
                    Launched::UnderWay(one) => {
                        aboard.push_back(one);
                        round += 1;
                    }
                    Launched::NotNow(part) => {
                        next = Some(part);
                        break;
                    }
                    Launched::Settled => {}
                }
            }
            let Some(mut one) = aboard.pop_front() else {
                break;
            };
            if self.land(&mut one, &settings) {
                again.push(one);
            } else if one.progress.needs_record() && !aboard.is_empty() {
                // A disk may take its time, and a crash meanwhile would send again all that are under way.
                to_record.push(one);
            } else {
                self.settle(&one.part, one.progress);
            }
        }
        let mut reachable = true;
        for one in to_record {
            reachable &= self.settle(&one.part, one.progress);
        }
        let worn = self.most_messages(&settings);
        let is_worn = |link: &Link| !link.session.in_step() || (worn > 0 && link.messages >= worn);
        if self.link.as_ref().is_some_and(is_worn) {
            self.hang_up();
        }
        let alone = next.map(|part| Aboard {
            progress: Progress::of(&part),
            part,
        });
        for one in again.into_iter().chain(alone) {
            reachable &= self.serve(&one.part, one.progress, &settings);
        }
        reachable
    }

    /// A further part from the line, while others are under way.
    fn another(&self, line: &Line<Part>, aboard: usize) -> Option<Part> {
        let window = self.link.as_ref().map_or(0, |link| link.window);
        let goes_on = aboard > 0 && aboard < window && !self.shared.stop.is_set();
        let goes_on = goes_on && !self.shared.turns.is_asked(self.begun);
        goes_on.then(|| line.try_next()).flatten()
    }

    /// Puts a part behind those under way, if it can have company.
    fn launch(&mut self, part: Part, settings: &Settings) -> Launched {
        let worn = self.most_messages(settings);
        let Some(link) = self.link.as_mut() else {
            return Launched::NotNow(part);
        };
        let is_worn = worn > 0 && link.messages >= worn;
        // Who has made us fail before, perhaps in company, shows alone who it was.
        let is_suspect = lock(&part.job.state).record.crashes > 0;
        if is_suspect || link.window < 2 || !self.resolved || is_worn || !link.session.has_room(link.window) {
            return Launched::NotNow(part);
        }
        let mut progress = Progress::of(&part);
        progress.connected = true;
        let window = link.window;
        let launch = AssertUnwindSafe(|| {
            let order = Order::of(self.shared, &part, &progress.pending, settings)?;
            let can = link.session.abilities();
            order.send(self.shared, &part, can, |tx, content| {
                link.session.launch(tx, content, window)
            })
        });
        let launched = match catch_unwind(launch) {
            Ok(launched) => launched,
            Err(panic) => {
                // Its bytes may leave together with those of others: whoever is aboard may have been it.
                self.link = None;
                let words = crashed(&part.job, &said(&*panic));
                Err(Outcome::deferred(EnhancedStatus::new(4, 3, 0), words))
            }
        };
        match launched {
            Ok(Launch::UnderWay) => {
                if let Some(link) = self.link.as_mut() {
                    link.messages += 1;
                }
                Launched::UnderWay(Aboard { part, progress })
            }
            Ok(Launch::Full | Launch::Alone) => Launched::NotNow(part),
            Err(outcome) => {
                progress.last = Some(outcome);
                self.settle(&part, progress);
                Launched::Settled
            }
        }
    }

    /// Waits for what becomes of the oldest part under way; `true`: it has to go on, alone.
    fn land(&mut self, one: &mut Aboard, settings: &Settings) -> bool {
        let in_time = one.part.job.is_in_time(self.shared);
        let landed = self.link.as_mut().map(|link| {
            if !in_time {
                // We were asleep since it was launched, and others may have it: what has not left stays here.
                link.session.hang_up();
            }
            catch_unwind(AssertUnwindSafe(|| link.session.land())).map_err(|panic| said(&*panic))
        });
        let Some(Ok(Some(sent))) = landed else {
            // Our own mistake, or what it leaves: nobody knows what the host has, nor which of those aboard it was.
            self.link = None;
            let why = landed.and_then(Result::err);
            crashed(
                &one.part.job,
                why.as_deref().unwrap_or("one that was under way with it"),
            );
            let words =
                "an internal error of mailroot; it may have been accepted, so a second copy is possible";
            one.progress.last = Some(Outcome::deferred(EnhancedStatus::new(4, 3, 0), words));
            return false;
        };
        if let Some(link) = self.link.as_mut() {
            let most = settings.config.delivery.max_in_flight;
            link.window = (link.window * 2).min(most);
            if link.session.wants_lock_step() {
                link.window = 1;
                self.shared.note_lock_step(&self.to.key);
            }
        }
        let again = self.digest(&one.part, &mut one.progress, sent);
        if one.progress.pending.is_empty() || one.progress.uncertain {
            return false;
        }
        one.progress.asked = self.link.as_ref().map(|link| link.host).filter(|_| !again);
        again || self.hosts.len() > 1
    }

    /// Sends one part alone and settles it; `false` when the destination cannot be reached.
    fn serve(&mut self, part: &Part, mut progress: Progress, settings: &Settings) -> bool {
        let attempt = AssertUnwindSafe(|| self.attempt(part, settings, &mut progress));
        if let Err(panic) = catch_unwind(attempt) {
            self.link = None; // its state is unknown
            let words = crashed(&part.job, &said(&*panic));
            progress.last = Some(Outcome::deferred(EnhancedStatus::new(4, 3, 0), words));
            progress.connected = true;
        }
        if !progress.connected && self.shared.stop.is_set() {
            settle::give_back(self.shared, &part.job); // nobody was waited for, so nothing was tried
            return false;
        }
        self.settle(part, progress)
    }

    /// What became of it, for good or for this attempt; `false` when the destination cannot be reached.
    fn settle(&self, part: &Part, mut progress: Progress) -> bool {
        let last = progress
            .last
            .unwrap_or_else(|| Outcome::deferred(EnhancedStatus::new(4, 4, 1), "no host could be tried"));
        for (index, said) in progress.pending.drain(..) {
            progress
                .outcomes
                .push((index, said.unwrap_or_else(|| last.clone())));
        }
        let reachable = progress.connected || last.verdict != Verdict::Deferred;
        let planned = lock(&part.job.state).planned;
        settle::part(
            self.shared,
            &part.job,
            Settled {
                outcomes: progress.outcomes,
                means: Means::Host,
                offered_dsn: progress.offered_dsn,
                notes: progress.notes,
                dialogue: progress.text,
            },
        );
        if !reachable {
            let event = Event::Unreachable(Arc::clone(self.to), last, planned);
            let _ = self.shared.events.send(event);
        }
        reachable
    }
}
