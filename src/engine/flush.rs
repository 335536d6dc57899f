//! Removals reach the disk at least every `durability.flush`; then ENV and transcripts of what was removed go.
//!
//! Thread: flush. The order matters: an ENV that goes before its message file is durably gone would let a power cut
//! bring the message back without its memory of who got it.

use super::shared::{Shared, lock};
use crossbeam_channel::{Receiver, select};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::warn;

/// Sleeps until a removal is outstanding; syncs at most every `durability.flush`.
pub fn run(shared: &Shared, wake: &Receiver<()>) {
    let mut failing = false;
    loop {
        select! {
            recv(wake) -> _ => {}
            recv(shared.stop.signal()) -> _ => {}
        }
        let ending = shared.stop.is_set();
        if !ending {
            shared.stop.sleep(shared.settings().config.durability.flush);
        }
        failing = flush_once(shared, failing);
        if ending {
            // The engine syncs once more after the last session; what remains then is swept at the next start.
            while !shared.in_hand.is_empty() && !shared.stop_patience_over() {
                std::thread::sleep(Duration::from_millis(5));
            }
            flush_once(shared, failing);
            return;
        }
    }
}

/// One sync and what it allows; returns whether it failed.
fn flush_once(shared: &Shared, failed_before: bool) -> bool {
    // After a failed sync the next one proves nothing; mender proves the disk, and wakes us.
    if shared.trust.is_lost() || !shared.flush_due.swap(false, Ordering::SeqCst) {
        return failed_before;
    }
    let remains = std::mem::take(&mut *lock(&shared.removed));
    if let Err(error) = shared.spool.sync_removals() {
        if !failed_before {
            warn!(%error, "removals are not known to be on the disk; tried again");
        }
        shared.distrust(&error);
        lock(&shared.removed).extend(remains);
        shared.flush_due.store(true, Ordering::SeqCst);
        if !shared.trust.is_lost() {
            let _ = shared.flush_wake.try_send(()); // a folder that is missing, or an interruption
        }
        return true;
    }
    if let Err(error) = shared.spool.sweep(&remains) {
        warn!(%error, "what removed messages have left stays for the next scan");
    }
    false
}
