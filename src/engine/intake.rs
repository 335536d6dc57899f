//! Pickup: lists it, judges which files are whole, claims them and puts them in hand (contract §4).
//!
//! Reads: Pickup. Writes: Pickup and Queue through `mailroot` (the claim). Threads: intake, and a rayon pool of its
//! own that looks at, claims and parses a batch. Not here: what a file says (pickup), where it goes (dispatch).

use super::dispatch::Event;
use super::job::{Job, Material, Source, read_source};
use super::shared::{Mode, Settings, Shared};
use super::sightings::{Print, Sightings, Why};
use super::{tell, undelivered};
use crate::mail::MessageId;
use crate::mailroot::evidence::{self, Candidate, Looked, Writers};
use crate::mailroot::shown;
use crate::mailroot::spool::mtime_nanos;
use crate::mailroot::watch::{Happened, Hints};
use crate::pickup::{Completeness, Malformed};
use crate::queue::record::Record;
use crossbeam_channel::{Receiver, select};
use rayon::prelude::*;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, error, info, warn};

/// Files looked at together; the first of them are on their way while the next are read.
const BATCH: usize = 64;
/// Beyond the processors: so many large files may be read while others go on.
const SPARE_READERS: usize = 2;

/// Takes files until the end.
pub fn run(shared: &Arc<Shared>, hints: &Hints, wake: &Receiver<()>) {
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
    let mut intake = Intake {
        shared,
        pool,
        shared_storage,
        sightings: Sightings::default(),
        next_scan: Instant::now(),
        listed: false,
    };
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
    pool: rayon::ThreadPool,
    /// The lease says nothing about writers on other machines.
    shared_storage: bool,
    sightings: Sightings,
    next_scan: Instant,
    /// The folder has been listed as a whole.
    listed: bool,
}

/// A file to look at.
struct Glance {
    name: OsString,
    renamed_in: bool,
    /// Size and times have not changed for so long; `None` when it was not seen before.
    unchanged_for: Option<Duration>,
    /// It was found incomplete with this print: as long as that stays, it is not read again.
    incomplete: Option<Print>,
}

/// What a look came to.
enum Look {
    Taken(Box<Arc<Job>>),
    /// It went to Badmail, or it is gone.
    Done,
    /// Not yet.
    Wait(Why),
}

impl Intake<'_> {
    /// One pass: the hinted names, and all names when the scan is due.
    fn pass(&mut self, hinted: std::collections::HashMap<OsString, Happened>, scan: bool) {
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
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => {
                self.sightings.folder_is_back(&folder);
                entries
            }
            Err(error) => {
                self.sightings.folder_is_gone(&folder, &error);
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
            let (renamed_in, unchanged_for, incomplete) = self.sightings.of(&name, now);
            glances.push(Glance {
                name,
                renamed_in,
                unchanged_for,
                incomplete,
            });
        }
        while !glances.is_empty() {
            if !self.wait_for_room() {
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
        let look = |glance: &Glance| look(shared, settings, glance, shared_storage);
        let looks: Vec<Look> = match glances.as_slice() {
            [one] => vec![look(one)],
            many => self.pool.install(|| many.par_iter().map(look).collect()),
        };
        let mut jobs = Vec::new();
        for (glance, look) in glances.into_iter().zip(looks) {
            match look {
                Look::Taken(job) => {
                    self.sightings.forget(&glance.name);
                    jobs.push(*job);
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
            self.shared
                .pickup_waiting
                .store(self.sightings.waiting() > 0, Ordering::SeqCst);
            self.listed |= scanned;
            self.shared
                .pickup_idle
                .store(self.listed && !self.sightings.expects_soon(), Ordering::SeqCst);
            self.shared.progress.note();
        }
    }
}

/// Looks at one file; takes it when it is whole.
fn look(shared: &Shared, settings: &Settings, glance: &Glance, shared_storage: bool) -> Look {
    let path = shared.spool.folders().pickup.join(&glance.name);
    let candidate = match evidence::look(&path) {
        Looked::File(candidate) => candidate,
        Looked::Gone => return Look::Done,
        Looked::Empty => return Look::Wait(Why::Empty),
        Looked::Linked => return Look::Wait(Why::Linked),
        Looked::NotAFile(what) => return Look::Wait(Why::NotAFile(what)),
        Looked::Unreadable(error) => return Look::Wait(Why::Unreadable(error.to_string())),
    };
    let evidence = match judge_writer(settings, glance, &candidate, shared_storage) {
        Ok(evidence) => evidence,
        Err(why) => return Look::Wait(why),
    };
    read_and_claim(shared, settings, glance, candidate, evidence)
}

/// Contract §4 (a) to (c): the evidence that the writer is done, or why to wait.
fn judge_writer(
    settings: &Settings,
    glance: &Glance,
    candidate: &Candidate,
    shared_storage: bool,
) -> Result<&'static str, Why> {
    let pickup = &settings.config.pickup;
    let print = Why::print(&candidate.meta);
    match candidate.writers {
        Writers::Some => return Err(Why::BeingWritten(print)),
        Writers::Locked => return Err(Why::Locked(print)),
        Writers::Unknown => {}
        Writers::None if shared_storage => {}
        Writers::None if glance.renamed_in => return Ok("renamed in, no writer (lease)"),
        Writers::None => {
            let age = candidate
                .meta
                .modified()
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            // A time in the future says nothing: then our own watching counts.
            let quiet_for = age.max(glance.unchanged_for).unwrap_or(Duration::ZERO);
            return if quiet_for >= pickup.quiet {
                Ok("quiet, no writer (lease)")
            } else {
                Err(Why::Quiet(print, pickup.quiet.saturating_sub(quiet_for)))
            };
        }
    }
    match glance.unchanged_for {
        Some(time) if time >= pickup.settle => Ok("settled: size and times unchanged"),
        seen => Err(Why::Settling(
            print,
            pickup.settle.saturating_sub(seen.unwrap_or(Duration::ZERO)),
        )),
    }
}

fn read_and_claim(
    shared: &Shared,
    settings: &Settings,
    glance: &Glance,
    candidate: Candidate,
    evidence: &str,
) -> Look {
    let grace = settings.config.pickup.incomplete_grace;
    let waited = glance.unchanged_for.unwrap_or(Duration::ZERO);
    let print = Why::print(&candidate.meta);
    if glance.incomplete == Some(print) && waited < grace {
        return Look::Wait(Why::Incomplete(print, grace - waited));
    }
    let file = match candidate.file.try_clone() {
        Ok(file) => file,
        Err(error) => return Look::Wait(Why::Unreadable(error.to_string())),
    };
    let len = candidate.meta.len();
    let (source, reading) = match Source::open(file, len).and_then(|source| {
        let reading = read_source(&source, settings)?;
        Ok((source, reading))
    }) {
        Ok(both) => both,
        Err(error) => return Look::Wait(Why::Unreadable(error.to_string())),
    };
    if is_unfinished(reading.completeness) && waited < grace {
        return Look::Wait(Why::Incomplete(print, grace - waited));
    }
    let transcoded = reading.transcoded.clone();
    let submission = reading.when_final();
    let id = MessageId::generate();
    shared.in_hand.enter(id.ulid);
    let claimed = shared.spool.claim_from_pickup(&glance.name, id);
    let result = match claimed {
        Ok(true) => settle_claim(
            shared, settings, glance, &candidate, id, source, transcoded, submission, evidence,
        ),
        Ok(false) => Look::Done,
        Err(error) => {
            shared.distrust(&error);
            Look::Wait(Why::Unclaimable(error.to_string()))
        }
    };
    if !matches!(result, Look::Taken(_)) {
        shared.in_hand.leave(id.ulid);
    }
    result
}

#[allow(clippy::too_many_arguments)] // the facts of one file, used once
fn settle_claim(
    shared: &Shared,
    settings: &Settings,
    glance: &Glance,
    candidate: &Candidate,
    id: MessageId,
    source: Source,
    transcoded: Option<Arc<[u8]>>,
    submission: Result<crate::pickup::Submission, Malformed>,
    evidence: &str,
) -> Look {
    if !candidate.undisturbed() || !candidate.is_still(&shared.spool.taken(id)) {
        // Somebody began to write, or swapped the file, between the look and the claim: judged again as of Queue.
        debug!(%id, "changed while it was claimed; judged again");
        if let Err(error) = shared.spool.release(id) {
            warn!(%id, %error, "taken up again by the next scan");
        }
        shared.poke_keeper();
        return Look::Done;
    }
    let name = shown(&glance.name);
    match submission {
        Ok(submission) => {
            let first_lines = tell::first_lines(id, &name, evidence, &submission);
            let material = Material {
                id,
                file: name,
                file_time: mtime_nanos(&candidate.meta),
                source,
                transcoded,
                submission,
                record: None,
                forced: false,
            };
            let job = Job::new(shared, settings, material);
            tell::taken(&job, &job.submission, evidence, candidate.meta.len());
            job.note_local(first_lines.trim_end());
            Look::Taken(Box::new(job))
        }
        Err(malformed) => {
            info!(%id, file = %name, size = candidate.meta.len(), evidence, "taken");
            let ltr = format!("taken from Pickup as {id}, file {name}\n  complete: {evidence}\n");
            let why = Ok(&malformed);
            if let Err(error) = undelivered::bury_unread(shared, id, &name, &source, why, &ltr) {
                warn!(%id, %error, "it cannot be put into Badmail now; it stays in Queue");
                shared.distrust(&error);
                let _ = shared.spool.release(id);
            }
            Look::Done
        }
    }
}

/// What putting a claimed file of Queue in hand came to.
pub enum Admitted {
    /// In hand.
    Job(Arc<Job>),
    /// It went to Badmail, or there was nothing in it.
    Gone,
    /// Not now; it was released.
    Later(Duration),
}

/// Puts `Queue/ID@NODE.EML` in hand: ours by name, entered in `in_hand`, its ENV read by the caller.
pub fn admit_claimed(
    shared: &Shared,
    settings: &Settings,
    id: MessageId,
    file: String,
    record: Option<Record>,
    forced: bool,
) -> Admitted {
    let path = shared.spool.taken(id);
    let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
    let (meta, handle): (Metadata, File) = match opened {
        Ok(both) => both,
        Err(error) => {
            warn!(%id, %error, "cannot be read now");
            return later(shared, id);
        }
    };
    if meta.len() == 0 {
        // An empty file in Queue is no message (`touch` can make one).
        let _ = shared.spool.remove(id);
        return Admitted::Gone;
    }
    let reading = Source::open(handle, meta.len()).and_then(|source| {
        let reading = read_source(&source, settings)?;
        Ok((source, reading))
    });
    let (source, reading) = match reading {
        Ok(both) => both,
        Err(error) => {
            warn!(%id, %error, "cannot be read now");
            return later(shared, id);
        }
    };
    let transcoded = reading.transcoded.clone();
    let submission = if record.is_some() {
        reading.submission // it was judged complete before anybody was told anything
    } else {
        let age = meta
            .modified()
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let left = settings
            .config
            .pickup
            .incomplete_grace
            .saturating_sub(age.unwrap_or(Duration::ZERO));
        if is_unfinished(reading.completeness) && !left.is_zero() {
            let _ = shared.spool.release(id);
            return Admitted::Later(left);
        }
        reading.when_final()
    };
    match submission {
        Ok(submission) => {
            let file_time = mtime_nanos(&meta);
            Admitted::Job(Job::new(
                shared,
                settings,
                Material {
                    id,
                    file,
                    file_time,
                    source,
                    transcoded,
                    submission,
                    record,
                    forced,
                },
            ))
        }
        Err(malformed) => {
            if let Err(error) = undelivered::bury_unread(shared, id, &file, &source, Ok(&malformed), "") {
                warn!(%id, %error, "it cannot be put into Badmail now");
                shared.distrust(&error);
                return later(shared, id);
            }
            Admitted::Gone
        }
    }
}

fn is_unfinished(completeness: Completeness) -> bool {
    matches!(
        completeness,
        Completeness::InsideHeader | Completeness::NoClosingBoundary
    )
}

fn later(shared: &Shared, id: MessageId) -> Admitted {
    if let Err(error) = shared.spool.release(id) {
        debug!(%id, %error, "taken up again by the next scan");
    }
    Admitted::Later(Duration::from_secs(10))
}
