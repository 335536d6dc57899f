//! Queue: lists it, takes what is due, sees what an operator did, takes over what a dead node left (contract §3, §6).
//!
//! Reads: Queue, and Pickup for half-made claims across volumes. Writes: both through `mailroot` (claims, takeovers,
//! removal of what is worthless). Threads: keeper, and a pool of its own that reads records, claims and takes over.
//! Not here: when a message is due (queue/schedule), how one is taken (due), sending (dispatch).

mod on_hold;

use super::due::{FOR_PARENT, Taken, Taker};
use super::job::{Released, ToKeeper};
use super::listing::{Effort, HalfClaim, Listing, Pace, Seen};
use super::orphans::Orphans;
use super::shared::{Mode, Shared, lock};
use super::waiting::{Marks, Waiting, differs, first_sight, is_too_far, nanos};
use super::{pool, settle, takeover, trial};
use crate::clock::{self, Millis, Steady};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use crate::mailroot::release::Requests;
use crate::mailroot::{DiskError, NodeName, OpenFolder, prune};
use crossbeam_channel::{Receiver, select};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, info, warn};

/// A drain waits for that no longer than this.
const DRAIN_FOR_PARENT: Duration = Duration::from_secs(10);
/// How often it is looked for what is too old or too much: in Badmail, and of proofs of the storage that were killed.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// A listing may take this share of the time: the next one waits so many times as long as the last one took.
const LISTING_SHARE: u32 = 30;
/// Threads that claim and read: on network storage each step is a long wait, and those who wait for a sync share it.
const THREADS: usize = 16;
/// So many messages are taken in hand together.
const BATCH: usize = 64;
/// The records of so many new ones are read together.
const MET: usize = 16_384;

/// Keeps Queue until the end.
pub fn run(shared: &Arc<Shared>, told: &Receiver<ToKeeper>) {
    let Some(pool) = pool::start("keeper", THREADS) else {
        return;
    };
    let mut keeper = Keeper {
        shared,
        waiting: HashMap::new(),
        round: 0,
        due: BinaryHeap::new(),
        orphans: Orphans::default(),
        generation: 0,
        scanned: false,
        unlisted: false,
        cut_short: true,
        failed: takeover::Failed::default(),
        half_claimants: HashSet::new(),
        attempted: HashSet::new(),
        next_prune: Instant::now(),
        steady: Steady::default(),
        begun: Instant::now(),
        awaited: HashSet::new(),
        taker: Taker::new(shared),
        heard: 0,
        requests: Requests::of(&shared.spool.folders().status),
        next_ask: Instant::now(),
        pool,
    };
    let (mut next_scan, mut pace) = (Instant::now(), Pace::default());
    loop {
        if keeper.clock_was_set() {
            next_scan = Instant::now();
        }
        let poll = shared.settings().config.pickup.poll;
        keeper.look_who_asks(poll);
        if next_scan <= Instant::now() {
            let took = keeper.scan();
            next_scan = Instant::now() + pace.after(took, LISTING_SHARE, poll);
        }
        keeper.take_due();
        shared
            .unheard
            .fetch_sub(std::mem::take(&mut keeper.heard), Ordering::SeqCst);
        let next = next_scan.min(keeper.next_ask);
        let wait = keeper.next_due().map_or(next, |due| due.min(next));
        select! {
            recv(told) -> told => if let Ok(told) = told { keeper.is_told(told) },
            recv(shared.keeper_wake.1) -> _ => next_scan = Instant::now(),
            recv(shared.stop.signal()) -> _ => break,
            default(wait.saturating_duration_since(Instant::now())) => {}
        }
        told.try_iter().for_each(|told| keeper.is_told(told));
    }
    keeper.taker.finish();
}

struct Keeper<'a> {
    shared: &'a Arc<Shared>,
    waiting: HashMap<Ulid, Waiting>,
    /// Counts listings, so that it is seen whom the last one has shown.
    round: u8,
    due: BinaryHeap<Reverse<(Millis, Ulid)>>,
    orphans: Orphans,
    generation: u64,
    scanned: bool,
    /// Something was taken over that only the next listing shows.
    unlisted: bool,
    /// There may be claims across volumes that were cut short.
    cut_short: bool,
    /// Of those: what could not be finished, and whose they are.
    failed: takeover::Failed,
    half_claimants: HashSet<NodeName>,
    /// Messages that a drain has attempted: not again in this run.
    attempted: HashSet<Ulid>,
    next_prune: Instant,
    steady: Steady,
    begun: Instant,
    /// What a drain waits for: reports whose parents are not done with them, and what was put off.
    awaited: HashSet<Ulid>,
    taker: Taker<'a>,
    /// Releases since what is due was taken.
    heard: usize,
    /// For domains on hold, and when they are looked at again: soon, however long a listing of Queue takes.
    requests: Requests,
    next_ask: Instant,
    pool: rayon::ThreadPool,
}

impl Keeper<'_> {
    /// One whole look at Queue. Returns what each such look costs again; what is new is met, and what the dead have
    /// left is taken, only once. One that failed is tried again soon, however long it hung.
    fn scan(&mut self) -> Effort {
        let since = Effort::begin();
        // Before the listing, which then shows all that they ever claimed.
        let dead: HashSet<NodeName> = std::mem::take(&mut *lock(&self.shared.dead));
        let (queue, mut listing, half_claims) = match self.list() {
            Ok(lists) => lists,
            Err(error) => {
                self.cannot_list(&error, dead);
                return Effort::default();
            }
        };
        debug!(waiting = listing.waiting.len(), "Queue was listed");
        let unknown = self.compare(std::mem::take(&mut listing.waiting));
        let mut effort = since.end();
        effort.work += listing.work;
        let finished = takeover::finish_half_claims(self.shared, half_claims, &dead, &mut self.failed);
        let taken = takeover::take_over(self.shared, &listing, &dead, &finished.stuck, &self.pool);
        self.shared.condemn(&trial::guilty(self.shared, &taken));
        self.unlisted = finished.any || !taken.is_empty();
        if self.unlisted {
            self.shared.poke_keeper(); // what was taken over is listed at once
        }
        self.meet(unknown, &queue);
        self.sweep_orphans(&listing);
        takeover::bury_the_dead(self.shared, &listing, &dead, !self.scanned);
        self.scanned = true;
        self.prune(&listing);
        effort
    }

    /// After the wall clock was set, what is known of due times is worth nothing: the records are read again.
    fn clock_was_set(&mut self) -> bool {
        let Some(by) = self.steady.was_set() else {
            return false;
        };
        warn!(
            seconds = by / 1000,
            "the clock was set; when each message is due is looked up anew"
        );
        self.waiting.clear();
        self.due.clear();
        self.shared.holds.forget();
        true
    }

    /// Old Badmail, when settings say so, and old files that prove the storage.
    fn prune(&mut self, listing: &Listing) {
        if self.next_prune > Instant::now() {
            return;
        }
        self.next_prune = Instant::now() + PRUNE_EVERY;
        self.shared.spool.remove_old_probes(&listing.probes);
        let settings = self.shared.settings();
        let limits = &settings.config.badmail;
        let folder = &self.shared.spool.folders().badmail;
        match prune::badmail(folder, limits.keep_days, limits.max_size, SystemTime::now()) {
            Ok(0) => {}
            Ok(messages) => info!(
                messages,
                "removed from Badmail (badmail.keep_days, badmail.max_size)"
            ),
            Err(error) => warn!(%error, "Badmail is not kept small; tried again later"),
        }
    }

    fn cannot_list(&mut self, error: &DiskError, dead: HashSet<NodeName>) {
        lock(&self.shared.dead).extend(dead);
        // Named once until it can be listed again. The next drain may have more luck.
        if std::mem::replace(&mut self.scanned, false) || self.shared.mode == Mode::Drain {
            warn!(%error, "tried again");
        }
        if self.shared.mode == Mode::Drain {
            self.shared.queue_idle.store(true, Ordering::SeqCst);
            self.shared.progress.note();
        }
    }

    fn list(&mut self) -> Result<(OpenFolder, Listing, Vec<HalfClaim>), DiskError> {
        let folders = self.shared.spool.folders();
        // At the first nothing is known, and nothing can have been alone for long.
        let is_known = |ulid| !self.scanned || self.waiting.contains_key(&ulid);
        let queue = OpenFolder::open(&folders.queue)?;
        let listing = self.pool.install(|| Listing::of(&queue, is_known))?;
        // On one volume a claim is one step; but this tree may have been copied from where it was not.
        let half_claims = if self.cut_short || takeover::are_apart(&folders.pickup, &folders.queue) {
            self.shared.spool.claims_are_possible()?;
            HalfClaim::all(&folders.pickup)?
        } else {
            Vec::new()
        };
        self.cut_short = !half_claims.is_empty();
        let own = self.shared.spool.node();
        let nodes = listing.taken.iter().map(|(_, node)| node);
        // A drain waits for the verdict on those that it found: not on names that somebody goes on making.
        if !self.scanned || self.shared.mode == Mode::Run {
            self.half_claimants = half_claims.iter().map(|half| half.node.clone()).collect();
        }
        let halves = half_claims.iter().map(|half| &half.node);
        let nodes = nodes.chain(halves.filter(|node| self.half_claimants.contains(node)));
        *lock(&self.shared.claimants) = nodes.filter(|node| **node != own).cloned().collect();
        Ok((queue, listing, half_claims))
    }

    /// What is gone, touched, or new since the last listing; returns the new ones.
    fn compare(&mut self, mut seen: Vec<Seen>) -> Vec<Seen> {
        self.round = self.round.wrapping_add(1);
        seen.retain(|seen| !self.is_known(seen));
        self.waiting.retain(|_, waiting| waiting.round == self.round);
        self.awaited.retain(|ulid| self.waiting.contains_key(ulid));
        self.shrink();
        seen
    }

    /// Whether it was known to wait; notes that it does, and whether it was touched.
    fn is_known(&mut self, seen: &Seen) -> bool {
        let known = self.waiting.get_mut(&seen.ulid);
        let is_released = self.shared.in_hand.has(seen.ulid); // this instant
        let Some(known) = known else {
            return is_released;
        };
        known.round = self.round;
        if is_released || known.life != seen.life {
            return is_released;
        }
        let touched = known.file_time != 0 && differs(known.file_time, seen.file_time);
        if touched && !known.marks.forced() {
            info!(id = %MessageId { ulid: seen.ulid, life: seen.life }, "touched: tried again now");
            known.marks.force();
            known.due = 0;
            self.due.push(Reverse((0, seen.ulid)));
        }
        true
    }

    /// Gives back the memory for many that wait no more, or have been put off again and again.
    fn shrink(&mut self) {
        let enough = |many: usize| many.saturating_mul(4).saturating_add(10_000);
        if self.waiting.capacity() > enough(self.waiting.len()) {
            self.waiting.shrink_to_fit();
        }
        if self.due.capacity() > enough(self.waiting.len()) {
            let waiting = &self.waiting;
            let counts =
                |due: Millis, ulid: &Ulid| waiting.get(ulid).is_some_and(|waiting| waiting.due == due);
            self.due.retain(|Reverse((due, ulid))| counts(*due, ulid));
            self.due.shrink_to_fit();
        }
    }

    /// Reads the records of those who were not known, in the order in which their files were made: a folder lists them
    /// in none, and a disk that has to jump for each of a million takes hours.
    fn meet(&mut self, mut unknown: Vec<Seen>, queue: &OpenFolder) {
        unknown.sort_unstable_by_key(|seen| seen.inode);
        let settings = self.shared.settings();
        let sight = |seen: &Seen| {
            let (ulid, life) = (seen.ulid, seen.life);
            let id = MessageId { ulid, life };
            let holds = &self.shared.holds;
            (id, first_sight(&settings, holds, queue, id, seen.file_time))
        };
        self.waiting.reserve(unknown.len());
        self.due.reserve(unknown.len());
        for some in unknown.chunks(MET) {
            let read: Vec<(MessageId, Waiting)> = self.pool.install(|| some.par_iter().map(sight).collect());
            for (id, waiting) in read {
                self.remember(id, waiting);
            }
        }
    }

    fn remember(&mut self, id: MessageId, waiting: Waiting) {
        self.due.push(Reverse((waiting.due, id.ulid)));
        let round = self.round;
        self.waiting.insert(id.ulid, Waiting { round, ..waiting });
    }

    fn sweep_orphans(&mut self, listing: &Listing) {
        let removed: HashSet<Ulid> = lock(&self.shared.removed).iter().map(|id| id.ulid).collect();
        let in_hand = &self.shared.in_hand;
        let is_alive =
            |ulid: Ulid| listing.alive.contains(&ulid) || in_hand.has(ulid) || removed.contains(&ulid);
        let ripe = self.orphans.ripe(&listing.remains, is_alive, Instant::now());
        // Whoever removed their message files may have died before he synced that.
        if !ripe.is_empty()
            && let Err(error) = self.shared.spool.sync_queue()
        {
            self.shared.distrust(&error);
            return;
        }
        match self.shared.spool.sweep(&ripe) {
            Ok(()) => ripe
                .iter()
                .for_each(|id| debug!(%id, "remains of a finished message removed")),
            Err(error) => warn!(%error, "what finished messages have left stays; tried again"),
        }
    }

    fn is_told(&mut self, told: ToKeeper) {
        match told {
            ToKeeper::Released(message) => {
                self.heard += 1;
                self.released(message);
            }
            ToKeeper::Called(ulids) => ulids.into_iter().for_each(|ulid| self.called(ulid)),
        }
    }

    fn called(&mut self, ulid: Ulid) {
        if let Some(waiting) = self
            .waiting
            .get_mut(&ulid)
            .filter(|waiting| waiting.marks.put_off())
        {
            waiting.due = 0;
            self.due.push(Reverse((0, ulid)));
        }
    }

    fn released(&mut self, message: Released) {
        if self.shared.mode == Mode::Drain && message.put_off {
            self.awaited.insert(message.id.ulid); // it is called yet
        } else if self.shared.mode == Mode::Drain {
            if message.untried {
                self.unlisted = true; // it had to make room for others; the next listing shows it
            } else {
                self.attempted.insert(message.id.ulid); // once in this run is enough
            }
            return;
        }
        // The clock was set back between the attempt and now.
        let too_far = is_too_far(&self.shared.settings(), message.due);
        // What it waits for was set free meanwhile.
        let is_free =
            message.held.is_any() && message.generation != self.shared.generation.load(Ordering::SeqCst);
        let at_once = too_far || is_free || message.freed;
        // Somebody asked meanwhile, perhaps for its domain.
        let is_asked = message.held.is_for_domain() && message.requests != self.shared.holds.version();
        let waiting = Waiting {
            life: message.id.life,
            due: if at_once || is_asked { 0 } else { message.due },
            file_time: nanos(message.file_time),
            round: self.round,
            marks: Marks::new((message.forced && message.untried) || at_once, message.put_off),
            held: message.held,
            parent: message.parent.map(Box::new),
        };
        self.remember(message.id, waiting);
    }

    fn next_due(&self) -> Option<Instant> {
        let Reverse((due, _)) = self.due.peek()?;
        let wait = due.saturating_sub(clock::now());
        // Never idle on an entry that cannot be taken now.
        Some(Instant::now() + Duration::from_millis(wait.max(50)))
    }

    /// Claims what is due, as far as there is room.
    fn take_due(&mut self) {
        self.free_held_domains();
        let settings = self.shared.settings();
        let (now, until) = (clock::now(), Instant::now() + settings.config.pickup.poll);
        loop {
            // On slow storage a long row takes time: what the dead have left does not wait for its end.
            let for_dead = Instant::now() >= until && !lock(&self.shared.dead).is_empty();
            let batch = if for_dead {
                Vec::new()
            } else {
                self.next_batch(now)
            };
            if batch.is_empty() {
                break;
            }
            let taker = &self.taker;
            let take = |(id, waiting): &(MessageId, Waiting)| taker.take(&settings, *id, waiting);
            let taken: Vec<Taken> = match batch.as_slice() {
                [one] => vec![take(one)],
                many => self
                    .pool
                    .install(|| many.par_iter().with_max_len(1).map(take).collect()),
            };
            let mut jobs = Vec::new();
            for ((id, waiting), taken) in batch.into_iter().zip(taken) {
                match taken {
                    Taken::Job(job) => jobs.push(job),
                    Taken::Nothing => {}
                    Taken::Later(wait) | Taken::Buried(wait) => self.take_later(now, id, waiting, wait),
                }
            }
            if !jobs.is_empty() {
                settle::hand_on(self.shared, jobs);
            }
        }
        self.note_idle(now);
    }

    /// Those who are taken next, no longer among the waiting.
    fn next_batch(&mut self, now: Millis) -> Vec<(MessageId, Waiting)> {
        let room = self.shared.in_hand.room().min(BATCH);
        let mut batch = Vec::new();
        while batch.len() < room && self.shared.may_claim() {
            let Some(&Reverse((due, ulid))) = self.due.peek().filter(|Reverse((due, _))| *due <= now) else {
                break;
            };
            self.due.pop();
            // What was put off, or forgotten, has left its former entry here.
            if self.attempted.contains(&ulid) || self.waiting.get(&ulid).is_none_or(|w| w.due != due) {
                continue;
            }
            if let Some(waiting) = self.waiting.remove(&ulid) {
                self.awaited.remove(&ulid);
                let life = waiting.life;
                batch.push((MessageId { ulid, life }, waiting));
            }
        }
        batch
    }

    fn take_later(&mut self, now: Millis, id: MessageId, waiting: Waiting, wait: Duration) {
        let due = now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(60_000).max(100));
        let is_short = wait == FOR_PARENT && self.begun.elapsed() < DRAIN_FOR_PARENT;
        if is_short {
            self.awaited.insert(id.ulid);
        }
        if self.shared.mode == Mode::Run || is_short {
            self.remember(id, Waiting { due, ..waiting });
        } else {
            self.waiting.insert(id.ulid, waiting); // known, and not again in this run
        }
    }

    /// For drain: nothing is due here, and nothing is to come.
    fn note_idle(&self, now: Millis) {
        if self.shared.mode == Mode::Drain && self.scanned {
            let nothing_due = self.due.peek().is_none_or(|Reverse((due, _))| *due > now);
            let all_seen = self.shared.claimants_judged()
                && lock(&self.shared.dead).is_empty()
                && self.awaited.is_empty()
                && !self.unlisted;
            self.shared
                .queue_idle
                .store(nothing_due && all_seen, Ordering::SeqCst);
            self.shared.progress.note();
        }
    }
}
