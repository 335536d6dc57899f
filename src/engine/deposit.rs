//! Local recipients: their copies into Drop, those of several messages step by step, so that the disk has all of them to
//! write at once, Drop is synced once for all, and few threads want the same folder.
//!
//! Writes: Drop, then what follows from the outcome (settle). Thread: desk-n. Not here: what a Drop file holds (drop).

use super::desk::{crashed, finish, said, unharmed};
use super::job::{Job, Means, Part};
use super::settle;
use super::shared::{Shared, lock};
use super::undelivered::digest;
use crate::drop;
use crate::mail::{EnhancedStatus, Envelope, Outcome, Verdict};
use crate::mailroot::{DiskError, Shelf, Staged};
use crate::smtp::content::{Abilities, Content};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// How many threads put files into Drop at a time at most, and how many files each.
pub struct Hands {
    pub desks: usize,
    pub together: usize,
}

/// Where writing does not mean waiting for a journal: few threads, which do not stand in each other's way.
const IN_ORDER: Hands = Hands {
    desks: 32,
    together: 32,
};
/// Where each file has to be synced: only those that have a thread of their own are synced at the same time.
const EACH_SYNCED: Hands = Hands {
    desks: 64,
    together: 1,
};

/// What suits the storage that Drop is on.
pub fn hands(shared: &Shared) -> &'static Hands {
    if shared.spool.is_in_order(Shelf::Drop) {
        &IN_ORDER
    } else {
        &EACH_SYNCED
    }
}

/// One on its way.
struct Deposit {
    part: Part,
    began: Instant,
    name: String,
}

/// Puts them there and settles them, whatever became of each.
pub fn all(shared: &Shared, parts: Vec<Part>) {
    let staged: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let deposit = Deposit::of(part);
            let staged = guarded(&deposit.part.job, || deposit.stage(shared));
            if let Ok(staged) = &staged {
                staged.begin();
            }
            (deposit, staged)
        })
        .collect();
    let published: Vec<_> = staged
        .into_iter()
        .map(|(deposit, staged)| {
            let published = staged.and_then(|staged| {
                guarded(&deposit.part.job, || {
                    staged.publish().map_err(|error| deposit.failed(shared, &error))
                })
            });
            (deposit, published)
        })
        .collect();
    let is_any = published.iter().any(|(_, published)| published.is_ok());
    let synced = if is_any {
        shared.spool.sync_shelf(Shelf::Drop)
    } else {
        Ok(())
    };
    for (deposit, published) in published {
        let outcome = match (published, &synced) {
            (Err(outcome), _) => outcome,
            (Ok(()), Err(error)) => deposit.failed(shared, error),
            (Ok(()), Ok(())) => deposit.done(shared),
        };
        unharmed(|| finish(shared, &deposit.part, &outcome, Means::Drop));
    }
}

impl Deposit {
    fn of(part: Part) -> Self {
        // Derived from the ULID and the recipients: a repeat replaces itself, and another set never does.
        let recipients = {
            let record = &lock(&part.job.state).record;
            let entries = part.recipients.iter().filter_map(|&at| record.recipients.get(at));
            digest(entries.map(|entry| entry.recipient.address.as_str()))
        };
        Self {
            began: Instant::now(),
            name: format!("{}-{:08X}.EML", part.job.id.ulid, recipients >> 96),
            part,
        }
    }

    /// If it may be put there now. The error is the outcome for all recipients.
    fn stage<'a>(&self, shared: &'a Shared) -> Result<Staged<'a>, Outcome> {
        let job = &self.part.job;
        settle::may_send(shared, &self.part).and_then(|()| settle::may_deposit(shared, &self.part))?;
        let envelope = self.envelope();
        let layout = &job.submission.layout;
        let quota = shared.settings().config.drop.quota;
        let folder = shared.spool.folder(Shelf::Drop);
        if !shared.drop_usage.admit(folder, quota, layout.wire_size) {
            let words = format!("Drop is full: drop.quota is {quota} bytes");
            shared.drop_usage.note(self.began, Some(&words));
            return Err(Outcome::deferred(EnhancedStatus::new(4, 2, 2), words));
        }
        let stamps = job.stamps.clone().with_return_path(envelope.sender.as_ref());
        let can = Abilities {
            eight_bit: true,
            utf8_headers: true,
            max_line: usize::MAX,
        };
        let content = Content::plan(&job.source, layout, &stamps, can)
            .map_err(|error| local_trouble(format!("the message cannot be read: {error}")))?;
        drop::stage(&shared.spool, &self.name, &envelope, layout, &content)
            .map_err(|error| self.failed(shared, &error))
    }

    fn envelope(&self) -> Envelope {
        let record = &lock(&self.part.job.state).record;
        let entries = self
            .part
            .recipients
            .iter()
            .filter_map(|&at| record.recipients.get(at));
        Envelope {
            sender: record.sender.clone(),
            ret: record.ret,
            envid: record.envid.clone(),
            body: record.body,
            recipients: entries.map(|entry| entry.recipient.clone()).collect(),
        }
    }

    fn failed(&self, shared: &Shared, error: &DiskError) -> Outcome {
        shared.distrust(error);
        let words = error.to_string();
        shared.drop_usage.note(self.began, Some(&words));
        local_trouble(words)
    }

    fn done(&self, shared: &Shared) -> Outcome {
        shared.drop_usage.note(self.began, None);
        let words = format!("in Drop as {}", self.name);
        Outcome::ours(Verdict::Delivered, EnhancedStatus::new(2, 0, 0), words)
    }
}

fn local_trouble(words: String) -> Outcome {
    Outcome::deferred(EnhancedStatus::new(4, 3, 0), words)
}

/// A panic of ours becomes a deferral of this message, and is counted: the second sends it to Badmail.
fn guarded<T>(job: &Job, work: impl FnOnce() -> Result<T, Outcome>) -> Result<T, Outcome> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(local_trouble(crashed(job, &said(&*panic)))))
}
