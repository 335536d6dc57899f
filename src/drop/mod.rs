//! Floor 2: Drop, mail for local domains. One file per message and set of local recipients: `x-sender`, one
//! `x-receiver` each, `Return-Path`, `Received`, then the message; so it is a valid Pickup file again.

use crate::mail::{Envelope, leading};
use crate::mailroot::{Result as DiskResult, Shelf, Spool, Staged, weigh};
use crate::pickup::Layout;
use crate::smtp::content::Content;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Arrow 4, begun: stages the local recipients' copy. It is there once it is published and Drop is synced.
pub fn stage<'a>(
    spool: &'a Spool,
    name: &str,
    envelope: &Envelope,
    layout: &Layout,
    content: &Content<'_>,
) -> DiskResult<Staged<'a>> {
    // Without this line a reader's judgement of leading periods could differ from ours.
    let mut top = leading::write(envelope, layout.dots.present.then_some("literal"));
    if layout.complete_said {
        top.extend_from_slice(leading::COMPLETE);
    }
    spool.stage(Shelf::Drop, name, &mut |file| {
        let mut out = BufWriter::with_capacity(64 * 1024, file);
        out.write_all(&top)?;
        content.write_plain(&mut out)?;
        out.flush()
    })
}

/// Bytes in Drop, for `drop.quota`: counted anew now and then, because others take files away. And whether it takes
/// mail at present.
#[derive(Default)]
pub struct Usage {
    counted: Mutex<Option<(Instant, u64)>>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    failing: bool,
    went_well: Option<Instant>,
}

/// How old a count may be.
const COUNT_AGAIN: Duration = Duration::from_secs(2);

impl Usage {
    /// A deposit that began then went well, or did not. Told when it changes: all local mail waits for the same reason.
    pub fn note(&self, began: Instant, trouble: Option<&str>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            // One that began before another went well says nothing of now.
            Some(_) if health.went_well.is_some_and(|at| at > began) => {}
            Some(why) => {
                if !std::mem::replace(&mut health.failing, true) {
                    warn!(why, "Drop takes no mail: what is for it waits in Queue");
                }
            }
            None => {
                health.went_well = Some(Instant::now());
                if std::mem::take(&mut health.failing) {
                    info!("Drop takes mail again");
                }
            }
        }
    }

    /// Whether `more` bytes fit below `quota`; if so they are counted.
    pub fn admit(&self, folder: &Path, quota: u64, more: u64) -> bool {
        if quota == 0 {
            return true;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, used) = match *counted {
            Some((when, used)) if when.elapsed() < COUNT_AGAIN && used.saturating_add(more) <= quota => {
                (when, used)
            }
            _ => (Instant::now(), weigh::bytes_in(folder, u64::MAX)),
        };
        let fits = used.saturating_add(more) <= quota;
        *counted = Some((when, if fits { used + more } else { used }));
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_counts_what_lies_there_and_what_was_admitted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), [0; 60]).unwrap();
        let usage = Usage::default();
        assert!(usage.admit(dir.path(), 100, 30));
        assert!(!usage.admit(dir.path(), 100, 50));
        std::fs::remove_file(dir.path().join("a")).unwrap();
        assert!(usage.admit(dir.path(), 100, 50), "a reader made room");
        assert!(usage.admit(dir.path(), 0, u64::MAX), "no quota");
    }
}
