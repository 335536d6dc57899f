//! What others left: claims of dead nodes, claims across volumes that were cut short, what was being written.
//!
//! Reads and writes: Queue, Pickup, Status through `mailroot`. Threads: keeper and its pool; at the end of the
//! process, main. Not here: who is dead (heart).

use super::listing::{HalfClaim, Listing};
use super::shared::{Shared, lock};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use crate::mailroot::{NodeName, OpenFolder, node};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What became of claims across volumes.
#[derive(Default)]
pub struct Finished {
    /// Some were brought into Queue, or there are more to come.
    pub any: bool,
    /// Still between two steps: a copy of theirs in Queue must not be sent while the former lies in Pickup and can
    /// be claimed again.
    pub stuck: HashSet<Ulid>,
}

/// Claims across volumes that could not be finished, and when to try again. A memory only.
pub type Failed = HashMap<PathBuf, Instant>;

/// So many are finished at a time: each costs a wait for the disk, and others wait for keeper.
const AT_A_TIME: usize = 64;
/// One that cannot be finished is left alone for so long: a full disk may have room again by then.
const LEAVE_ALONE: Duration = Duration::from_secs(5);

/// More are taken over by many threads: on network storage a rename is a long wait.
const FEW: usize = 4;

/// Finishes `Pickup/.ID@NODE.EML` of the dead and of ourselves.
pub fn finish_half_claims(
    shared: &Shared,
    half_claims: Vec<HalfClaim>,
    dead: &HashSet<NodeName>,
    failed: &mut Failed,
) -> Finished {
    let mut finished = Finished::default();
    let now = Instant::now();
    let is_ours = |half: &HalfClaim| is_left(shared, half.id.ulid, &half.node, dead);
    let (left, others): (Vec<HalfClaim>, Vec<HalfClaim>) = half_claims.into_iter().partition(is_ours);
    // Whose they are decides about their copies too, whoever made those.
    finished.stuck.extend(others.iter().map(|half| half.id.ulid));
    let lying: HashSet<&Path> = left.iter().map(|half| half.path.as_path()).collect();
    failed.retain(|path, _| lying.contains(path.as_path()));
    let is_due = |half: &HalfClaim| failed.get(&half.path).is_none_or(|again| *again <= now);
    let (due, not_now): (Vec<HalfClaim>, Vec<HalfClaim>) = left.into_iter().partition(is_due);
    finished.stuck.extend(not_now.iter().map(|half| half.id.ulid));
    if due.is_empty() {
        return finished;
    }
    let ulids: HashSet<Ulid> = due.iter().map(|half| half.id.ulid).collect();
    let copies = match shared.spool.messages(|ulid| ulids.contains(&ulid)) {
        Ok(copies) => copies,
        Err(error) => {
            warn!(%error, "claims across volumes cannot be finished now");
            finished.stuck.extend(ulids);
            return finished;
        }
    };
    for (nth, HalfClaim { path, id, node }) in due.into_iter().enumerate() {
        if nth >= AT_A_TIME {
            finished.any = true;
            finished.stuck.insert(id.ulid);
            continue;
        }
        let copies = copies.get(&id.ulid).map_or(&[][..], Vec::as_slice);
        match shared.spool.finish_half_claim(&path, id, &node, copies) {
            Ok(became) => {
                let became = became.unwrap_or(id);
                info!(%id, from = %node, %became, "taken over from Pickup");
                finished.any = true;
            }
            Err(error) => {
                shared.distrust(&error);
                if failed.len() < AT_A_TIME {
                    warn!(%id, %error, "cannot be taken over now");
                }
                failed.insert(path, now + LEAVE_ALONE);
                finished.stuck.insert(id.ulid);
            }
        }
    }
    finished
}

/// Takes messages over that the dead, or we ourselves, have let fall; each begins its next life. Only the next
/// listing shows them.
pub fn take_over(
    shared: &Shared,
    listing: &Listing,
    dead: &HashSet<NodeName>,
    stuck: &HashSet<Ulid>,
    pool: &rayon::ThreadPool,
) -> Vec<MessageId> {
    let is_due = |(id, node): &&(MessageId, NodeName)| {
        is_left(shared, id.ulid, node, dead) && !stuck.contains(&id.ulid)
    };
    let mut left: Vec<&(MessageId, NodeName)> = listing.taken.iter().filter(is_due).collect();
    if left.is_empty() || !is_gone_from_pickup(shared) {
        return Vec::new();
    }
    // Other nodes are at the same: each begins elsewhere.
    let own: usize = shared.spool.node().as_str().bytes().map(usize::from).sum();
    let start = own.checked_rem(left.len()).unwrap_or(0);
    left.rotate_left(start);
    let take = |(id, node): &&(MessageId, NodeName)| match shared.spool.take_over(*id, node) {
        Ok(true) => {
            info!(%id, from = %node, "taken over");
            Some(id.next_life())
        }
        Ok(false) => None,
        Err(error) => {
            warn!(%id, %error, "cannot be taken over now");
            None
        }
    };
    if left.len() <= FEW {
        return left.iter().filter_map(take).collect();
    }
    pool.install(|| left.par_iter().with_max_len(1).filter_map(take).collect())
}

/// Whoever had a message may have died between the unlink of `Pickup/.ID@NODE.EML` and its sync: before a copy gets a
/// name that is sent whatever lies in Pickup, that is made durable. Once for all of a scan.
fn is_gone_from_pickup(shared: &Shared) -> bool {
    let synced = shared.spool.sync_pickup();
    if let Err(error) = &synced {
        shared.distrust(error);
        warn!(%error, "what is in no hand stays as it is for now");
    }
    synced.is_ok()
}

/// Of a dead node, or under our own name and in no session: a step that reported an error.
fn is_left(shared: &Shared, ulid: Ulid, node: &NodeName, dead: &HashSet<NodeName>) -> bool {
    if shared.is_own_name(node) {
        !shared.in_hand.has(ulid)
    } else {
        dead.contains(node)
    }
}

/// TMP files of nodes that are no more, and their heartbeat files. `everywhere`: in Drop and Badmail too, though
/// nobody has just died.
pub fn bury_the_dead(shared: &Shared, listing: &Listing, dead: &HashSet<NodeName>, everywhere: bool) {
    let nodes = shared.spool.folders().status.join("nodes");
    if everywhere {
        forget_remnants(shared, &nodes);
    }
    // While Status cannot be listed nobody knows whose file is worthless.
    let Ok(known) = node::known(&nodes) else {
        return;
    };
    let known: HashSet<NodeName> = known.into_iter().collect();
    let is_worthless =
        |node: &NodeName| *node != shared.spool.node() && (dead.contains(node) || !known.contains(node));
    for (path, owner) in &listing.temporary {
        if is_worthless(owner)
            && let Err(error) = shared.spool.unlink(path)
        {
            warn!(%error, "tried again");
        }
    }
    if !dead.is_empty() || everywhere {
        shared.spool.remove_temporaries(&is_worthless);
    }
    for name in dead {
        node::forget(&nodes, name);
    }
}

/// Files of processes that were ended as they entered or left: nobody would ever call them dead who runs for a shorter
/// time than a lease.
fn forget_remnants(shared: &Shared, nodes: &Path) {
    for name in node::known(nodes).unwrap_or_default() {
        let holds_messages = lock(&shared.claimants).contains(&name);
        if name != shared.spool.node() && !holds_messages && node::is_remnant(nodes, &name) {
            node::forget(nodes, &name);
        }
    }
}

/// Whether two folders lie on different volumes.
pub fn are_apart(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    device(one) != device(other)
}

/// When all threads have ended: what was claimed at the last moment and is in no session goes back, for others.
pub fn give_back_the_rest(shared: &Shared) {
    let queue = OpenFolder::open(&shared.spool.folders().queue);
    let Ok(listing) = queue.and_then(|queue| Listing::of(&queue, |_| true)) else {
        return;
    };
    let own = shared.spool.node();
    let is_due = |(id, node): &(MessageId, NodeName)| *node == own && !shared.in_hand.has(id.ulid);
    let left: Vec<(MessageId, NodeName)> = listing.taken.into_iter().filter(is_due).collect();
    if left.is_empty() || !is_gone_from_pickup(shared) {
        return;
    }
    for (id, _) in left {
        if let Err(error) = shared.spool.release(id) {
            warn!(%id, %error, "left as it is; it is taken up at the next start");
        }
    }
}
