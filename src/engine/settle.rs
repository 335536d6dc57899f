//! What follows from outcomes, in the order that keeps the promise: record, then report or bury, then release or
//! remove (contract §3, arrows 2, 3, 5, 6, 7).
//!
//! Reads and writes: Queue and Badmail through `mailroot`. Thread: whichever settled the last part of an attempt.

use super::dispatch::Event;
use super::job::{Job, JobState, Means, Released, Settled};
use super::shared::{Settings, Shared, lock};
use super::{tell, undelivered};
use crate::clock;
use crate::clock::Millis;
use crate::config::Schedule;
use crate::mail::{EnhancedStatus, Outcome, Verdict};
use crate::mailroot::spool::ClaimState;
use crate::mailroot::{QueueName, Result as DiskResult};
use crate::queue::record::{Owed, State};
use crate::queue::{env, schedule};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{info, warn};

/// Why a message is let go of without an end: its file stays as it is and is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// It is not ours any more: whoever has it goes on. Nothing is written.
    Lost,
    /// The process is to end and the disk does not take the record.
    Stopped,
}

/// Panics of ours that one message may cause before it goes to Badmail.
const MAX_CRASHES: u32 = 2;
/// Between two tries to write what must be written.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Notes what became of a part. The part that settles last concludes the attempt.
pub fn part(shared: &Shared, job: &Arc<Job>, settled: Settled) {
    let final_fates = note(job, settled);
    if job.parts_left.fetch_sub(1, Ordering::AcqRel) > 1 {
        // Others are still on their way: what is final must not be forgotten if we end now.
        if final_fates && let Err(halt) = save(shared, job) {
            warn!(id = %job.id, ?halt, "an outcome is not on the disk");
        }
        return;
    }
    conclude(shared, job);
}

/// Gives a part back untried, to be taken up again not before `until`: its destination is slow, others need the room.
pub fn park(shared: &Shared, job: &Arc<Job>, until: Millis) {
    lock(&job.state).parked = until;
    give_back(shared, job);
}

/// Gives a part back untried: at the end of the process, or for other nodes to take.
pub fn give_back(shared: &Shared, job: &Arc<Job>) {
    part(shared, job, Settled::default());
}

fn note(job: &Arc<Job>, settled: Settled) -> bool {
    let now = clock::now();
    let mut final_fates = false;
    let mut state = lock(&job.state);
    state.ltr.push_str(&settled.notes);
    state.rtr.push_str(&settled.dialogue);
    for (index, outcome) in settled.outcomes {
        final_fates |= outcome.verdict != Verdict::Deferred;
        state.tried.push((index, settled.means));
        let local = settled.means == Means::Drop;
        state.record.note(index, outcome, now, local, settled.offered_dsn);
        tell::outcome(job, &state.record, index);
        state.version += 1;
    }
    final_fates
}

/// All parts of an attempt are settled (or there were none).
pub fn conclude(shared: &Shared, job: &Arc<Job>) {
    let settings = shared.settings();
    let mut reports = Vec::new();
    let finished = finish(shared, &settings, job, &mut reports);
    // They are messages of their own now, whatever becomes of the one that they are about.
    if !reports.is_empty() {
        let _ = shared.events.send(Event::Jobs(reports));
    }
    if let Err(halt) = finished {
        match halt {
            Halt::Lost => info!(id = %job.id, "no longer ours; left to whoever has it"),
            Halt::Stopped => warn!(id = %job.id, "left as it is; it is taken up at the next start"),
        }
    }
    if shared.in_hand.leave(job.id.ulid) {
        shared.progress.note();
    }
}

fn finish(
    shared: &Shared,
    settings: &Settings,
    job: &Arc<Job>,
    reports: &mut Vec<Arc<Job>>,
) -> Result<(), Halt> {
    let held = lock(&job.state)
        .tried
        .iter()
        .any(|(_, means)| *means == Means::Hold);
    let delayed = apply_schedule(settings, job);
    if !delayed.is_empty() || owes(job) {
        save(shared, job)?; // failed, with the reply, before the report
        undelivered::report(shared, settings, job, &delayed, reports)?;
    }
    if lock(&job.state).record.is_open() {
        stay(shared, job, held)?;
    } else {
        let unreturned = lock(&job.state).record.unreturned();
        if !unreturned.is_empty() {
            undelivered::bury(shared, settings, job, &unreturned)?;
        }
        go(shared, job)?;
    }
    Ok(())
}

fn owes(job: &Job) -> bool {
    let state = lock(&job.state);
    [Owed::Failure, Owed::Success, Owed::Relay]
        .iter()
        .any(|&kind| !state.record.owed(kind).is_empty())
}

/// Sets the next attempt of whom was deferred, expires whose time is over; returns whose delay is to be told.
fn apply_schedule(settings: &Settings, job: &Job) -> Vec<usize> {
    let now = clock::now();
    let mut delayed = Vec::new();
    let mut guard = lock(&job.state);
    let state = &mut *guard;
    if state.record.crashes >= MAX_CRASHES {
        give_up_on_crashes(state, now);
    }
    let tried = std::mem::take(&mut state.tried);
    let arrived = state.record.arrived;
    let sender_known = state.record.sender.is_some();
    let id = state.record.id;
    for (index, means) in tried {
        let local = means == Means::Drop;
        let times = if local {
            &settings.config.drop.schedule
        } else {
            &settings.config.delivery.schedule
        };
        let Some(entry) = state.record.recipients.get_mut(index) else {
            continue;
        };
        if entry.state != State::Open {
            continue;
        }
        state.version += 1;
        if means == Means::Hold {
            entry.tries = entry.tries.saturating_sub(1); // waiting for its domain is no attempt
            entry.next = now.saturating_add(held_for(times));
            continue;
        }
        match schedule::next(times, id, entry.tries, arrived, now) {
            schedule::Next::At(at) => {
                entry.next = at;
                if sender_known
                    && !entry.delay_told
                    && entry.recipient.wants_delay()
                    && schedule::delay_is_due(times, arrived, now)
                {
                    delayed.push(index);
                }
            }
            schedule::Next::Expired => {
                let outcome = expired(entry.last.as_ref().map(|given| &given.outcome));
                state.record.note(index, outcome, now, local, false);
                tell::outcome(job, &state.record, index);
            }
        }
    }
    delayed
}

/// A held domain is looked at again this often, and at once after SIGHUP.
fn held_for(times: &Schedule) -> Millis {
    times
        .retry
        .last()
        .map_or(60_000, |last| u64::try_from(last.as_millis()).unwrap_or(60_000))
}

fn expired(last: Option<&Outcome>) -> Outcome {
    let status = EnhancedStatus::new(4, 4, 7);
    let Some(last) = last else {
        return Outcome::failed(status, "its time is over");
    };
    let text = format!("its time is over; the last attempt ended with: {}", last.text);
    let mut outcome = Outcome::failed(status, text);
    outcome.host.clone_from(&last.host);
    outcome
}

fn give_up_on_crashes(state: &mut JobState, now: Millis) {
    for index in 0..state.record.recipients.len() {
        let open = state
            .record
            .recipients
            .get(index)
            .is_some_and(|r| r.state == State::Open);
        if open {
            let text =
                "handling this message made mailroot fail twice; it is set aside so that other mail goes on";
            state.record.note(
                index,
                Outcome::failed(EnhancedStatus::new(5, 3, 0), text),
                now,
                false,
                false,
            );
            if let Some(entry) = state.record.recipients.get_mut(index) {
                entry.report = crate::queue::ReportState::None; // what we cannot handle we do not report on either
            }
            state.version += 1;
        }
    }
}

/// The message stays in Queue: record, transcripts, release.
fn stay(shared: &Shared, job: &Job, held: bool) -> Result<(), Halt> {
    // Given back untried: what is on the disk still holds, and still remembers the time from before a touch.
    let untried = lock(&job.state).version == 1;
    if !untried {
        save(shared, job)?;
        {
            let mut state = lock(&job.state);
            let due = state.record.due().unwrap_or(0).max(state.parked);
            let line = format!("{} next attempt {}\n", env::time(clock::now()), env::time(due));
            state.ltr.push_str(&line);
        }
        write_transcripts(shared, job);
    }
    let mut saved = lock(&job.saved);
    persist(shared, job, || shared.spool.release(job.id))?;
    saved.ended = true;
    drop(saved);
    let state = lock(&job.state);
    let released = Released {
        id: job.id,
        due: state.record.due().unwrap_or(0).max(state.parked),
        file_time: state.record.file_time,
        held,
        forced: job.forced,
        untried,
    };
    drop(state);
    tell::waiting(job, released.due);
    let _ = shared.released.try_send(released);
    Ok(())
}

/// The message is done: at the instant of the unlink.
fn go(shared: &Shared, job: &Job) -> Result<(), Halt> {
    if let Err(error) = remove(shared, job) {
        // It would be sent again at the next start: the record says that it must not.
        warn!(id = %job.id, %error, "recorded as done; the file is removed as soon as the disk allows");
        save(shared, job)?;
        persist(shared, job, || remove(shared, job))?;
    }
    Ok(())
}

/// No other part may be putting a record while the file goes: it would come after it and stay.
fn remove(shared: &Shared, job: &Job) -> DiskResult<()> {
    let mut saved = lock(&job.saved);
    let ours = shared.spool.remove(job.id)?;
    saved.ended = true;
    if ours {
        shared.note_removed(job.id, lock(&job.state).has_remains);
    }
    Ok(())
}

/// Arrow 2: puts ENV when the record has changed since it was last put. Waits for the disk as long as it must.
pub fn save(shared: &Shared, job: &Job) -> Result<(), Halt> {
    let wanted = lock(&job.state).version;
    let mut saved = lock(&job.saved);
    if saved.ended || saved.version >= wanted {
        return Ok(()); // another part's record held ours too, or all is settled
    }
    let (version, text, durable) = {
        let mut state = lock(&job.state);
        state.has_remains = true;
        (state.version, env::write(&state.record), state.durable)
    };
    if !durable {
        persist(shared, job, || shared.spool.make_durable(job.id))?;
        lock(&job.state).durable = true;
    }
    persist(shared, job, || shared.spool.record(job.id, text.as_bytes()))?;
    saved.version = version;
    Ok(())
}

fn write_transcripts(shared: &Shared, job: &Job) {
    let (ltr, rtr) = {
        let mut state = lock(&job.state);
        (std::mem::take(&mut state.ltr), std::mem::take(&mut state.rtr))
    };
    for (name, text) in [
        (QueueName::LocalTranscript(job.id), ltr),
        (QueueName::RemoteTranscript(job.id), rtr),
    ] {
        if !text.is_empty()
            && let Err(error) = shared.spool.append(&name, &text)
        {
            warn!(id = %job.id, %error, "a transcript is incomplete");
        }
    }
}

/// Does what must be done on the disk, again and again until it succeeds, the claim is lost or the end comes. The
/// fence stands before each try.
pub fn persist(shared: &Shared, job: &Job, mut step: impl FnMut() -> DiskResult<()>) -> Result<(), Halt> {
    let mut troubled = false;
    loop {
        match fence(shared, job) {
            Some(Halt::Lost) => return Err(Halt::Lost),
            Some(Halt::Stopped) => {}
            None => match step() {
                Ok(()) => {
                    if troubled {
                        info!(id = %job.id, "the disk takes it again");
                    }
                    return Ok(());
                }
                Err(error) => {
                    shared.distrust(&error);
                    if !troubled {
                        warn!(id = %job.id, %error, "tried again every second; nothing more of this message is sent until then");
                    }
                    troubled = true;
                }
            },
        }
        if shared.stop.sleep(DISK_RETRY) {
            return Err(Halt::Stopped);
        }
    }
}

/// `None`: go on. `Stopped`: not now (the heartbeat or the disk does not answer). `Lost`: never.
fn fence(shared: &Shared, job: &Job) -> Option<Halt> {
    if shared.pulse.epoch() != job.epoch {
        return Some(Halt::Lost);
    }
    if !shared.pulse.is_fresh() {
        return Some(Halt::Stopped);
    }
    match shared.spool.claim_state(job.id) {
        ClaimState::Ours => None,
        ClaimState::Gone => Some(Halt::Lost),
        ClaimState::Unknown => Some(Halt::Stopped),
    }
}
