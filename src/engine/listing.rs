//! One listing of Queue, sorted out by what the names mean.
//!
//! Reads: Queue's names, and the times of waiting messages. Writes: nothing. Thread: keeper.

use super::shared::lock;
use super::waiting::{Nanos, nanos};
use crate::mail::MessageId;
use crate::mail::id::Ulid;
use crate::mailroot::evidence::strange;
use crate::mailroot::hanging;
use crate::mailroot::leftovers::is_probe;
use crate::mailroot::{DiskError, NodeName, OpenFolder, QueueName};
use std::collections::{HashMap, HashSet};
use std::fs::DirEntry;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a piece of work has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// From its begin to its end.
    pub time: Duration,
    /// Of that, on a processor.
    pub work: Duration,
}

/// See [`Effort`].
pub struct Since(Instant, Duration);

impl Effort {
    /// It begins, on this thread.
    pub fn begin() -> Since {
        Since(Instant::now(), processor_time())
    }
}

impl Since {
    /// It ends.
    pub fn end(&self) -> Effort {
        Effort {
            time: self.0.elapsed(),
            work: processor_time().saturating_sub(self.1),
        }
    }
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// When a folder is listed again: listings take no more than a share of the time. Of two in a row the shorter one
/// counts: a storage that did not answer for a while says nothing about the size of the folder. What a processor had to
/// do counts at once.
#[derive(Default)]
pub struct Pace {
    former: Duration,
}

impl Pace {
    /// How long to wait after a listing that cost so much: `share` times as long, `poll` at least.
    pub fn after(&mut self, took: Effort, share: u32, poll: Duration) -> Duration {
        let usual = self.usual(took.time).max(took.work);
        poll.max(usual.saturating_mul(share))
    }

    /// Notes how long a listing took; the shorter one of the last two.
    pub fn usual(&mut self, took: Duration) -> Duration {
        took.min(std::mem::replace(&mut self.former, took))
    }
}

/// A listing of Pickup may take this share of the time: the next one waits so many times as long as the last one took …
const SHARE: u32 = 2;
/// … and so many times where notifications tell what comes in, but not longer than [`REST`] because of that.
const SHARE_WHEN_TOLD: u32 = 20;
const REST: Duration = Duration::from_secs(60);

/// How long to wait after a listing of Pickup of such a length: when a notification was lost, and when none was.
pub fn rests(usual: Duration, poll: Duration, is_told: bool) -> (Duration, Duration) {
    let short = poll.max(usual.saturating_mul(SHARE));
    let long = usual.saturating_mul(SHARE_WHEN_TOLD).min(REST);
    (short, if is_told { short.max(long) } else { short })
}

/// A waiting message. There may be a million of them.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Which.
    pub ulid: Ulid,
    /// Its file's time: that tells of a touch.
    pub file_time: Nanos,
    /// Which life.
    pub life: u32,
    /// The last bits of the number of its file: what was made together has numbers, and mostly a place on the disk, close
    /// to each other.
    pub inode: u32,
}

/// What lies in Queue.
#[derive(Default)]
pub struct Listing {
    /// Waiting messages.
    pub waiting: Vec<Seen>,
    /// Messages in somebody's hand.
    pub taken: Vec<(MessageId, NodeName)>,
    /// Every ULID with a message file, held ones too, but for those that are known to wait.
    pub alive: HashSet<Ulid>,
    /// ENV and transcripts, but of those: the highest life of each ULID.
    pub remains: HashMap<Ulid, u32>,
    /// TMP files and who was writing them.
    pub temporary: Vec<(PathBuf, NodeName)>,
    /// What proofs of the storage have made.
    pub probes: Vec<PathBuf>,
    /// What it has cost, on all processors together.
    pub work: Duration,
}

/// A claim across volumes that is between its two steps: `Pickup/.ID@NODE.EML`.
pub struct HalfClaim {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is to become.
    pub id: MessageId,
    /// Who made the first step.
    pub node: NodeName,
}

/// So many times are asked for by one thread in one go.
const AT_ONCE: usize = 256;

/// Of so many nodes at a time, and so many …
const MOST_NODES: usize = 64;
const MOST_HALF_CLAIMS: usize = 10_000;
/// … of no later life than this: each life of a message is a name to look for.
const LATEST_LIFE: u32 = 100;

impl HalfClaim {
    /// Those that lie in `pickup`. When it cannot be listed nobody may think that there are none: a copy in Queue would
    /// be sent that can be claimed again.
    ///
    /// Everyone may make such names. What is no file of one name is passed over, and of very many only some are
    /// looked at: those that are finished make room for the next.
    pub fn all(pickup: &Path) -> Result<Vec<Self>, DiskError> {
        let cannot = || DiskError::when("list", pickup);
        let entries = hanging::read_dir(pickup).map_err(cannot())?;
        let mut nodes: HashSet<NodeName> = HashSet::new();
        let mut is_among_few = |node: &NodeName| {
            nodes.contains(node) || (nodes.len() < MOST_NODES && nodes.insert(node.clone()))
        };
        let mut half_claim = |entry: DirEntry| {
            let name = entry.file_name();
            let hidden = name.to_str()?.strip_prefix('.')?;
            let QueueName::Taken(id, node) = QueueName::parse(hidden.as_ref())? else {
                return None;
            };
            let path = entry.path();
            let is_message = id.life <= LATEST_LIFE && matches!(strange(&path), Ok(None));
            (is_message && is_among_few(&node)).then_some(Self { path, id, node })
        };
        entries
            .filter_map(|entry| entry.map_err(cannot()).map(&mut half_claim).transpose())
            .take(MOST_HALF_CLAIMS)
            .collect()
    }
}

impl Listing {
    /// Lists Queue. What does not bear a name of ours is passed over. Of whom `is_known` says that it waits nothing
    /// else is noted. The times of many are asked for by many threads, those of the rayon pool that this is called in,
    /// while the listing goes on.
    pub fn of(queue: &OpenFolder, is_known: impl Fn(Ulid) -> bool + Send + Sync) -> Result<Self, DiskError> {
        let looks = Mutex::new((Vec::new(), Duration::ZERO));
        let look_at_some = |some: Vec<(MessageId, u32)>| {
            let since = Effort::begin();
            let look = |(id, inode): &(MessageId, u32)| look_at(queue, *id, *inode);
            let seen: Vec<Seen> = some.iter().filter_map(look).collect();
            let (all, work) = &mut *lock(&looks);
            all.extend(seen);
            *work += since.end().work;
        };
        let mut listing = rayon::scope(|scope| {
            let since = Effort::begin();
            let mut listing = Self::default();
            let mut waiting = Vec::new();
            let cannot = || DiskError::when("list", queue.path());
            for entry in hanging::read_dir(queue.path()).map_err(cannot())? {
                let entry = entry.map_err(cannot())?;
                if let Some(id) = listing.note(&entry, &is_known) {
                    waiting.push((id, (entry.ino() & u64::from(u32::MAX)) as u32));
                }
                if waiting.len() == AT_ONCE {
                    let some = std::mem::take(&mut waiting);
                    scope.spawn(|_| look_at_some(some));
                }
            }
            listing.work = since.end().work;
            look_at_some(waiting);
            Ok(listing)
        })?;
        let (waiting, work) = looks.into_inner().unwrap_or_else(PoisonError::into_inner);
        listing.waiting = waiting;
        listing.work += work;
        Ok(listing)
    }

    /// Sorts one name in; gives the message that waits under it.
    fn note(&mut self, entry: &DirEntry, is_known: impl Fn(Ulid) -> bool) -> Option<MessageId> {
        let name = entry.file_name();
        let Some(name) = QueueName::parse(&name) else {
            if is_probe(&name) {
                self.probes.push(entry.path());
            }
            return None;
        };
        let waiting = match &name {
            QueueName::Waiting(id) => Some(*id),
            _ => None,
        };
        self.sort_in(name, entry, is_known);
        waiting
    }

    fn sort_in(&mut self, name: QueueName, entry: &DirEntry, is_known: impl Fn(Ulid) -> bool) {
        match name {
            QueueName::Waiting(id)
            | QueueName::Env(id)
            | QueueName::LocalTranscript(id)
            | QueueName::RemoteTranscript(id)
                if is_known(id.ulid) => {}
            QueueName::Waiting(id) | QueueName::Held(id) => {
                self.alive.insert(id.ulid);
            }
            QueueName::Taken(id, node) => {
                self.alive.insert(id.ulid);
                self.taken.push((id, node));
            }
            QueueName::Env(id) | QueueName::LocalTranscript(id) | QueueName::RemoteTranscript(id) => {
                let life = self.remains.entry(id.ulid).or_insert(0);
                *life = id.life.max(*life);
            }
            QueueName::Temporary(node) => self.temporary.push((entry.path(), node)),
        }
    }
}

fn look_at(queue: &OpenFolder, id: MessageId, inode: u32) -> Option<Seen> {
    let time = queue.mtime_nanos(&format!("{id}.EML")).ok()?;
    Some(Seen {
        ulid: id.ulid,
        file_time: nanos(time),
        life: id.life,
        inode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_are_known_to_wait_only_the_message_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let [known, new] = [0, 1].map(|_| MessageId::generate());
        for id in [known, new] {
            for extension in ["EML", "ENV", "LTR"] {
                std::fs::write(folder.path().join(format!("{id}.{extension}")), "").unwrap();
            }
        }
        let probe = crate::mailroot::probe::storage::Names::new().next();
        std::fs::write(folder.path().join(&probe), "").unwrap();
        let queue = OpenFolder::open(folder.path()).unwrap();
        let listing = Listing::of(&queue, |ulid| ulid == known.ulid).unwrap();
        assert_eq!(listing.waiting.len(), 2);
        assert_eq!(listing.probes, [folder.path().join(probe)]);
        assert_eq!(listing.alive, HashSet::from([new.ulid]));
        assert_eq!(listing.remains, HashMap::from([(new.ulid, 0)]));
    }

    #[test]
    fn a_million_waiting_messages_take_little_memory() {
        assert!(size_of::<Seen>() <= 32);
        assert!(size_of::<(Ulid, super::super::waiting::Waiting)>() <= 48);
    }

    #[test]
    fn a_large_folder_is_listed_less_often_and_a_storage_that_hung_once_changes_nothing() {
        let (poll, large) = (Duration::from_secs(2), Duration::from_secs(3));
        let mut pace = Pace::default();
        let waited = |time, work| Effort { time, work };
        let hung = waited(large, Duration::ZERO);
        assert_eq!(pace.after(hung, 20, poll), poll, "one says nothing");
        assert_eq!(pace.after(hung, 20, poll), Duration::from_secs(60));
        let mut pace = Pace::default();
        let worked = waited(large, Duration::from_secs(1));
        assert_eq!(
            pace.after(worked, 20, poll),
            Duration::from_secs(20),
            "work is no hanging"
        );
        let mut pace = Pace::default();
        for took in [0, 60, 0, 0] {
            let hung = waited(Duration::from_secs(took), Duration::ZERO);
            assert_eq!(pace.after(hung, 20, poll), poll, "{took} s");
        }
    }

    #[test]
    fn a_huge_folder_is_listed_seldom_where_notifications_tell_what_comes_in() {
        let (poll, seconds) = (Duration::from_secs(2), Duration::from_secs);
        for (took, is_told, lost, told) in [
            (seconds(0), true, poll, poll),
            (Duration::from_millis(50), true, poll, poll),
            (seconds(2), true, seconds(4), seconds(40)),
            (seconds(2), false, seconds(4), seconds(4)),
            (seconds(5), true, seconds(10), REST),
            (seconds(50), true, seconds(100), seconds(100)),
        ] {
            assert_eq!(rests(took, poll, is_told), (lost, told), "{took:?}");
        }
    }
}
