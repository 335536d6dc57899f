//! Pickup: lists it, chooses which files to look at, and hands what was taken to dispatch (contract §4).
//!
//! Reads: Pickup's names. Writes: nothing itself. Threads: intake, and a rayon pool of its own that looks at, claims
//! and parses a batch ([`look`]). Not here: what a file says (pickup), where it goes (dispatch).

use super::burial::{self, Burials};
use super::gate::Outside;
use super::lane::{Lane, PLACES};
use super::listing::{Pace, rests};
use super::look::{Glance, Look, Looker, Readers, look};
use super::shared::{Mode, Settings, Shared, lock};
use super::sightings::{Sightings, Why};
use super::{pool, settle};
use crate::log;
use crate::mailroot::DiskError;
use crate::mailroot::evidence;
use crate::mailroot::hanging;
use crate::mailroot::watch::{Happened, Hints, Watcher};
use crossbeam_channel::{bounded, select, unbounded};
use rayon::prelude::*;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Files looked at together; the first of them are on their way while the next are read.
const BATCH: usize = 256;
/// So many of them are looked at by one thread in one go; on storage of several machines, where each look is a long wait …
const PIECE: usize = 32;
const PIECE_FAR_AWAY: usize = 4;
/// … by so many threads.
const READERS_FAR_AWAY: usize = 16;
/// What was taken goes on its way after this time at most, while the rest of its piece is looked at.
const SOON: Duration = Duration::from_millis(5);
/// During a long listing so many of those whose time has come are looked at, so often.
const SETTLED: usize = BATCH;
const SETTLED_EVERY: Duration = Duration::from_millis(250);
/// To find those may take this share of the time, but delays none of them by more than [`SETTLED_EVERY`].
const SEARCH_SHARE: u32 = 40;
/// How long the first listing waits for heart's first look at other nodes.
const FIRST_VERDICT: Duration = Duration::from_secs(1);
/// Beyond the processors: reading waits for the disk.
const SPARE_READERS: usize = 2;
/// So many files of a kind that take time to read are read at once.
const READERS: usize = 2;

/// Takes files until the end.
pub fn run(shared: &Arc<Shared>) {
    let shared_storage = evidence::is_shared_storage(&shared.spool.folders().pickup);
    let threads = match shared_storage {
        true => READERS_FAR_AWAY,
        false => std::thread::available_parallelism().map_or(2, usize::from) + SPARE_READERS,
    };
    let Some(pool) = pool::start("intake", threads) else {
        return;
    };
    let (has_room, room) = bounded(1);
    let (looked, results) = unbounded();
    let burials = Arc::new(burial::start(shared, &has_room));
    let reader = |name| {
        let (shared, burials, looked) = (Arc::clone(shared), Arc::clone(&burials), looked.clone());
        let work = move |glance| {
            let _ = looked.send(look_aside(&shared, &burials, glance, shared_storage));
        };
        Lane::start(name, READERS, &has_room, work)
    };
    let readers = Readers {
        medium: reader("medium"),
        large: reader("large"),
    };
    let (poke, wake) = bounded(1);
    // A drain ends with what is there, and each of our own steps would be told it too.
    let watches = shared.mode == Mode::Run;
    let hints = Arc::new(Hints::default());
    let mut intake = Intake {
        shared,
        watch: Watcher::start(&shared.spool.folders().pickup, watches, Arc::clone(&hints), poke),
        hints,
        pool,
        burials: Arc::clone(&burials),
        readers,
        shared_storage,
        sightings: Sightings::default(),
        outside: Outside::default(),
        next_scan: Instant::now(),
        next_scan_when_lost: Instant::now(),
        pace: Pace::default(),
        search: Duration::ZERO,
        worked: Duration::ZERO,
        in_vain: Duration::ZERO,
        listed: false,
    };
    // Whether a process has died here decides how files are read.
    let begun = Instant::now();
    while lock(&shared.judged).is_none() && begun.elapsed() < FIRST_VERDICT && !shared.stop.is_set() {
        std::thread::sleep(Duration::from_micros(500));
    }
    loop {
        let due = intake.next_listing() <= Instant::now();
        intake.pass(due);
        if shared.stop.is_set() {
            break;
        }
        let until = intake.next_look();
        select! {
            recv(wake) -> _ => {}
            recv(room) -> _ => intake.go_on(),
            recv(shared.gate.calls()) -> _ => intake.let_in(),
            recv(results) -> looked => intake.was_looked_at(looked.into_iter().chain(results.try_iter()).collect()),
            recv(shared.stop.signal()) -> _ => break,
            default(until.saturating_duration_since(Instant::now())) => {}
        }
    }
    let Intake {
        readers,
        burials: same,
        ..
    } = intake;
    drop(same);
    readers.medium.finish();
    readers.large.finish();
    // What they had in hand at the last moment.
    let jobs = results.try_iter().filter_map(|(_, look)| match look {
        Look::Taken(job) => Some(job),
        _ => None,
    });
    settle::hand_on(shared, jobs.collect());
    if let Ok(burials) = Arc::try_unwrap(burials) {
        burials.finish();
    }
}

/// A look at a file that takes time to read.
fn look_aside(shared: &Shared, burials: &Burials, glance: Glance, shared_storage: bool) -> (Glance, Look) {
    let settings = shared.settings();
    let looker = Looker {
        shared,
        settings: &settings,
        shared_storage,
        burials,
        aside: None,
        may_stay_outside: false,
    };
    let look = if wait_for_room(shared) {
        look_unharmed(&looker, &glance)
    } else {
        Look::Done // the end has come; it lies where it was
    };
    (glance, look)
}

/// A panic of ours leaves the file where it is.
fn look_unharmed(looker: &Looker<'_>, glance: &Glance) -> Look {
    let looked = AssertUnwindSafe(|| look(looker, glance));
    catch_unwind(looked).unwrap_or_else(|_| Look::Wait(Why::Unreadable("an internal error".into())))
}

/// Above the bound nobody claims: the rest waits in Pickup, where other nodes can take it.
fn wait_for_room(shared: &Shared) -> bool {
    loop {
        if shared.stop.is_set() {
            return false;
        }
        if shared.may_claim() && shared.in_hand.wait_for_room(Duration::from_millis(100)) > 0 {
            return true;
        }
        if !shared.may_claim() && shared.stop.sleep(Duration::from_millis(100)) {
            return false;
        }
    }
}

struct Intake<'a> {
    shared: &'a Arc<Shared>,
    watch: Watcher,
    hints: Arc<Hints>,
    pool: rayon::ThreadPool,
    burials: Arc<Burials>,
    readers: Readers,
    /// The lease says nothing about writers on other machines.
    shared_storage: bool,
    sightings: Sightings,
    outside: Outside,
    next_scan: Instant,
    /// The same, when there is more to be found than was told.
    next_scan_when_lost: Instant,
    pace: Pace,
    /// How long it took, the last time, to find those whose time had come.
    search: Duration,
    /// How much of the present listing went into files, not into the list …
    worked: Duration,
    /// … and how much of that into files that were none of our business: it counts as listing.
    in_vain: Duration,
    /// The folder has been listed as a whole.
    listed: bool,
}

impl Intake<'_> {
    /// One pass: the hinted names, and all names when the scan is due.
    fn pass(&mut self, scan: bool) {
        if !scan {
            let mut names = self.hinted();
            let began = Instant::now();
            names.extend(self.sightings.ripe(began, usize::MAX));
            self.search = began.elapsed();
            names.sort_unstable();
            names.dedup();
            for batch in names.chunks(BATCH) {
                self.look_at(batch.to_vec());
            }
        } else {
            let began = Instant::now();
            (self.worked, self.in_vain) = (Duration::ZERO, Duration::ZERO);
            if let Some(listed) = self.scan() {
                let took = if listed { began.elapsed() } else { Duration::ZERO };
                self.rest(took.saturating_sub(self.worked) + self.in_vain);
            }
        }
        self.note_idle(scan);
    }

    /// Sets the time of the next listing, after one that took so long beside the taking of mail.
    fn rest(&mut self, took: Duration) {
        let poll = self.shared.settings().config.pickup.poll;
        let is_told =
            self.watch.is_watching() && !self.shared_storage && !self.sightings.has_forgotten_mail();
        let (short, long) = rests(self.pace.usual(took), poll, is_told);
        let now = Instant::now();
        (self.next_scan_when_lost, self.next_scan) = (now + short, now + long);
    }

    fn next_listing(&self) -> Instant {
        if self.hints.are_lost() {
            self.next_scan.min(self.next_scan_when_lost)
        } else {
            self.next_scan
        }
    }

    /// Names that notifications have told since the last call.
    fn hinted(&mut self) -> Vec<OsString> {
        let hinted = self.hints.take();
        for (name, what) in &hinted {
            self.sightings.touched(name, *what == Happened::RenamedIn);
        }
        hinted.into_keys().collect()
    }

    /// There is room aside again.
    fn go_on(&mut self) {
        let names = self.sightings.crowded(PLACES);
        self.look_at(names);
    }

    /// What waits before the gate may come in.
    fn let_in(&mut self) {
        let gate = &self.shared.gate;
        let room = if gate.has_room() {
            self.shared.in_hand.room_to_half().min(BATCH)
        } else {
            0
        };
        let names = self.outside.take(gate, room, BATCH);
        gate.set_awaited(!self.outside.is_empty());
        if !names.is_empty() {
            gate.call(); // until there is none
        }
        self.sightings.are_ripe(&names);
        self.look_at(names);
    }

    /// The truth: every name in the folder. Takes them in batches while it lists; what comes in meanwhile, or has
    /// settled, does not wait for the end of a long list, nor the list for what goes on coming in. `None` when it was
    /// cut short, `false` when the folder could not be listed.
    fn scan(&mut self) -> Option<bool> {
        let folder = self.shared.spool.folders().pickup.clone();
        let listed = hanging::read_dir(&folder).map_err(DiskError::when("list", &folder));
        let entries =
            match listed.and_then(|entries| self.shared.spool.claims_are_possible().map(|()| entries)) {
                Ok(entries) => {
                    self.sightings.folder_is_back(&folder);
                    self.watch.follow();
                    entries
                }
                Err(error) => {
                    self.sightings.folder_is_gone(&error);
                    return Some(false);
                }
            };
        self.sightings.begin_scan();
        self.hints.forget_losses();
        let mut new: Vec<OsString> = self.hinted();
        let mut batch = Vec::with_capacity(BATCH);
        let mut settled = Instant::now();
        for entry in entries.flatten() {
            batch.push((
                entry.file_name(),
                entry.file_type().is_ok_and(|kind| kind.is_file()),
            ));
            if batch.len() == BATCH {
                self.look_at_listed(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                if new.is_empty() {
                    new = self.hinted();
                }
                let first = new.split_off(new.len().saturating_sub(BATCH));
                self.look_at(first);
                if settled.elapsed() >= SETTLED_EVERY {
                    settled = Instant::now();
                    self.look_at(self.sightings.ripe_mail(settled, SETTLED));
                }
                if self.shared.gate.calls().try_recv().is_ok() {
                    self.let_in();
                }
                if self.shared.stop.is_set() {
                    return None;
                }
            }
        }
        self.look_at_listed(batch);
        for batch in new.chunks(BATCH) {
            self.look_at(batch.to_vec());
        }
        self.sightings.end_scan();
        Some(true)
    }

    fn look_at(&mut self, names: Vec<OsString>) {
        self.look_at_listed(names.into_iter().map(|name| (name, false)).collect());
    }

    /// The same, with what the listing says: whether it is a regular file.
    fn look_at_listed(&mut self, names: Vec<(OsString, bool)>) {
        let settings = self.shared.settings();
        let ignore = &settings.config.pickup.ignore;
        let now = Instant::now();
        let mut glances: Vec<Glance> = Vec::with_capacity(names.len());
        for (name, is_file) in names {
            if crate::pickup::ignored(&name, ignore) || !self.sightings.wants_a_look(&name, now) {
                continue;
            }
            glances.push(self.sightings.of(name, is_file, now));
        }
        let began = Instant::now();
        self.take_all(&settings, glances);
        self.worked += began.elapsed();
    }

    fn take_all(&mut self, settings: &Settings, mut glances: Vec<Glance>) {
        while !glances.is_empty() {
            if !wait_for_room(self.shared) {
                return;
            }
            if let Err(error) = self.shared.spool.claims_are_possible() {
                self.sightings.folder_is_gone(&error);
                return;
            }
            let room = self.shared.in_hand.room().min(glances.len()).max(1);
            let rest = glances.split_off(room.min(glances.len()));
            self.take(settings, glances);
            glances = rest;
        }
    }

    fn take(&mut self, settings: &Settings, glances: Vec<Glance>) {
        let looker = Looker {
            shared: self.shared,
            settings,
            shared_storage: self.shared_storage,
            burials: &self.burials,
            aside: Some(&self.readers),
            may_stay_outside: self.outside.has_room(),
        };
        let began = Instant::now();
        let look = |glance: &Glance| look_unharmed(&looker, glance);
        let looks: Vec<Look> = match glances.as_slice() {
            [one] => vec![look(one)],
            many => {
                let size = if self.shared_storage {
                    PIECE_FAR_AWAY
                } else {
                    PIECE
                };
                let piece = |piece: &[Glance]| self.look_at_piece(piece, look);
                self.pool
                    .install(|| many.par_chunks(size).flat_map_iter(piece).collect())
            }
        };
        if looks.iter().all(|look| matches!(look, Look::Wait(_))) {
            self.in_vain += began.elapsed();
        }
        self.was_looked_at(glances.into_iter().zip(looks).collect());
    }

    /// Looks at these and hands on what was taken, not later than its neighbours need to be looked at.
    fn look_at_piece(&self, glances: &[Glance], look: impl Fn(&Glance) -> Look) -> Vec<Look> {
        let mut looks = Vec::with_capacity(glances.len());
        while looks.len() < glances.len() {
            let (began, mut jobs) = (Instant::now(), Vec::new());
            // What is said of them stands in the log before anybody else says more.
            log::together(|| {
                for glance in glances.iter().skip(looks.len()) {
                    looks.push(match look(glance) {
                        Look::Taken(job) => {
                            jobs.push(job);
                            Look::Done
                        }
                        other => other,
                    });
                    if began.elapsed() >= SOON {
                        break;
                    }
                }
            });
            if !jobs.is_empty() {
                settle::hand_on(self.shared, jobs);
            }
        }
        looks
    }

    /// What looks came to, here and aside.
    fn was_looked_at(&mut self, looks: Vec<(Glance, Look)>) {
        let settings = self.shared.settings();
        let mut jobs = Vec::new();
        for (glance, look) in looks {
            let why = match look {
                Look::Taken(job) => {
                    self.sightings.forget(&glance.name);
                    jobs.push(job);
                    continue;
                }
                Look::Done | Look::Buried => {
                    self.sightings.forget(&glance.name);
                    continue;
                }
                Look::Aside(print) => Why::BeingRead(print),
                Look::Wait(why) => why,
            };
            if let Why::Outside(_, destination) = &why {
                self.outside.put(destination, glance.name.clone());
                self.shared.gate.set_awaited(true);
            }
            self.sightings
                .note(glance.name, why, &settings.config.pickup, glance.renamed_in);
        }
        if !jobs.is_empty() {
            settle::hand_on(self.shared, jobs);
        }
        self.note_idle(false);
    }

    fn next_look(&self) -> Instant {
        let listing = self.next_listing();
        // Of very many the time of one or another has always come: to look for them must not be all that is done.
        let pause = self.search.saturating_mul(SEARCH_SHARE).min(SETTLED_EVERY);
        let look = self.sightings.next();
        look.map_or(listing, |look| look.max(Instant::now() + pause).min(listing))
    }

    /// For drain: nothing is left here, or only what waits for its grace.
    fn note_idle(&mut self, scanned: bool) {
        if self.shared.mode == Mode::Drain {
            // Of a Pickup that cannot be listed nobody may think that it is empty.
            let waiting = self.sightings.waiting() > 0 || self.sightings.is_folder_gone();
            self.shared.pickup_waiting.store(waiting, Ordering::SeqCst);
            self.listed |= scanned;
            self.shared
                .pickup_idle
                .store(self.listed && !self.sightings.expects_soon(), Ordering::SeqCst);
            self.shared.progress.note();
        }
    }
}
