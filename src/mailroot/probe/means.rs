//! What an answer is worth: to one process, to several, and after a power cut.

use super::{Locking, Proof, Question, Seen};
use std::time::Duration;

/// How much of what mailroot promises an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// It says nothing about that.
    Silent,
    /// As it should be.
    Holds,
    /// Something takes longer or is not as good; no message is lost or doubled by it.
    Weaker,
    /// What is promised cannot be kept there.
    Missing,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// One process (which has several threads).
    pub one: Means,
    /// Several processes on one mailroot.
    pub several: Means,
    /// What was made durable is there afterwards.
    pub power: Means,
}

/// Above this a time stamp is not of our time.
const SKEW: Duration = Duration::from_secs(1);

impl Proof {
    /// What it is worth. `heartbeat`, `lease`: as set.
    pub fn means(&self, heartbeat: Duration, lease: Duration) -> Meaning {
        use Means::{Holds, Missing, Silent, Weaker};
        let both = |means| Meaning {
            one: means,
            several: means,
            power: Silent,
        };
        let several = |means| Meaning {
            one: Silent,
            ..both(means)
        };
        let better_if = |good: bool| if good { Holds } else { Weaker };
        match &self.seen {
            Seen::Raced(tally) => {
                let none_left = tally.vanished + tally.refused >= tally.files;
                let wrong = tally.doubled + tally.lies > 0;
                both(
                    match wrong || (none_left && !(tally.other_volume && tally.files == 0)) {
                        true => Missing,
                        false => better_if(tally.vanished + tally.refused == 0 && tally.was_close()),
                    },
                )
            }
            Seen::Read(reads) if reads.nothing + reads.mixed + reads.outdated > 0 => both(Missing),
            // What a reader sees after it has looked again is right.
            Seen::Read(reads) => both(better_if(reads.gaps.is_empty() && reads.backward == 0)),
            Seen::HandedOver(seen) if seen.old + seen.nothing + seen.refused > 0 => several(Missing),
            Seen::HandedOver(seen) => several(better_if(seen.gaps.is_empty())),
            Seen::Keeps(known) => both(better_if(*known == Some(true))),
            Seen::Locked(locking) => several(better_if(matches!(locking, Locking::Works))),
            Seen::Told(told) => both(better_if(told.is_some())),
            Seen::Synced(_) => Meaning {
                power: Holds,
                ..both(Holds)
            },
            Seen::Stamped(stamps) => both(better_if(stamps.off <= SKEW)),
            Seen::Folds(_) => both(Holds),
            Seen::Visible(seen) => {
                let late = |time: Option<Duration>, limit| time.is_none_or(|time| time > limit);
                // A node whose heartbeat is not seen is taken for dead. That a look can be old is allowed for.
                several(if late(seen.made, lease) || late(seen.rewritten, lease) {
                    Missing
                } else {
                    better_if(
                        ![seen.made, seen.gone, seen.rewritten]
                            .iter()
                            .any(|time| late(*time, heartbeat)),
                    )
                })
            }
            Seen::Failed(_) | Seen::Hangs(_) => match self.question {
                Question::Lock => several(Weaker),
                Question::KeepExisting | Question::Notify | Question::Stamp | Question::Case => both(Weaker),
                Question::HandOver | Question::See => several(Missing),
                Question::Sync => Meaning {
                    power: Missing,
                    ..both(Missing)
                },
                _ => both(Missing),
            },
        }
    }

    /// Whether a service must not start here. Only what was seen counts, never that nothing could be seen.
    pub fn forbids_a_start(&self) -> bool {
        match &self.seen {
            Seen::Raced(tally) => {
                tally.doubled + tally.lies > 0 || (tally.files > 0 && tally.vanished == tally.files)
            }
            Seen::Read(reads) => reads.nothing + reads.mixed > 0,
            _ => false,
        }
    }
}
