//! A message of Queue that is due is taken in hand: claimed, its record read, its file read.
//!
//! Reads and writes: Queue through `mailroot`. Threads: those of keeper's pool. Not here: what is due (keeper), what a
//! file says (admit).

use super::admit::{Admitted, Origin, admit};
use super::burial::{self, Burials, Unread};
use super::job::Job;
use super::shared::{Settings, Shared};
use super::undelivered;
use super::waiting::{Waiting, parse};
use crate::badmail::Reason;
use crate::mail::MessageId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{error, warn};

/// How soon it is looked again whether the message that a report is about is done with it.
pub const FOR_PARENT: Duration = Duration::from_millis(500);
/// What the disk did not let us take or read is tried again after this: soon enough once it is well again.
pub const DISK_AGAIN: Duration = Duration::from_secs(2);

/// What taking came to.
pub enum Taken {
    /// In hand.
    Job(Arc<Job>),
    /// Somebody else has it, or there was nothing to take.
    Nothing,
    /// Not now; it lies where it was.
    Later(Duration),
    /// In the hand of those who bury; if they cannot, it is looked at again.
    Buried(Duration),
}

/// Takes what keeper finds due.
pub struct Taker<'a> {
    shared: &'a Arc<Shared>,
    /// Started when first needed: what lies in Queue was nearly always understood once.
    burials: OnceLock<Burials>,
}

impl<'a> Taker<'a> {
    /// Nothing is taken yet.
    pub fn new(shared: &'a Arc<Shared>) -> Self {
        Self {
            shared,
            burials: OnceLock::new(),
        }
    }

    /// Waits for what is being buried.
    pub fn finish(self) {
        if let Some(burials) = self.burials.into_inner() {
            burials.finish();
        }
    }

    /// Claims it and reads it.
    pub fn take(&self, settings: &Settings, id: MessageId, waiting: &Waiting) -> Taken {
        if !self.shared.in_hand.enter(id.ulid) {
            return Taken::Nothing;
        }
        let read = AssertUnwindSafe(|| self.claim_and_read(settings, id, waiting));
        let result = catch_unwind(read).unwrap_or_else(|_| {
            error!(%id, "an internal error while it was read; it begins a new life");
            Taken::Nothing
        });
        if !matches!(result, Taken::Job(_) | Taken::Buried(_)) {
            self.shared.in_hand.leave(id.ulid);
        }
        result
    }

    fn claim_and_read(&self, settings: &Settings, id: MessageId, waiting: &Waiting) -> Taken {
        let shared = self.shared;
        // Looked at before the claim, so that it stays where whoever owes it looks for it.
        if let Some(parent) = waiting
            .parent
            .as_deref()
            .copied()
            .filter(|&parent| parent != id.ulid)
            && undelivered::is_still_owed(shared, parent).unwrap_or(true)
        {
            return Taken::Later(FOR_PARENT);
        }
        match shared.spool.claim_waiting(id) {
            Ok(true) => {}
            Ok(false) => return Taken::Nothing,
            Err(error) => {
                warn!(%id, %error, "cannot be claimed now");
                return Taken::Later(DISK_AGAIN);
            }
        }
        // The truth is what is read after the claim; what was seen before was a hint.
        let record = match shared.spool.read_env(id) {
            Ok(None) => None,
            Ok(Some(bytes)) => match parse(&bytes, id) {
                Ok(record) => Some(record),
                Err(why) => {
                    let why = Reason::EnvDamaged { why: &why };
                    return bury_here(shared, id, &format!("{id}.EML"), why);
                }
            },
            Err(error) => {
                warn!(%id, %error, "its record cannot be read now");
                let _ = shared.spool.release(id);
                return Taken::Later(DISK_AGAIN);
            }
        };
        // What a dead node has written may not be on the disk yet, and what follows from it would be.
        if id.life > 0
            && let Err(error) = shared.spool.sync_queue()
        {
            shared.distrust(&error);
            let _ = shared.spool.release(id);
            return Taken::Later(DISK_AGAIN);
        }
        let file = record
            .as_ref()
            .map_or_else(|| format!("{id}.EML"), |record| record.file.clone());
        if shared.is_condemned(id.ulid) {
            let why = "reading it ends the process";
            return bury_here(shared, id, &file, Reason::TwiceCrashed { why });
        }
        let origin = if waiting.marks.forced() {
            Origin::Touched
        } else {
            Origin::Queue
        };
        match admit(shared, settings, id, file, record, origin) {
            Admitted::Job(job) => Taken::Job(job),
            Admitted::Gone => Taken::Nothing,
            Admitted::Unread(unread) => self.bury(*unread),
            Admitted::WaitsForParent => Taken::Later(FOR_PARENT),
            Admitted::Later(wait) => Taken::Later(wait),
        }
    }

    /// Aside: it is copied, and waits for the disk several times.
    fn bury(&self, unread: Unread) -> Taken {
        let shared = self.shared;
        let burials = self
            .burials
            .get_or_init(|| burial::start(shared, &shared.keeper_wake.0));
        if !burials.take_place() {
            let _ = shared.spool.release(unread.id);
            return Taken::Later(DISK_AGAIN);
        }
        if let Err(unread) = burials.hand_over(unread) {
            burial::bury(shared, &unread);
        }
        Taken::Buried(DISK_AGAIN)
    }
}

fn bury_here(shared: &Shared, id: MessageId, file: &str, why: Reason<'_>) -> Taken {
    match burial::bury_here(shared, id, file, why) {
        true => Taken::Nothing,
        false => Taken::Later(DISK_AGAIN),
    }
}
