//! One file of Pickup: is its writer done, what does it say, and is it ours (contract §4).
//!
//! Reads: the file. Writes: Pickup and Queue through `mailroot` (the claim). Thread: those of intake's pool. Not here:
//! which files are looked at and when (intake, sightings).

use super::admit::is_unfinished;
use super::job::{Job, Material, Source, read_source};
use super::shared::{Settings, Shared};
use super::sightings::{Print, Why};
use super::{tell, undelivered};
use crate::badmail::Reason;
use crate::mail::MessageId;
use crate::mailroot::evidence::{self, Candidate, Looked, Writers};
use crate::mailroot::shown;
use crate::mailroot::spool::{is_gone, mtime_nanos};
use crate::pickup::{Malformed, Submission};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, info};

/// A file to look at.
pub struct Glance {
    /// Its name in Pickup.
    pub name: OsString,
    /// A notification showed it being renamed in, whole.
    pub renamed_in: bool,
    /// The print it had at the last look, and for how long it had been seen with it; `None` when it was not seen
    /// before.
    pub seen: Option<(Print, Duration)>,
    /// It was found incomplete then: as long as its print stays, it is not read again.
    pub incomplete: bool,
}

impl Glance {
    /// For how long a file that now has this print has been seen with it. What was seen of another print says
    /// nothing: the file has been written to since.
    fn unchanged_for(&self, print: Print) -> Option<Duration> {
        self.seen.filter(|(seen, _)| *seen == print).map(|(_, time)| time)
    }
}

/// What a look came to.
pub enum Look {
    /// In hand.
    Taken(Arc<Job>),
    /// It went to Badmail, or it is gone.
    Done,
    /// Not yet.
    Wait(Why),
}

/// Looks at one file; takes it when it is whole.
pub fn look(shared: &Shared, settings: &Settings, glance: &Glance, shared_storage: bool) -> Look {
    let path = shared.spool.folders().pickup.join(&glance.name);
    let candidate = match evidence::look(&path) {
        Looked::File(candidate) => candidate,
        Looked::Gone => return Look::Done,
        Looked::Empty => return Look::Wait(Why::Empty),
        Looked::Linked => return Look::Wait(Why::Linked),
        Looked::NotAFile(what) => return Look::Wait(Why::NotAFile(what)),
        Looked::Unreadable(_) if is_gone(&path) => return Look::Done, // a stale handle: another node took it
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
    let unchanged_for = glance.unchanged_for(print);
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
            let quiet_for = age.max(unchanged_for).unwrap_or(Duration::ZERO);
            return if quiet_for >= pickup.quiet {
                Ok("quiet, no writer (lease)")
            } else {
                Err(Why::Quiet(print, pickup.quiet.saturating_sub(quiet_for)))
            };
        }
    }
    match unchanged_for {
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
    let print = Why::print(&candidate.meta);
    let unchanged_for = glance.unchanged_for(print);
    let waited = unchanged_for.unwrap_or(Duration::ZERO);
    if glance.incomplete && unchanged_for.is_some() && waited < grace {
        return Look::Wait(Why::Incomplete(print, grace - waited));
    }
    // A process has died here, perhaps of reading a file: what is claimed first counts its lives.
    if shared.is_careful() {
        return claim(shared, glance, |id| {
            match read_whole(settings, &candidate, waited < grace) {
                Ok(whole) => settle_claim(shared, settings, glance, &candidate, id, whole, evidence),
                Err(_) => put_back(shared, id),
            }
        });
    }
    match read_whole(settings, &candidate, waited < grace) {
        Ok(whole) => claim(shared, glance, |id| {
            settle_claim(shared, settings, glance, &candidate, id, whole, evidence)
        }),
        // Another node took it while it was read: some storage fails such a read rather than end it.
        Err(Some(_)) if is_gone(&shared.spool.folders().pickup.join(&glance.name)) => Look::Done,
        Err(Some(error)) => Look::Wait(Why::Unreadable(error.to_string())),
        Err(None) => Look::Wait(Why::Incomplete(print, grace - waited)),
    }
}

/// What a file holds.
struct Whole {
    source: Source,
    transcoded: Option<Arc<[u8]>>,
    submission: Result<Submission, Malformed>,
}

/// Reads a file to its end; `None` for one that may still get its rest.
fn read_whole(
    settings: &Settings,
    candidate: &Candidate,
    may_grow: bool,
) -> Result<Whole, Option<io::Error>> {
    let source = Source::open(&candidate.file, candidate.meta.len())?;
    let reading = read_source(&source, &settings.rules)?;
    if is_unfinished(reading.completeness) && may_grow {
        return Err(None);
    }
    Ok(Whole {
        source,
        transcoded: reading.transcoded.clone(),
        submission: reading.when_final(),
    })
}

/// Arrow 1; what follows is done with the message in hand.
fn claim(shared: &Shared, glance: &Glance, then: impl FnOnce(MessageId) -> Look) -> Look {
    let id = MessageId::generate();
    shared.in_hand.enter(id.ulid);
    let result = match shared.spool.claim_from_pickup(&glance.name, id) {
        Ok(true) => then(id),
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

/// It is judged again as of Queue.
fn put_back(shared: &Shared, id: MessageId) -> Look {
    if let Err(error) = shared.spool.release(id) {
        debug!(%id, %error, "taken up again by the next scan");
    }
    shared.poke_keeper();
    Look::Done
}

fn settle_claim(
    shared: &Shared,
    settings: &Settings,
    glance: &Glance,
    candidate: &Candidate,
    id: MessageId,
    whole: Whole,
    evidence: &str,
) -> Look {
    let Whole {
        source,
        transcoded,
        submission,
    } = whole;
    let found = candidate
        .found_at(&shared.spool.taken(id))
        .filter(|_| candidate.undisturbed());
    let Some(found) = found else {
        // What is no message is left alone, also when it was swapped in after the look.
        if let Ok(Some(what)) = evidence::strange(&shared.spool.taken(id)) {
            debug!(%id, file = %shown(&glance.name), what, "swapped in while it was claimed; put back");
            return match shared.spool.return_to_pickup(id, Some(&glance.name)) {
                Ok(()) => Look::Wait(Why::NotAFile(what)),
                Err(error) => Look::Wait(Why::Unclaimable(error.to_string())),
            };
        }
        // Somebody began to write, or swapped the file, between the look and the claim.
        debug!(%id, "changed while it was claimed");
        return put_back(shared, id);
    };
    let name = shown(&glance.name);
    match submission {
        Ok(submission) => {
            let first_lines = tell::first_lines(id, &name, evidence, &submission);
            let material = Material {
                id,
                file: name,
                file_time: mtime_nanos(&found),
                source,
                transcoded,
                submission,
                record: None,
                forced: false,
            };
            let job = Job::new(shared, settings, material);
            tell::taken(&job, &job.submission, evidence, candidate.meta.len());
            job.note_local(first_lines.trim_end());
            Look::Taken(job)
        }
        Err(malformed) => {
            info!(%id, file = %name, size = candidate.meta.len(), evidence, "taken");
            let ltr = format!("taken from Pickup as {id}, file {name}\n  complete: {evidence}\n");
            let why = Reason::Malformed(&malformed);
            if let Err(error) = undelivered::bury_unread(shared, id, &name, &source, why, &ltr) {
                shared.distrust(&error);
                shared.badmail.failed(&error);
                let _ = shared.spool.release(id);
            }
            Look::Done
        }
    }
}
