//! Pickup: lists it, chooses which files to look at, and hands what was taken to dispatch (contract §4).
//!
//! Reads: Pickup's names. Writes: nothing itself. Threads: intake, and a rayon pool of its own that looks at, claims
//! and parses a batch ([`look`]). Not here: what a file says (pickup), where it goes (dispatch).

use super::dispatch::Event;
use super::look::{Glance, Look, look};
use super::shared::{Mode, Settings, Shared, lock};
use super::sightings::{Sightings, Why};
use crate::mailroot::DiskError;
use crate::mailroot::evidence;
use crate::mailroot::watch::{Happened, Hints, Watcher};
use crossbeam_channel::{bounded, select};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::error;

/// Files looked at together; the first of them are on their way while the next are read.
const BATCH: usize = 64;
/// How long the first listing waits for heart's first look at other nodes.
const FIRST_VERDICT: Duration = Duration::from_secs(1);
/// Beyond the processors: so many large files may be read while others go on.
const SPARE_READERS: usize = 2;

/// Takes files until the end.
pub fn run(shared: &Arc<Shared>) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + SPARE_READERS;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("intake-{n}"))
        .panic_handler(|_| error!("an internal error while reading a file of Pickup"))
        .build();
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => return error!(%error, "cannot start the threads that read Pickup"),
    };
    let shared_storage = evidence::is_shared_storage(&shared.spool.folders().pickup);
    let (poke, wake) = bounded(1);
    let hints = Arc::new(Hints::default());
    let mut intake = Intake {
        shared,
        watch: Watcher::start(&shared.spool.folders().pickup, Arc::clone(&hints), poke),
        pool,
        shared_storage,
        sightings: Sightings::default(),
        next_scan: Instant::now(),
        listed: false,
    };
    // Whether a process has died here decides how files are read.
    let begun = Instant::now();
    while lock(&shared.judged).is_none() && begun.elapsed() < FIRST_VERDICT && !shared.stop.is_set() {
        std::thread::sleep(Duration::from_micros(500));
    }
    loop {
        let hinted = hints.take();
        let due = intake.next_scan <= Instant::now();
        intake.pass(hinted, due);
        if shared.stop.is_set() {
            return;
        }
        let until = intake.next_look();
        select! {
            recv(wake) -> _ => {}
            recv(shared.stop.signal()) -> _ => return,
            default(until.saturating_duration_since(Instant::now())) => {}
        }
    }
}

struct Intake<'a> {
    shared: &'a Arc<Shared>,
    watch: Watcher,
    pool: rayon::ThreadPool,
    /// The lease says nothing about writers on other machines.
    shared_storage: bool,
    sightings: Sightings,
    next_scan: Instant,
    /// The folder has been listed as a whole.
    listed: bool,
}

impl Intake<'_> {
    /// One pass: the hinted names, and all names when the scan is due.
    fn pass(&mut self, hinted: HashMap<OsString, Happened>, scan: bool) {
        for (name, what) in &hinted {
            self.sightings.touched(name, *what == Happened::RenamedIn);
        }
        if !scan {
            let mut names: Vec<OsString> = hinted.into_keys().collect();
            names.extend(self.sightings.ripe(Instant::now()));
            names.sort_unstable();
            names.dedup();
            for batch in names.chunks(BATCH) {
                self.look_at(batch.to_vec());
            }
        } else if self.scan() {
            self.next_scan = Instant::now() + self.shared.settings().config.pickup.poll;
        }
        self.note_idle(scan);
    }

    /// The truth: every name in the folder. Takes them in batches while it lists. `false` when it was cut short.
    fn scan(&mut self) -> bool {
        let folder = self.shared.spool.folders().pickup.clone();
        let listed = std::fs::read_dir(&folder).map_err(DiskError::when("list", &folder));
        let entries =
            match listed.and_then(|entries| self.shared.spool.claims_are_possible().map(|()| entries)) {
                Ok(entries) => {
                    self.sightings.folder_is_back(&folder);
                    self.watch.follow();
                    entries
                }
                Err(error) => {
                    self.sightings.folder_is_gone(&error);
                    return true;
                }
            };
        self.sightings.begin_scan();
        let mut batch = Vec::with_capacity(BATCH);
        for entry in entries.flatten() {
            batch.push(entry.file_name());
            if batch.len() == BATCH {
                self.look_at(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                if self.shared.stop.is_set() {
                    return false;
                }
            }
        }
        self.look_at(batch);
        self.sightings.end_scan();
        true
    }

    fn look_at(&mut self, names: Vec<OsString>) {
        let settings = self.shared.settings();
        let ignore = &settings.config.pickup.ignore;
        let now = Instant::now();
        let mut glances: Vec<Glance> = Vec::with_capacity(names.len());
        for name in names {
            if crate::pickup::ignored(&name, ignore) || !self.sightings.wants_a_look(&name, now) {
                continue;
            }
            let (renamed_in, seen, incomplete) = self.sightings.of(&name, now);
            glances.push(Glance {
                name,
                renamed_in,
                seen,
                incomplete,
            });
        }
        while !glances.is_empty() {
            if !self.wait_for_room() {
                return;
            }
            if let Err(error) = self.shared.spool.claims_are_possible() {
                self.sightings.folder_is_gone(&error);
                return;
            }
            let room = self.shared.in_hand.room().min(glances.len()).max(1);
            let rest = glances.split_off(room.min(glances.len()));
            self.take(&settings, glances);
            glances = rest;
        }
    }

    /// Above the bound nobody claims: the rest waits in Pickup, where other nodes can take it.
    fn wait_for_room(&self) -> bool {
        loop {
            if self.shared.stop.is_set() {
                return false;
            }
            if self.shared.may_claim() && self.shared.in_hand.wait_for_room(Duration::from_millis(100)) > 0 {
                return true;
            }
            if !self.shared.may_claim() && self.shared.stop.sleep(Duration::from_millis(100)) {
                return false;
            }
        }
    }

    fn take(&mut self, settings: &Settings, glances: Vec<Glance>) {
        let (shared, shared_storage) = (self.shared, self.shared_storage);
        let look = |glance: &Glance| {
            let looked = AssertUnwindSafe(|| look(shared, settings, glance, shared_storage));
            catch_unwind(looked).unwrap_or_else(|_| Look::Wait(Why::Unreadable("an internal error".into())))
        };
        let looks: Vec<Look> = match glances.as_slice() {
            [one] => vec![look(one)],
            many => self.pool.install(|| many.par_iter().map(look).collect()),
        };
        let mut jobs = Vec::new();
        for (glance, look) in glances.into_iter().zip(looks) {
            match look {
                Look::Taken(job) => {
                    self.sightings.forget(&glance.name);
                    jobs.push(job);
                }
                Look::Done => self.sightings.forget(&glance.name),
                Look::Wait(why) => {
                    self.sightings
                        .note(glance.name, why, &settings.config.pickup, glance.renamed_in);
                }
            }
        }
        if !jobs.is_empty() {
            let _ = self.shared.events.send(Event::Jobs(jobs));
        }
    }

    fn next_look(&self) -> Instant {
        self.sightings
            .next()
            .map_or(self.next_scan, |look| look.min(self.next_scan))
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
