//! One file of Pickup: is its writer done, what does it say, and is it ours (contract §4).
//!
//! Reads: the file. Writes: Pickup and Queue through `mailroot` (the claim). Thread: those of intake's pool. Not here:
//! which files are looked at and when (intake, sightings).

use super::admit::is_unfinished;
use super::burial::{self, Burials, Unread};
use super::job::{Job, Material, Source, read_source};
use super::lane::Lane;
use super::shared::{Settings, Shared};
use super::sightings::{Print, Why};
use super::tell;
use crate::mail::{MessageId, Recipient};
use crate::mailroot::evidence::{self, Candidate, Looked, Writers};
use crate::mailroot::shown;
use crate::mailroot::spool::{is_gone, mtime_nanos};
use crate::pickup::{Malformed, Submission};
use crate::route::Route;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, info};

/// A file to look at.
#[derive(Clone)]
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
    /// The listing has just called it a regular file.
    pub listed_as_file: bool,
    /// It had to wait for a place aside: as long as there is none, it is not looked at again.
    pub crowded: bool,
}

impl Glance {
    /// For how long a file that now has this print has been seen with it. What was seen of another print says
    /// nothing: the file has been written to since.
    fn unchanged_for(&self, print: Print) -> Option<Duration> {
        self.seen.filter(|(seen, _)| *seen == print).map(|(_, time)| time)
    }
}

/// Who looks, by which rules.
pub struct Looker<'a> {
    /// The engine.
    pub shared: &'a Shared,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The lease says nothing about writers on other machines.
    pub shared_storage: bool,
    /// For what cannot be understood.
    pub burials: &'a Burials,
    /// For files that take time to read. `None`: this is aside.
    pub aside: Option<&'a Readers>,
    /// Mail whose destination has enough in hand may stay in Pickup.
    pub may_stay_outside: bool,
}

/// Who reads large files: their size decides what they may wait for.
pub struct Readers {
    /// From `MEDIUM` on
    pub medium: Lane<Glance>,
    /// From `LARGE` on
    pub large: Lane<Glance>,
}

/// Up to this size to read a file takes no longer than all that is asked of it before.
const MEDIUM: u64 = 128 * 1024;
/// Reading a file of this size can take tenths of a second.
const LARGE: u64 = 1024 * 1024;

impl Readers {
    fn of(&self, len: u64) -> Option<&Lane<Glance>> {
        if len <= MEDIUM {
            None
        } else if len < LARGE {
            Some(&self.medium)
        } else {
            Some(&self.large)
        }
    }
}

impl Looker<'_> {
    /// Whether a file of this size, that had to wait for a place, would have to wait again.
    fn is_crowded(&self, len: u64) -> bool {
        let reader = self.aside.and_then(|readers| readers.of(len));
        self.burials.is_full() || reader.is_some_and(Lane::is_full)
    }

    /// The one destination of a message, when that has as much in hand as it may and others need the room.
    fn has_enough_of(&self, submission: &Submission) -> Option<String> {
        let (shared, routes) = (self.shared, &self.settings.routes);
        let has_room = shared.gate.has_room() && !shared.in_hand.is_half_full();
        if !self.may_stay_outside || shared.gate.is_open() || has_room {
            return None;
        }
        let key_of = |recipient: &Recipient| match routes.of(&recipient.address) {
            Route::Remote(to) => Some(to.key.clone()),
            Route::Local | Route::Impossible(_) => None,
        };
        let mut recipients = submission.envelope.recipients.iter();
        let key = recipients.next().and_then(key_of)?;
        let is_closed = shared.gate.is_closed_to(&key);
        (is_closed && recipients.all(|other| key_of(other).as_ref() == Some(&key))).then_some(key)
    }
}

/// What a look came to.
pub enum Look {
    /// In hand.
    Taken(Arc<Job>),
    /// In hand, to be buried.
    Buried,
    /// Others look at it.
    Aside(Print),
    /// It went to Badmail, or it is gone.
    Done,
    /// Not yet.
    Wait(Why),
}

/// Looks at one file; takes it when it is whole.
pub fn look(looker: &Looker<'_>, glance: &Glance) -> Look {
    if let Some((print, _)) = glance.seen.filter(|_| glance.crowded)
        && looker.is_crowded(print.0)
    {
        return Look::Wait(Why::Crowded(print));
    }
    let path = looker.shared.spool.folders().pickup.join(&glance.name);
    // Where it must be seen to settle, one look at its times is enough to begin with: there every question is a wait.
    if looker.shared_storage
        && glance.seen.is_none()
        && let Some(meta) = evidence::plain(&path)
    {
        return Look::Wait(Why::Settling(
            Why::print(&meta),
            looker.settings.config.pickup.settle,
        ));
    }
    let looked = match glance.listed_as_file {
        true => evidence::look_at_listed(&path, looker.shared_storage),
        false => evidence::look(&path, looker.shared_storage),
    };
    let candidate = match looked {
        Looked::File(candidate) => candidate,
        Looked::Gone => return Look::Done,
        Looked::Empty => return Look::Wait(Why::Empty),
        Looked::Linked => return Look::Wait(Why::Linked),
        Looked::NotAFile(what) => return Look::Wait(Why::NotAFile(what)),
        Looked::Unreadable(_) if is_gone(&path) => return Look::Done, // a stale handle: another node took it
        Looked::Unreadable(error) => return Look::Wait(Why::Unreadable(error.to_string())),
    };
    let evidence = match judge_writer(looker, glance, &candidate) {
        Ok(evidence) => evidence,
        Err(why) => return Look::Wait(why),
    };
    read_and_claim(looker, glance, candidate, evidence)
}

/// Contract §4 (a) to (c): the evidence that the writer is done, or why to wait.
fn judge_writer(looker: &Looker<'_>, glance: &Glance, candidate: &Candidate) -> Result<&'static str, Why> {
    let pickup = &looker.settings.config.pickup;
    let print = Why::print(&candidate.meta);
    let unchanged_for = glance.unchanged_for(print);
    match candidate.writers {
        Writers::Some => return Err(Why::BeingWritten(print)),
        Writers::Locked => return Err(Why::Locked(print)),
        Writers::Unknown => {}
        Writers::None if looker.shared_storage => {}
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
    looker: &Looker<'_>,
    glance: &Glance,
    candidate: Candidate,
    evidence: &'static str,
) -> Look {
    let (shared, settings) = (looker.shared, looker.settings);
    let grace = settings.config.pickup.incomplete_grace;
    let print = Why::print(&candidate.meta);
    let unchanged_for = glance.unchanged_for(print);
    let waited = unchanged_for.unwrap_or(Duration::ZERO);
    if glance.incomplete && unchanged_for.is_some() && waited < grace {
        return Look::Wait(Why::Incomplete(print, grace - waited));
    }
    if let Some(reader) = looker.aside.and_then(|readers| readers.of(candidate.meta.len())) {
        // Looked at anew when its turn comes: no lease is held meanwhile.
        let handed_over = reader.take_place() && reader.hand_over(glance.clone()).is_ok();
        return if handed_over {
            Look::Aside(print)
        } else {
            Look::Wait(Why::Crowded(print))
        };
    }
    // A process has died here, perhaps of reading a file: what is claimed first counts its lives.
    if shared.is_careful() {
        return claim(shared, glance, |id| {
            match read_whole(settings, &candidate, waited < grace) {
                Ok(whole) => with_place(looker, whole.submission.is_err(), || {
                    settle_claim(looker, glance, &candidate, id, whole, evidence)
                })
                .unwrap_or_else(|| put_back(shared, id)),
                Err(_) => put_back(shared, id),
            }
        });
    }
    match read_whole(settings, &candidate, waited < grace) {
        Ok(Whole {
            submission: Ok(submission),
            ..
        }) if let Some(destination) = looker.has_enough_of(&submission) => {
            Look::Wait(Why::Outside(print, destination))
        }
        Ok(whole) => with_place(looker, whole.submission.is_err(), || {
            claim(shared, glance, |id| {
                settle_claim(looker, glance, &candidate, id, whole, evidence)
            })
        })
        .unwrap_or(Look::Wait(Why::Crowded(print))),
        // Another node took it while it was read: some storage fails such a read rather than end it.
        Err(Some(_)) if is_gone(&shared.spool.folders().pickup.join(&glance.name)) => Look::Done,
        Err(Some(error)) => Look::Wait(Why::Unreadable(error.to_string())),
        Err(None) => Look::Wait(Why::Incomplete(print, grace - waited)),
    }
}

/// A place for its burial comes before the claim of what cannot be understood; `None`: there is none.
fn with_place(looker: &Looker<'_>, to_bury: bool, then: impl FnOnce() -> Look) -> Option<Look> {
    if to_bury && !looker.burials.take_place() {
        return None;
    }
    let look = then();
    if to_bury && !matches!(look, Look::Buried) {
        looker.burials.leave_place();
    }
    Some(look)
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
    if !matches!(result, Look::Taken(_) | Look::Buried) {
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
    looker: &Looker<'_>,
    glance: &Glance,
    candidate: &Candidate,
    id: MessageId,
    whole: Whole,
    evidence: &'static str,
) -> Look {
    let Whole {
        source,
        transcoded,
        submission,
    } = whole;
    let (shared, settings) = (looker.shared, looker.settings);
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
            job.note_taken(evidence);
            Look::Taken(job)
        }
        Err(malformed) => {
            info!(%id, file = %name, size = candidate.meta.len(), evidence, "taken");
            let ltr = format!("taken from Pickup as {id}, file {name}\n  complete: {evidence}\n");
            let unread = Unread {
                id,
                file: name,
                source,
                malformed,
                ltr,
            };
            if let Err(unread) = looker.burials.hand_over(unread) {
                burial::bury(shared, &unread);
            }
            Look::Buried
        }
    }
}
