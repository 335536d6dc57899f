//! What ends without a connection: Drop (deposit), and recipients that are refused or deferred by a rule.
//!
//! Threads: desk-n, started as they are needed (dispatch); several, because each deposit waits for the disk.

use super::job::{Job, Means, Part, Settled};
use super::shared::{Shared, lock};
use super::{deposit, settle, tell};
use crate::clock::{self, Millis};
use crate::log;
use crate::mail::{Outcome, Verdict};
use crate::queue::env;
use crossbeam_channel::{Receiver, select};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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

/// Serves errands until the end. What else waits for Drop is put there together with the first.
pub fn run(shared: &Shared, errands: &Receiver<Errand>) {
    loop {
        let mut next = select! {
            recv(errands) -> errand => match errand {
                Ok(errand) => Some(errand),
                Err(_) => return,
            },
            recv(shared.stop.signal()) -> _ => return,
        };
        let (mut parts, most) = (Vec::new(), deposit::hands(shared).together);
        while let Some(Errand::Deposit(part)) = next {
            // Of one that stays a record is put first, which is waited for: by as few as may be.
            let is_last = settle::stays_after(&part) || parts.len() + 1 >= most;
            parts.push(part);
            next = if is_last { None } else { errands.try_recv().ok() };
        }
        unharmed(|| log::together(|| deposit::all(shared, parts)));
        if let Some(errand) = next {
            unharmed(|| serve(shared, errand));
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
        Errand::Deposit(part) => deposit::all(shared, vec![part]),
    }
}

/// All recipients of the part end alike.
pub fn finish(shared: &Shared, part: &Part, outcome: &Outcome, means: Means) {
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
