//! A claimed file of Queue becomes a message in hand: taken up again, taken over, or just put there (a report).
//!
//! Reads: the message file. Writes: Queue through `mailroot` when it cannot be taken. Threads: keeper, and whoever puts
//! a report.

use super::burial::Unread;
use super::job::{Job, Material, Source, read_source};
use super::shared::{Settings, Shared};
use super::undelivered;
use crate::mail::MessageId;
use crate::mailroot::evidence::{self, Looked, Writers, open_plain};
use crate::mailroot::spool::mtime_nanos;
use crate::pickup::{Completeness, Submission};
use crate::queue::record::Record;
use std::fs::{File, Metadata};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, warn};

/// What putting a claimed file of Queue in hand came to.
pub enum Admitted {
    /// In hand.
    Job(Arc<Job>),
    /// There was nothing in it, or it went back to Pickup.
    Gone,
    /// It is not understood: claimed, and to be buried.
    Unread(Box<Unread>),
    /// Not now; it was released.
    Later(Duration),
    /// It is a report, and the message that it is about is not done with it; it was released.
    WaitsForParent,
}

/// How a claimed file came to be in Queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It lay there.
    Queue,
    /// It lay there, and an operator touched it: tried now, whatever the schedule says.
    Touched,
    /// We have just put it: a report.
    OwnReport,
}

/// Puts `Queue/ID@NODE.EML` in hand: ours by name, entered in `in_hand`, its ENV read by the caller.
pub fn admit(
    shared: &Shared,
    settings: &Settings,
    id: MessageId,
    file: String,
    record: Option<Record>,
    origin: Origin,
) -> Admitted {
    let path = shared.spool.taken(id);
    // Nobody has been told anything: judged complete again, as in Pickup.
    if record.is_none()
        && origin != Origin::OwnReport
        && let Looked::File(candidate) = evidence::look(&path, true)
        && matches!(candidate.writers, Writers::Some | Writers::Locked)
    {
        let _ = shared.spool.release(id);
        return Admitted::Later(settings.config.pickup.poll);
    }
    // What was swapped in between a look and a claim that was cut short: no message, and nobody has been told of it.
    if record.is_none()
        && let Ok(Some(what)) = evidence::strange(&path)
    {
        warn!(%id, "put back into Pickup: it is {what}");
        return match shared.spool.return_to_pickup(id, None) {
            Ok(()) => Admitted::Gone,
            Err(error) => {
                warn!(%id, %error, "cannot be put back now");
                later(shared, id)
            }
        };
    }
    let opened = open_plain(&path).and_then(|file| Ok((file.metadata()?, file)));
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
    // A report of ours may be longer than what others may send.
    let rules = if record.is_some() || origin == Origin::OwnReport {
        &settings.rules_again
    } else {
        &settings.rules
    };
    let reading = Source::open(&handle, meta.len()).and_then(|source| {
        let reading = read_source(&source, rules)?;
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
            if record.is_none()
                && origin != Origin::OwnReport
                && must_wait_for_parent(shared, id, &submission)
            {
                let _ = shared.spool.release(id);
                return Admitted::WaitsForParent;
            }
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
                    forced: origin == Origin::Touched,
                },
            ))
        }
        Err(malformed) => Admitted::Unread(Box::new(Unread {
            id,
            file,
            source,
            malformed,
            ltr: String::new(),
        })),
    }
}

/// Whether this is a report that was left between its put and its parent's record. An unreadable disk says nothing.
fn must_wait_for_parent(shared: &Shared, id: MessageId, submission: &Submission) -> bool {
    let envelope = &submission.envelope;
    let parent = undelivered::parent_of(envelope.sender.as_ref(), envelope.envid.as_deref());
    parent
        .is_some_and(|parent| parent != id.ulid && undelivered::is_still_owed(shared, parent).unwrap_or(true))
}

/// Whether its writer may still have something to add.
pub fn is_unfinished(completeness: Completeness) -> bool {
    matches!(
        completeness,
        Completeness::InsideHeader | Completeness::NoClosingBoundary
    )
}

fn later(shared: &Shared, id: MessageId) -> Admitted {
    if let Err(error) = shared.spool.release(id) {
        debug!(%id, %error, "taken up again by the next scan");
    }
    Admitted::Later(super::due::DISK_AGAIN)
}
