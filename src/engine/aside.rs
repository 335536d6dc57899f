//! Messages whose next step the disk does not take: put aside, still in hand, and begun again every second by one
//! thread. So trouble of a disk holds up neither sessions nor desks, and is told once, not once for each message.
//!
//! Also here: how a disk whose sync has failed is believed again, and how Badmail is found to take files again.
//!
//! Reads and writes: what the steps do. Thread: mender; [`put`] is called by whoever settles. Not here: the steps.

use super::job::Job;
use super::settle;
use super::shared::{Shared, lock};
use crate::mailroot::{DiskError, Shelf};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two looks whether Badmail takes files again.
const LOOK_AT_BADMAIL: Duration = Duration::from_secs(4);

/// What waits for a disk, by the trouble that it waits out.
#[derive(Default)]
pub struct Aside {
    groups: Mutex<BTreeMap<String, VecDeque<Arc<Job>>>>,
}

impl Aside {
    /// How many messages wait.
    fn len(&self) -> usize {
        lock(&self.groups).values().map(VecDeque::len).sum()
    }

    fn troubles(&self) -> Vec<String> {
        lock(&self.groups).keys().cloned().collect()
    }

    /// Takes those who wait out this trouble. The trouble stays known, so that it is not told again.
    fn begin(&self, trouble: &str) -> VecDeque<Arc<Job>> {
        lock(&self.groups)
            .get_mut(trouble)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Whether somebody has come (back) with this trouble; then those who were not tried stand behind him.
    fn goes_on(&self, trouble: &str, rest: &mut VecDeque<Arc<Job>>) -> bool {
        let mut groups = lock(&self.groups);
        match groups.get_mut(trouble) {
            Some(waiting) if !waiting.is_empty() => {
                waiting.append(rest);
                true
            }
            _ => false,
        }
    }

    fn forget(&self, trouble: &str) {
        let mut groups = lock(&self.groups);
        if groups.get(trouble).is_some_and(VecDeque::is_empty) {
            groups.remove(trouble);
        }
    }
}

/// Puts a message aside whose next step cannot be done; `None`: the fence has no answer.
pub fn put(shared: &Shared, job: &Arc<Job>, error: Option<DiskError>) {
    let trouble = error.as_ref().map_or_else(String::new, DiskError::kind);
    let mut groups = lock(&shared.aside.groups);
    let known = groups.contains_key(&trouble);
    groups.entry(trouble).or_default().push_back(Arc::clone(job));
    drop(groups);
    match error {
        _ if known => debug!(id = %job.id, "put aside as well"),
        Some(error) => {
            warn!(id = %job.id, %error, "tried again every second; until then nothing more of this message, and of others with the same trouble, is sent");
        }
        None => {
            warn!(id = %job.id, "the heartbeat is not fresh or Queue does not answer: what is in hand is kept as it is until it does");
        }
    }
}

/// Tries again until the end.
pub fn run(shared: &Shared) {
    let mut proofs = Proofs::default();
    loop {
        let ending = shared.stop.sleep(AGAIN);
        proofs.look(shared);
        round(shared);
        if ending {
            return end(shared);
        }
    }
}

/// One try of each trouble; where the first message gets on, the others follow.
fn round(shared: &Shared) {
    for trouble in shared.aside.troubles() {
        let mut waiting = shared.aside.begin(&trouble);
        let mut done = 0;
        while let Some(job) = waiting.pop_front() {
            settle::conclude(shared, &job);
            if shared.aside.goes_on(&trouble, &mut waiting) {
                break;
            }
            done += 1;
        }
        if waiting.is_empty() && !shared.aside.goes_on(&trouble, &mut waiting) {
            shared.aside.forget(&trouble);
            info!(messages = done, was = %trouble, "the disk takes it again");
        }
    }
}

/// What cannot be finished before the process ends stays as it is on the disk.
fn end(shared: &Shared) {
    loop {
        round(shared);
        if shared.in_hand.is_empty() {
            return;
        }
        if shared.aside.len() >= shared.in_hand.len() || shared.stop_patience_over() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut left = 0;
    for trouble in shared.aside.troubles() {
        for job in shared.aside.begin(&trouble) {
            shared.in_hand.leave_behind(job.id.ulid);
            left += 1;
        }
    }
    if left > 0 {
        warn!(
            messages = left,
            "left as they are; they are taken up at the next start"
        );
    }
    shared.progress.note();
}

/// Looks whether a disk has become good again.
struct Proofs {
    next_badmail: Instant,
    badmail_wait: Duration,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            next_badmail: Instant::now(),
            badmail_wait: AGAIN,
        }
    }
}

impl Proofs {
    fn look(&mut self, shared: &Shared) {
        if shared.trust.is_lost() && prove_all(shared) {
            shared.trust.regain();
            let _ = shared.flush_wake.try_send(());
            shared.poke_keeper();
        }
        if shared.badmail.is_shut() && self.next_badmail <= Instant::now() {
            // Each opening that did not last makes the next look later: a small file may fit where a large one does
            // not.
            self.badmail_wait = if self.next_badmail.elapsed() > 4 * LOOK_AT_BADMAIL {
                AGAIN
            } else {
                (self.badmail_wait * 2).min(LOOK_AT_BADMAIL)
            };
            self.next_badmail = Instant::now() + self.badmail_wait;
            if shared.spool.prove(Shelf::Badmail).is_ok() {
                shared.badmail.open();
                shared.free_held();
            }
        }
    }
}

/// A whole put into each folder: what was synced before it by the same journal is on the disk with it.
fn prove_all(shared: &Shared) -> bool {
    [Shelf::Queue, Shelf::Drop, Shelf::Badmail]
        .into_iter()
        .all(|shelf| shared.spool.prove(shelf).is_ok())
        && shared.spool.sync_removals().is_ok()
}

/// Whether the disk keeps what it said it had synced.
#[derive(Default)]
pub struct Trust {
    lost: AtomicBool,
}

impl Trust {
    /// "If a sync fails, that disk is no longer believed: intake stops, loudly."
    pub fn lose(&self, why: &DiskError) {
        if !self.lost.swap(true, Ordering::SeqCst) {
            error!(error = %why, "a sync failed: nothing more is taken until a new file can be written, synced and \
                renamed in each folder; what was to be synced is written anew");
        }
    }

    fn regain(&self) {
        self.lost.store(false, Ordering::SeqCst);
        warn!("the disk has taken a new file in each folder: mail is taken again; look after that disk");
    }

    /// Whether it does not.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Whether Badmail takes files. While it does not, what belongs there waits in Queue.
#[derive(Default)]
pub struct BadmailDoor {
    shut: AtomicBool,
}

impl BadmailDoor {
    /// A file could not be put there.
    pub fn failed(&self, error: &DiskError) {
        if !self.shut.swap(true, Ordering::SeqCst) {
            warn!(%error, "Badmail takes nothing; what belongs there waits in Queue until it does");
        }
    }

    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        info!("Badmail takes files again");
    }

    /// Whether it takes none at present.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }
}
