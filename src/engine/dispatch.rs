//! Who sends what next: owns the destinations, their lines, their sessions, and which of them are down.
//!
//! Thread: dispatch, which never waits for a session or a disk. Not here: the sending (session), Drop (desk), what
//! follows from outcomes (settle).

use super::course::{Course, Down, STUCK_AFTER};
use super::desk::Errand;
use super::hold::ON_HOLD;
use super::job::{Job, Part};
use super::later::Later;
use super::plan::{Way, plan};
use super::quota::Quota;
use super::shared::{Settings, Shared};
use super::told::Told;
use super::{MAX_IN_HAND, course, deposit, desk, session, settle};
use crate::clock::Millis;
use crate::mail::Outcome;
use crate::route::Destination;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select, tick};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};

/// Errands that may stand in line; the rest waits in an overflow.
pub const LINE: usize = 512;
/// A message with more parts than this is bulk: others wait behind few of them.
const BULK_PARTS: usize = 8;
/// A further session is opened for each so many parts in line.
const PARTS_PER_SESSION: usize = 16;
/// How often overflows are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often it is looked whether a slow destination crowds out the others.
const RELIEF: Duration = Duration::from_secs(1);
/// When it does, it keeps what it sends in so many seconds at its present pace …
const SOON: usize = 5;
/// … and at least so many parts.
const LEAST_KEPT: usize = 32;
/// So many destinations may wait for a session when room is short.
const MOST_WAITING: usize = 128;
/// What it does not keep is taken up again after so many milliseconds.
const PARKED: u64 = 10_000;
/// When more than half of what may be in hand is, so much of it may be for lines that are stuck, all of them together.
const FOR_STUCK: usize = MAX_IN_HAND / 4;
/// The same of what waits for its deferral.
const FOR_LATER: usize = MAX_IN_HAND / 4;
/// Where so many destinations have mail and next to no room is left, a line is stuck after so short a time.
const MANY: usize = 8;
const WHEN_SHORT: Duration = Duration::from_millis(150);
/// What was put off is called for so often; where its destination is down, so many at a time.
const CALL_EVERY: Duration = Duration::from_millis(100);
const CALLED_TO_BE_DEFERRED: usize = 128;
/// A destination that cannot be reached is left alone for at most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What dispatch is told.
pub enum Event {
    /// Claimed messages, to be sent.
    Jobs(Vec<Arc<Job>>),
    /// A session has ended; what stands in its line is served by others or by a new one.
    SessionEnded(Arc<Destination>),
    /// No host of it answers, as an attempt has shown that was meant then: what waits for it is deferred together.
    Unreachable(Arc<Destination>, Outcome, Millis),
    /// A host of it was reached, and the conversation broke.
    Broke(Arc<Destination>, Outcome),
    /// A conversation with it went well.
    Reached(Arc<Destination>),
    /// New settings.
    Reloaded,
}

struct Dispatch<'a> {
    shared: &'a Arc<Shared>,
    courses: HashMap<String, Course>,
    quota: Quota,
    session_number: u64,
    errands: Sender<Errand>,
    errand_line: Receiver<Errand>,
    /// Threads that serve them.
    desks: usize,
    waiting_errands: VecDeque<Errand>,
    later: Later<(Part, Outcome)>,
    /// Some mail is on its way to a host that takes it.
    moves: bool,
    next_relief: Instant,
    next_call: Instant,
    /// So much each line that is stuck may hold when room is short.
    share_of_stuck: usize,
    told: Told,
}

/// Serves events until the end; then gives back what nobody has begun.
pub fn run(shared: &Arc<Shared>, events: &Receiver<Event>) {
    let (errands, errand_line) = bounded(LINE);
    let mut dispatch = Dispatch {
        shared,
        courses: HashMap::new(),
        quota: Quota::default(),
        session_number: 0,
        errands,
        errand_line: errand_line.clone(),
        desks: 0,
        waiting_errands: VecDeque::new(),
        later: Later::default(),
        moves: false,
        next_relief: Instant::now() + RELIEF,
        next_call: Instant::now(),
        share_of_stuck: FOR_STUCK,
        told: Told::default(),
    };
    let ticks = tick(TICK);
    loop {
        select! {
            recv(events) -> event => if let Ok(event) = event { dispatch.serve(event) },
            recv(ticks) -> _ => {
                dispatch.refill();
                dispatch.put_off();
                dispatch.keep_the_gate();
                dispatch.defer();
                dispatch.call();
                dispatch.relieve();
            }
            recv(shared.stop.signal()) -> _ => break,
        }
    }
    dispatch.give_everything_back(&errand_line);
    // Sessions and desks that are still at work report here; nobody may wait for a full channel.
    while !shared.in_hand.is_empty() && !shared.stop_patience_over() {
        if let Ok(Event::Jobs(jobs)) = events.recv_timeout(TICK) {
            jobs.iter().for_each(|job| settle::conclude(shared, job));
        }
    }
}

impl Dispatch<'_> {
    fn serve(&mut self, event: Event) {
        match event {
            Event::Jobs(jobs) => {
                let settings = self.shared.settings();
                for job in jobs {
                    self.route(&settings, &job);
                }
            }
            Event::SessionEnded(destination) => self.session_ended(&destination),
            Event::Unreachable(destination, outcome, since) => self.unreachable(&destination, outcome, since),
            Event::Broke(destination, outcome) => self.told.trouble(&destination, &outcome, "breaks off"),
            Event::Reached(destination) => {
                self.quota.is_reached(&destination.key);
                self.told.is_reached(&destination);
                self.moves = true;
                self.judge_gate(&destination.key);
            }
            Event::Reloaded => {
                self.courses.values_mut().for_each(|course| course.down = None);
                self.shared.gate.call();
                self.shared.put_off.call(&self.shared.to_keeper, |_| usize::MAX); // it may have another way now
            }
        }
    }

    /// Divides the due recipients of a message by where they go, and puts each part into its line.
    fn route(&mut self, settings: &Settings, job: &Arc<Job>) {
        let plan = plan(settings, &self.shared.holds, job);
        if plan.is_empty() {
            // Nothing is open: a crash came between the last record and the removal.
            self.errand(Errand::Conclude(Arc::clone(job)));
            return;
        }
        job.parts_left.store(plan.len(), Ordering::Release);
        let is_bulk = plan.len() > BULK_PARTS;
        for (way, recipients) in plan {
            let part = |destination| Part {
                job: Arc::clone(job),
                recipients,
                destination,
            };
            match way {
                Way::Local => self.errand(Errand::Deposit(part(None))),
                Way::Refused(outcome) => self.errand(Errand::Refuse(part(None), outcome)),
                Way::Held(to) => {
                    let words = format!("its domain is on hold ({})", to.rule);
                    let outcome = Outcome::deferred(ON_HOLD, words);
                    self.errand(Errand::Hold(part(None), outcome));
                }
                Way::Remote(to, asked) => {
                    let part = part(Some(Arc::clone(&to)));
                    let down = self.courses.get_mut(&to.key).map(|course| &mut course.down);
                    if let Some(down) = down {
                        // Whoever comes for it says that the host is there now.
                        down.take_if(|down| asked.is_some_and(|at| at > down.since));
                    }
                    self.line_up(&to, part, is_bulk, settings);
                }
            }
        }
    }

    fn line_up(&mut self, to: &Arc<Destination>, part: Part, is_bulk: bool, settings: &Settings) {
        let course = self
            .courses
            .entry(to.key.clone())
            .or_insert_with(|| Course::new(to));
        if part.job.forced {
            course.down = None;
        }
        if let Some(down) = &course.down {
            if Instant::now() < down.until {
                self.later.push((part, down.outcome.clone()), Instant::now());
                self.defer();
                return;
            }
            course.down = None;
        }
        let is_over = course.stuck && course.backlog() >= self.share_of_stuck && !part.job.forced;
        if is_over && self.shared.in_hand.is_half_full() {
            self.errand(Errand::PutOff(part));
            return;
        }
        course.push(part, is_bulk);
        self.man(&to.key, settings);
        self.judge_gate(&to.key);
    }

    /// Closes or opens the gate for a destination, as that has enough in hand or not.
    fn judge_gate(&mut self, key: &str) {
        let is_proven = self.quota.has_reached(key);
        if let Some(course) = self.courses.get_mut(key) {
            course.judge_gate(&self.shared.gate, is_proven, self.share_of_stuck);
        }
    }

    /// The same for all; and where there is room for all, whoever waits before the gate is called.
    fn keep_the_gate(&mut self) {
        let (gate, share) = (&self.shared.gate, self.share_of_stuck);
        self.moves = false;
        for (key, course) in &mut self.courses {
            let is_proven = self.quota.has_reached(key);
            self.moves |= is_proven && course.moves;
            course.judge_gate(gate, is_proven, share);
        }
        gate.set_room(!self.shared.in_hand.is_half_full() && !self.later.is_over(FOR_LATER));
    }

    /// Defers what waits for that, when it has the time; when others need the room, most of it unrecorded.
    fn defer(&mut self) {
        while let Some((part, outcome)) = self.later.ripe(self.moves, Instant::now()) {
            self.errand(Errand::Refuse(part, outcome));
        }
        while self.later.is_over(FOR_LATER)
            && self.shared.in_hand.is_short()
            && let Some((part, _)) = self.later.newest()
        {
            self.errand(Errand::PutOff(part));
        }
    }

    /// Opens sessions as the backlog grows, not with each message.
    fn man(&mut self, key: &str, settings: &Settings) {
        let delivery = &settings.config.delivery;
        loop {
            let Some(course) = self.courses.get_mut(key) else {
                return;
            };
            let most = match course.destination.door {
                Some(_) => 1,
                None => delivery.max_connections_per_domain.max(1),
            };
            let wanted = course.backlog().div_ceil(PARTS_PER_SESSION).min(most);
            let has_enough = course.sessions >= wanted || course.line.asleep() > 0;
            if has_enough || !self.quota.take(key, delivery.max_connections) {
                return;
            }
            course.sessions += 1;
            course.line.enter();
            self.session_number += 1;
            let (shared, to, line) = (
                Arc::clone(self.shared),
                Arc::clone(&course.destination),
                Arc::clone(&course.line),
            );
            let spawned = std::thread::Builder::new()
                .name(format!("session-{}", self.session_number))
                .spawn(move || session::run(&shared, &to, &line));
            if let Err(error) = spawned {
                warn!(%error, "cannot start a session; tried again shortly");
                course.sessions -= 1;
                course.line.leave();
                self.quota.leave(key);
                return;
            }
        }
    }

    fn session_ended(&mut self, destination: &Arc<Destination>) {
        self.quota.leave(&destination.key);
        if let Some(course) = self.courses.get_mut(&destination.key) {
            course.sessions = course.sessions.saturating_sub(1);
            course.since = Instant::now();
        }
        self.refill();
    }

    fn unreachable(&mut self, destination: &Arc<Destination>, outcome: Outcome, since: Millis) {
        self.quota.is_unreachable(&destination.key);
        let settings = self.shared.settings();
        let first = settings.config.delivery.schedule.retry.first().copied();
        // Shorter than the first retry with its jitter, so that a message that comes back is really tried.
        let pause = first.unwrap_or(LONGEST_PAUSE).mul_f64(0.8).min(LONGEST_PAUSE);
        let Some(course) = self.courses.get_mut(&destination.key) else {
            return;
        };
        course.down = Some(Down::now(since, pause, outcome.clone()));
        let waiting = course.take_all();
        self.told.trouble(destination, &outcome, "cannot be reached");
        debug!(destination = %destination.key, parts = waiting.len(), "deferred together");
        for part in waiting {
            self.later.push((part, outcome.clone()), Instant::now());
        }
        self.defer();
        self.judge_gate(&destination.key);
    }

    fn errand(&mut self, errand: Errand) {
        self.man_desks();
        if let Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) =
            self.errands.try_send(errand)
        {
            self.waiting_errands.push_back(errand);
        }
    }

    /// More desks as errands wait.
    fn man_desks(&mut self) {
        let is_line_short = self.errands.len() < self.desks.div_ceil(4);
        if is_line_short || self.desks >= deposit::hands(self.shared).desks {
            return;
        }
        let (shared, line) = (Arc::clone(self.shared), self.errand_line.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("desk-{}", self.desks))
            .spawn(move || desk::run(&shared, &line));
        match spawned {
            Ok(_) => self.desks += 1,
            Err(error) => error!(%error, "cannot start a thread"),
        }
    }

    /// Moves what waits into lines that have room, and forgets destinations that have nothing.
    fn refill(&mut self) {
        while let Some(errand) = self.waiting_errands.pop_front() {
            if let Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) =
                self.errands.try_send(errand)
            {
                self.waiting_errands.push_front(errand);
                break;
            }
        }
        let now = Instant::now();
        let gate = &self.shared.gate;
        self.courses.retain(|_, course| {
            course.tick();
            let is_used = course.is_down(now) || course.sessions > 0 || course.backlog() > 0;
            if !is_used {
                course.open_gate(gate);
            }
            is_used
        });
        let waiting = self.waiting();
        if !waiting.is_empty() {
            let settings = self.shared.settings();
            waiting.iter().for_each(|(_, _, key)| self.man(key, &settings));
        }
    }

    /// Who has something to send: first those without a session, who has waited longest before the others.
    fn waiting(&self) -> Vec<(bool, Instant, String)> {
        let courses = self.courses.iter().filter(|(_, course)| !course.line.is_empty());
        let mut waiting: Vec<_> = courses
            .map(|(key, course)| (course.sessions > 0, course.since, key.clone()))
            .collect();
        waiting.sort_unstable();
        waiting
    }

    /// Asks sessions for their places as far as that would help somebody who has none.
    fn ask_for_turns(&self, waiting: &[(bool, Instant, String)]) {
        let most = self.shared.settings().config.delivery.max_connections;
        let could_have = |(has_session, _, key): &&(bool, Instant, String)| {
            !has_session && self.quota.could_have(key, most)
        };
        self.shared.turns.ask(waiting.iter().filter(could_have).count());
    }

    /// What stands in lines that do not move must not fill the memory that all share, be it with few for each of many.
    fn put_off(&mut self) {
        let now = Instant::now();
        let is_short = self.shared.in_hand.is_short() && self.courses.len() >= MANY;
        let patience = if is_short { WHEN_SHORT } else { STUCK_AFTER };
        let mut stuck = 0;
        for course in self.courses.values_mut() {
            course.look(now, patience);
            stuck += usize::from(course.stuck);
        }
        self.share_of_stuck = (FOR_STUCK / stuck.max(1)).max(1);
        if stuck == 0 || !self.shared.in_hand.is_half_full() {
            return;
        }
        let mut over = Vec::new();
        for course in self.courses.values_mut().filter(|course| course.stuck) {
            if course.backlog() > self.share_of_stuck {
                let cut = course.cut_after(self.share_of_stuck);
                debug!(destination = %course.destination.key, parts = cut.len(), "does not move; put off");
                over.extend(cut);
            }
        }
        over.into_iter()
            .for_each(|part| self.errand(Errand::PutOff(part)));
    }

    /// Calls what was put off, as its destinations move.
    fn call(&mut self) {
        let now = Instant::now();
        if now < self.next_call {
            return;
        }
        self.next_call = now + CALL_EVERY;
        let is_busy = self.shared.in_hand.is_half_full();
        let to_be_deferred = if is_busy { 0 } else { CALLED_TO_BE_DEFERRED };
        let courses = &mut self.courses;
        let how_many = |key: &str| match courses.get_mut(key) {
            Some(course) if course.down.is_some() => to_be_deferred,
            Some(course) => course.calls(),
            None => course::FIRST_CALL,
        };
        self.shared.put_off.call(&self.shared.to_keeper, how_many);
    }

    /// A destination that is slow must not fill the memory that all share: what it will not send soon goes back to
    /// Queue for a while, where other nodes can take it, and makes room for the mail of others.
    fn relieve(&mut self) {
        let now = Instant::now();
        if now < self.next_relief {
            return;
        }
        self.next_relief = now + RELIEF;
        let waiting = self.waiting();
        self.ask_for_turns(&waiting);
        let late: HashSet<&String> = waiting
            .iter()
            .filter(|(has_session, ..)| !has_session)
            .skip(MOST_WAITING)
            .map(|(_, _, key)| key)
            .collect();
        let crowded = self.shared.in_hand.is_short();
        let until = crate::clock::now() + PARKED;
        let mut over = Vec::new();
        for (key, course) in &mut self.courses {
            let keep = if late.contains(key) {
                0
            } else {
                course.pace().saturating_mul(SOON).max(LEAST_KEPT)
            };
            if crowded && course.backlog() > keep {
                let cut = course.cut_after(keep);
                debug!(destination = %course.destination.key, parts = cut.len(), "slow; back to Queue for a while");
                over.extend(cut);
            }
        }
        over.into_iter()
            .for_each(|part| self.errand(Errand::Park(part, until)));
    }

    fn give_everything_back(&mut self, errand_line: &Receiver<Errand>) {
        let shared = self.shared;
        for course in self.courses.values_mut() {
            let parts = course.take_all();
            course.line.close();
            parts.iter().for_each(|part| settle::give_back(shared, &part.job));
        }
        while let Some((part, _)) = self.later.newest() {
            settle::give_back(shared, &part.job);
        }
        let errands: Vec<Errand> = self
            .waiting_errands
            .drain(..)
            .chain(errand_line.try_iter())
            .collect();
        errands
            .into_iter()
            .for_each(|errand| desk::give_back(shared, errand));
    }
}
