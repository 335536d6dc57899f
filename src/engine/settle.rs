//! What follows from outcomes, in the order that keeps the promise: record, then report or bury, then release or
//! remove (contract §3, arrows 2, 3, 5, 6, 7).
//!
//! Reads and writes: Queue and Badmail through `mailroot`. Thread: whichever settled the last part of an attempt; none
//! waits here for a disk. A step that cannot be done puts the message aside (aside), and [`conclude`] begins again
//! where it was.

mod times;

use super::aside;
use super::desk::{crashed, said};
use super::dispatch::Event;
use super::job::{Job, Means, Part, Released, Settled};
use super::shared::{Settings, Shared, lock};
use super::waiting::Held;
use super::{hold, tell, undelivered};
use crate::clock;
use crate::clock::Millis;
use crate::mail::{EnhancedStatus, Outcome, Verdict};
use crate::mailroot::spool::ClaimState;
use crate::mailroot::{DiskError, QueueName, Result as DiskResult};
use crate::queue::env;
use crate::queue::record::{ReportState, State};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tracing::{debug, info};

/// Why a message is not at the end of its attempt.
#[derive(Debug)]
pub enum Halt {
    /// It is not ours any more: whoever has it goes on. Nothing is written.
    Lost,
    /// A step cannot be done now; `None`: the fence has no answer (no heartbeat, or the disk does not say).
    Trouble(Option<DiskError>),
    /// We failed ourselves; it begins its next life.
    Crashed,
}

/// Panics of ours that one message may cause before it goes to Badmail.
pub const MAX_CRASHES: u32 = 2;
/// A message that Badmail cannot take now is looked at again this often, and at once when Badmail takes files again.
const BADMAIL_AGAIN: Millis = 60_000;
/// What is put off and not called is looked at again after this.
const PUT_OFF: Millis = 120_000;

/// Notes what became of a part. The part that settles last concludes the attempt.
pub fn part(shared: &Shared, job: &Arc<Job>, settled: Settled) {
    let final_fates = note(job, settled);
    if job.parts_left.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) > 1 {
        // Others are still on their way: what is final must not be forgotten if we end now.
        if final_fates {
            save_early(shared, job);
        }
        return;
    }
    conclude(shared, job);
}

/// Notes what is final of a part that goes on, with a further transaction or at another host: that takes time, and a
/// crash in it must not send again what is done.
pub fn part_so_far(shared: &Shared, job: &Arc<Job>, settled: Settled) {
    if note(job, settled) {
        save_early(shared, job);
    }
}

/// Records in the middle of an attempt. When that cannot be done, nothing more is sent until it is.
fn save_early(shared: &Shared, job: &Job) {
    if let Err(halt) = save(shared, job) {
        lock(&job.state).unsaved = true;
        debug!(id = %job.id, ?halt, "an outcome is not on the disk");
    }
}

/// Gives a part back untried, to be taken up again not before `until`: its destination is slow, others need the room.
pub fn park(shared: &Shared, job: &Arc<Job>, until: Millis) {
    lock(&job.state).parked = until;
    give_back(shared, job);
}

/// The same, to be taken up when its destination moves: it does not, and others need the room.
pub fn put_off(shared: &Shared, part: &Part) {
    let mut state = lock(&part.job.state);
    state.parked = state.parked.max(clock::now() + PUT_OFF);
    state.put_off_for.extend(part.destination.clone());
    drop(state);
    give_back(shared, &part.job);
}

/// Gives a part back untried: at the end of the process, or for other nodes to take.
pub fn give_back(shared: &Shared, job: &Arc<Job>) {
    part(shared, job, Settled::default());
}

/// Whether a part may be sent now: the message is ours, and what became of its other parts is recorded. The error is
/// the outcome for those who are not sent to.
pub fn may_send(shared: &Shared, part: &Part) -> Result<(), Outcome> {
    let job = &*part.job;
    if !job.is_ours(shared) {
        return Err(not_now("no longer ours"));
    }
    if lock(&job.state).unsaved {
        save(shared, job).map_err(|_| not_now("what became of other recipients cannot be recorded now"))?;
        lock(&job.state).unsaved = false;
    }
    if will_be_recorded(part) {
        before_record(shared, job).map_err(|_| not_now("what became of it could not be recorded now"))?;
    }
    Ok(())
}

fn not_now(words: &str) -> Outcome {
    Outcome::deferred(EnhancedStatus::new(4, 3, 0), words)
}

/// Whether a record is due whatever this part comes to: there are others, or something was noted, or it stays.
pub fn will_be_recorded(part: &Part) -> bool {
    part.job.parts_left.load(std::sync::atomic::Ordering::Acquire) > 1
        || lock(&part.job.state).version > 1
        || stays_after(part)
}

/// For a message that will need a record: what must be done before it is done before the content leaves, since
/// whatever stands between the end of the content and the record is a point from which it is sent again.
pub fn before_record(shared: &Shared, job: &Job) -> Result<(), Halt> {
    let saved = lock(&job.saved);
    if saved.ended || lock(&job.state).durable {
        return Ok(());
    }
    make_durable(shared, job)
}

/// Asked before a Drop file is put of a message that stays: a record is put first, so that none is put while none can
/// be. An application may take the file at once; after a start that knows nothing of it a second one would come.
pub fn may_deposit(shared: &Shared, part: &Part) -> Result<(), Outcome> {
    if stays_after(part) && lock(&part.job.saved).version == 0 {
        save(shared, &part.job).map_err(|_| not_now("what became of it could not be recorded now"))?;
    }
    Ok(())
}

/// Whether the message needs a record when this part is delivered: others are open, or the sender is to hear of it.
pub fn stays_after(part: &Part) -> bool {
    let recipients = &lock(&part.job.state).record.recipients;
    let open = recipients.iter().filter(|entry| entry.state == State::Open);
    let mut ours = part.recipients.iter().filter_map(|&at| recipients.get(at));
    open.count() > part.recipients.len() || ours.any(|entry| entry.recipient.wants_success())
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
        // Whoever asks for mail on hold from then on was not seen by this attempt.
        let at = if state.on_hold { state.planned } else { now };
        if settled.means == Means::Hold {
            hold::note_look(&mut state.record, index, outcome, at);
        } else {
            state.record.note(index, outcome, at, local, settled.offered_dsn);
        }
        tell::outcome(job, &state.record, index);
        state.version += 1;
    }
    final_fates
}

/// Messages that were taken go to dispatch; once the end has come, which dispatch may have reached already, they go back.
pub fn hand_on(shared: &Shared, jobs: Vec<Arc<Job>>) {
    if shared.stop.is_set() {
        jobs.iter().for_each(|job| conclude(shared, job));
    } else {
        // Who has entered it in hand before the end is waited for by dispatch.
        let _ = shared.events.send(Event::Jobs(jobs));
    }
}

/// All parts of an attempt are settled (or there were none). May be called again when a step could not be done.
pub fn conclude(shared: &Shared, job: &Arc<Job>) {
    let settings = shared.settings();
    let finished =
        catch_unwind(AssertUnwindSafe(|| finish(shared, &settings, job))).unwrap_or_else(|panic| {
            crashed(job, &said(&*panic));
            shared.note_crash(job.id.ulid);
            Err(Halt::Crashed)
        });
    match finished {
        Ok(()) => {
            // What is said of them stands on the disk: they are messages of their own now.
            let reports = std::mem::take(&mut lock(&job.state).reports);
            if !reports.is_empty() {
                let _ = shared.events.send(Event::Jobs(reports));
            }
        }
        Err(Halt::Trouble(error)) => return aside::put(shared, job, error),
        Err(Halt::Lost) => {
            info!(id = %job.id, "no longer ours; left to whoever has it");
            undelivered::let_go_of_reports(shared, job);
        }
        Err(Halt::Crashed) => undelivered::let_go_of_reports(shared, job),
    }
    if shared.in_hand.leave(job.id.ulid) {
        shared.progress.note();
    }
}

fn finish(shared: &Shared, settings: &Settings, job: &Arc<Job>) -> Result<(), Halt> {
    times::apply_schedule(settings, job);
    if lock(&job.state).record.owes() {
        save(shared, job)?; // failed, with the reply, before the report
        undelivered::report(shared, settings, job)?;
    }
    let (open, unreturned, buried, reported) = {
        let state = lock(&job.state);
        let reported = state
            .record
            .recipients
            .iter()
            .any(|r| r.report == ReportState::Done);
        (
            state.record.is_open(),
            state.record.unreturned(),
            state.buried,
            reported,
        )
    };
    if open {
        return stay(shared, job);
    }
    if !unreturned.is_empty() && !buried {
        save(shared, job)?; // failed, before it lies in Badmail: else it might be delivered as well
        match undelivered::bury(shared, settings, job, &unreturned) {
            Err(Halt::Trouble(Some(error))) if shared.is_in_badmail(&error) => {
                return wait_for_badmail(shared, job, &error);
            }
            other => other?,
        }
        lock(&job.state).buried = true;
    }
    if reported {
        save(shared, job)?; // before the report can leave, also one that was found there: it waits for this record
    }
    go(shared, job)
}

/// Badmail takes nothing: recorded, the message waits in Queue, so that memory and threads are free for other mail.
fn wait_for_badmail(shared: &Shared, job: &Job, error: &DiskError) -> Result<(), Halt> {
    shared.badmail.failed(error);
    {
        let mut state = lock(&job.state);
        state.parked = clock::now() + BADMAIL_AGAIN;
        state.awaits_badmail = true;
    }
    stay(shared, job)
}

/// The message stays in Queue: record, transcripts, release.
fn stay(shared: &Shared, job: &Job) -> Result<(), Halt> {
    // Given back untried: what is on the disk still holds, and still remembers the time from before a touch.
    let untried = lock(&job.state).version == 1;
    if !untried {
        save(shared, job)?;
        write_transcripts(shared, job);
    }
    let mut saved = lock(&job.saved);
    step(shared, job, || shared.spool.release(job.id))?;
    saved.ended = true;
    drop(saved);
    let settings = shared.settings();
    let mut state = lock(&job.state);
    let requests = shared.holds.version();
    let (mut held, freed) = shared.holds.of(&settings, &state.record);
    if state.awaits_badmail {
        held = Held::BADMAIL;
    }
    // What was asked for and did not have its turn yet is due, whatever the record says.
    let is_wanted = held.is_for_domain() && shared.holds.free_any(&settings, &state.record);
    let due = if is_wanted {
        0
    } else {
        state.record.due().unwrap_or(0)
    };
    let put_off_for = std::mem::take(&mut state.put_off_for);
    let released = Released {
        id: job.id,
        due: due.max(state.parked),
        file_time: state.record.file_time,
        held,
        freed: freed && !untried && state.parked == 0, // and not again and again
        generation: job.generation,
        requests,
        forced: job.forced,
        untried,
        put_off: !put_off_for.is_empty(),
        parent: undelivered::parent_of(state.record.sender.as_ref(), state.record.envid.as_deref()),
    };
    drop(state);
    tell::waiting(job, released.due);
    shared.tell_of_release(released);
    for destination in put_off_for {
        shared.put_off.note(&destination.key, job.id.ulid);
    }
    Ok(())
}

/// The message is done: at the instant of the unlink.
fn go(shared: &Shared, job: &Job) -> Result<(), Halt> {
    // Whether it is ours to remove, the removal itself says.
    match beating(shared, job).and_then(|()| tried(shared, || remove(shared, job))) {
        Err(Halt::Trouble(why)) => {
            // It would be sent again at the next start: the record says that it must not.
            save(shared, job)?;
            Err(Halt::Trouble(why))
        }
        Ok(false) => Err(Halt::Lost),
        other => other.map(|_| ()),
    }
}

/// No other part may be putting a record while the file goes: it would come after it and stay. `false`: it is not ours
/// any more.
fn remove(shared: &Shared, job: &Job) -> DiskResult<bool> {
    let mut saved = lock(&job.saved);
    let ours = shared.spool.remove(job.id)?;
    saved.ended = true;
    if ours {
        shared.note_removed(job.id, lock(&job.state).has_remains);
    }
    Ok(ours)
}

/// Arrow 2: puts ENV when the record has changed since it was last put.
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
        make_durable(shared, job)?;
    }
    step(shared, job, || shared.spool.record(job.id, text.as_bytes()))?;
    saved.version = version;
    Ok(())
}

/// What stays is synced before its first record: a message with a record is never again judged complete, so one that a
/// power cut has torn must not have any. Called under the lock of `saved`. A sync that failed is not just asked again: the system may have
/// dropped what it could not write and call it written.
fn make_durable(shared: &Shared, job: &Job) -> Result<(), Halt> {
    let doubtful = lock(&job.state).doubtful;
    let synced = step(shared, job, || {
        if doubtful {
            shared.spool.rewrite(job.id)?;
        }
        shared.spool.make_durable(job.id)
    });
    let mut state = lock(&job.state);
    match &synced {
        Ok(()) => state.durable = true,
        Err(Halt::Trouble(Some(_))) => state.doubtful = true,
        Err(_) => {}
    }
    synced
}

fn write_transcripts(shared: &Shared, job: &Job) {
    let (ltr, rtr) = {
        let mut state = lock(&job.state);
        state.open_ltr(&job.submission);
        if state.ltr.is_empty() && state.rtr.is_empty() {
            return; // written before a release that could not be done
        }
        let due = state.record.due().unwrap_or(0).max(state.parked);
        let line = format!("{} next attempt {}\n", env::time(clock::now()), env::time(due));
        state.ltr.push_str(&line);
        (std::mem::take(&mut state.ltr), std::mem::take(&mut state.rtr))
    };
    for (name, text) in [
        (QueueName::LocalTranscript(job.id), ltr),
        (QueueName::RemoteTranscript(job.id), rtr),
    ] {
        if !text.is_empty()
            && let Err(error) = shared.spool.append(&name, &text)
        {
            debug!(id = %job.id, %error, "a transcript is incomplete");
        }
    }
}

/// One step on the disk, behind the fence.
pub fn step<T>(shared: &Shared, job: &Job, work: impl FnOnce() -> DiskResult<T>) -> Result<T, Halt> {
    fence(shared, job)?;
    tried(shared, work)
}

fn tried<T>(shared: &Shared, work: impl FnOnce() -> DiskResult<T>) -> Result<T, Halt> {
    work().map_err(|error| {
        shared.distrust(&error);
        Halt::Trouble(Some(error))
    })
}

/// Whether the next step may be done.
fn fence(shared: &Shared, job: &Job) -> Result<(), Halt> {
    beating(shared, job)?;
    match shared.spool.claim_state(job.id) {
        ClaimState::Ours => Ok(()),
        ClaimState::Gone => Err(Halt::Lost),
        ClaimState::Unknown => Err(Halt::Trouble(None)),
    }
}

/// The part of the fence that asks nobody: our heartbeat is fresh, and the claim was made in its time.
fn beating(shared: &Shared, job: &Job) -> Result<(), Halt> {
    if shared.pulse.epoch() != job.epoch {
        return Err(Halt::Lost);
    }
    if !shared.pulse.is_fresh() {
        return Err(Halt::Trouble(None));
    }
    Ok(())
}
