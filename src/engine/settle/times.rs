//! After an attempt: when whom it left is tried again, or that his time is over.
//!
//! Pure, but for the state of the message. Not here: the schedule itself (queue/schedule), that of domains on hold (hold).

use super::MAX_CRASHES;
use crate::clock::{self, Millis};
use crate::engine::job::{Job, JobState, Means};
use crate::engine::shared::{Settings, lock};
use crate::engine::{hold, tell};
use crate::mail::{EnhancedStatus, Outcome};
use crate::queue::record::{Delay, State};
use crate::queue::schedule;

/// Sets the next attempt of whom was deferred, expires whose time is over, notes whose delay is to be told.
pub(super) fn apply_schedule(settings: &Settings, job: &Job) {
    let now = clock::now();
    let mut guard = lock(&job.state);
    let state = &mut *guard;
    if state.record.crashes >= MAX_CRASHES {
        give_up_on_crashes(job, state, now);
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
        let look_again = hold::wait(&times.retry);
        if let Some(hold) = settings.routes.hold_of(&entry.recipient.address) {
            let last = entry.last.as_ref().map(|given| &given.outcome);
            match hold::next(&hold, last, arrived, now, look_again) {
                hold::Next::At(at) => entry.next = at,
                hold::Next::Expired(outcome) => {
                    state.record.note(index, outcome, now, local, false);
                    tell::outcome(job, &state.record, index);
                }
            }
            continue;
        } else if means == Means::Hold {
            entry.next = now.saturating_add(look_again); // it was on hold until just now
            continue;
        }
        match schedule::next(times, id, entry.tries, arrived, now) {
            schedule::Next::At(at) => {
                entry.next = at;
                if sender_known
                    && entry.delay == Delay::Untold
                    && entry.recipient.wants_delay()
                    && schedule::delay_is_due(times, arrived, now)
                {
                    entry.delay = Delay::Owed;
                }
            }
            schedule::Next::Expired => {
                let outcome = expired(entry.last.as_ref().map(|given| &given.outcome));
                state.record.note(index, outcome, now, local, false);
                tell::outcome(job, &state.record, index);
            }
        }
    }
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

fn give_up_on_crashes(job: &Job, state: &mut JobState, now: Millis) {
    for index in 0..state.record.recipients.len() {
        let open = state
            .record
            .recipients
            .get(index)
            .is_some_and(|r| r.state == State::Open);
        if open {
            let text =
                "handling this message made mailroot fail twice; it is set aside so that other mail goes on";
            let outcome = Outcome::failed(EnhancedStatus::new(5, 3, 0), text);
            state.record.note(index, outcome, now, false, false);
            tell::outcome(job, &state.record, index);
            if let Some(entry) = state.record.recipients.get_mut(index) {
                entry.report = crate::queue::ReportState::None; // what we cannot handle we do not report on either
            }
            state.version += 1;
        }
    }
}
