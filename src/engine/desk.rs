//! What ends without a connection: Drop, and recipients that are refused or deferred by a rule.
//!
//! Threads: desk-n, started as they are needed (dispatch); several, because each deposit waits for the disk.

use super::job::{Job, Means, Part, Settled};
use super::shared::{Shared, lock};
use super::undelivered::digest;
use super::{settle, tell};
use crate::clock::{self, Millis};
use crate::mail::{EnhancedStatus, Envelope, Outcome, Verdict};
use crate::queue::env;
use crate::smtp::content::{Abilities, Content};
use crossbeam_channel::{Receiver, select};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use tracing::error;

/// One thing to do.
pub enum Errand {
    /// Local recipients: into Drop.
    Deposit(Part),
    /// These recipients get this outcome.
    Refuse(Part, Outcome),
    /// These recipients wait for their domain to be set free.
    Hold(Part, Outcome),
    /// Back to Queue, not to be taken up before this time.
    Park(Part, Millis),
    /// Back to Queue, until its destination moves.
    PutOff(Part),
    /// No recipient is open: only the end is missing.
    Conclude(Arc<Job>),
}

/// Serves errands until the end.
pub fn run(shared: &Shared, errands: &Receiver<Errand>) {
    loop {
        select! {
            recv(errands) -> errand => match errand {
                Ok(errand) => unharmed(|| serve(shared, errand)),
                Err(_) => return,
            },
            recv(shared.stop.signal()) -> _ => return,
        }
    }
}

/// Whatever happens in settling one message, the thread goes on with the next. The message stays claimed; its next
/// life begins at the next start.
pub fn unharmed(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        error!("an internal error while a message was settled; it is taken up at the next start");
    }
}

/// At the end: what nobody has begun goes back to Queue.
pub fn give_back(shared: &Shared, errand: Errand) {
    match errand {
        Errand::Deposit(part)
        | Errand::Refuse(part, _)
        | Errand::Hold(part, _)
        | Errand::Park(part, _)
        | Errand::PutOff(part) => settle::give_back(shared, &part.job),
        Errand::Conclude(job) => settle::conclude(shared, &job),
    }
}

fn serve(shared: &Shared, errand: Errand) {
    match errand {
        Errand::Conclude(job) => settle::conclude(shared, &job),
        Errand::Park(part, until) => settle::park(shared, &part.job, until),
        Errand::PutOff(part) => settle::put_off(shared, &part),
        Errand::Refuse(part, outcome) => finish(shared, &part, &outcome, Means::Host),
        Errand::Hold(part, outcome) => finish(shared, &part, &outcome, Means::Hold),
        Errand::Deposit(part) => {
            let outcome = guarded(&part.job, || deposit(shared, &part));
            finish(shared, &part, &outcome, Means::Drop);
        }
    }
}

/// All recipients of the part end alike.
fn finish(shared: &Shared, part: &Part, outcome: &Outcome, means: Means) {
    let job = &part.job;
    let all = part.recipients.iter().map(|&index| (index, outcome.clone()));
    let mut settled = Settled {
        outcomes: all.collect(),
        means,
        ..Settled::default()
    };
    if outcome.verdict != Verdict::Delivered {
        let place = if means == Means::Drop {
            "Drop"
        } else {
            "no connection made"
        };
        let mut notes = format!("{} {place}\n", env::time(clock::now()));
        tell::outcomes(&mut notes, job, &settled);
        settled.notes = notes;
    }
    settle::part(shared, job, settled);
}

/// A panic of ours becomes a deferral of this message, and is counted: the second sends it to Badmail.
pub fn guarded(job: &Job, work: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = crashed(job, &said(&*panic));
        Outcome::deferred(EnhancedStatus::new(4, 3, 0), words)
    })
}

/// Notes that handling this message made us fail; returns what to say of it.
pub fn crashed(job: &Job, why: &str) -> String {
    error!(id = %job.id, why, "an internal error; please report it with the message file");
    let mut state = lock(&job.state);
    state.record.crashes = state.record.crashes.saturating_add(1);
    state.version += 1;
    format!("an internal error of mailroot: {why}")
}

/// The words of a panic.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned()));
    words.unwrap_or_else(|| "no words".to_owned())
}

fn deposit(shared: &Shared, part: &Part) -> Outcome {
    let began = Instant::now();
    let settings = shared.settings();
    let config = &settings.config;
    let job = &part.job;
    if let Err(outcome) = settle::may_send(shared, part).and_then(|()| settle::may_deposit(shared, part)) {
        return outcome;
    }
    let envelope = {
        let record = &lock(&job.state).record;
        let recipients = part
            .recipients
            .iter()
            .filter_map(|&i| record.recipients.get(i))
            .map(|r| r.recipient.clone());
        Envelope {
            sender: record.sender.clone(),
            ret: record.ret,
            envid: record.envid.clone(),
            body: record.body,
            recipients: recipients.collect(),
        }
    };
    let size = job.submission.layout.wire_size;
    if !shared.drop_usage.admit(
        shared.spool.folder(crate::mailroot::Shelf::Drop),
        config.drop.quota,
        size,
    ) {
        let words = format!("Drop is full: drop.quota is {} bytes", config.drop.quota);
        shared.drop_usage.note(began, Some(&words));
        return Outcome::deferred(EnhancedStatus::new(4, 2, 2), words);
    }
    let addresses = envelope.recipients.iter().map(|r| r.address.as_str());
    let name = format!("{}-{:08X}.EML", job.id.ulid, digest(addresses) >> 96);
    let stamps = job.stamps.clone().with_return_path(envelope.sender.as_ref());
    let can = Abilities {
        eight_bit: true,
        utf8_headers: true,
        max_line: usize::MAX,
    };
    let layout = &job.submission.layout;
    let result = Content::plan(&job.source, layout, &stamps, can)
        .map_err(local_disk)
        .and_then(|content| {
            crate::drop::deposit(&shared.spool, &name, &envelope, layout, &content).map_err(|error| {
                shared.distrust(&error);
                let words = error.to_string();
                shared.drop_usage.note(began, Some(&words));
                Outcome::deferred(EnhancedStatus::new(4, 3, 0), words)
            })
        });
    match result {
        Ok(()) => {
            shared.drop_usage.note(began, None);
            Outcome::ours(
                Verdict::Delivered,
                EnhancedStatus::new(2, 0, 0),
                format!("in Drop as {name}"),
            )
        }
        Err(outcome) => outcome,
    }
}

fn local_disk(error: io::Error) -> Outcome {
    Outcome::deferred(
        EnhancedStatus::new(4, 3, 0),
        format!("the message cannot be read: {error}"),
    )
}
