//! Proofs of the storage: what the engine relies on (contract §3 and §6) is tried in the folders themselves.
//!
//! A proof is a value: which question was asked of which folder, through one mount or two, what was seen, and – by
//! [`means`] – what that is worth to one process, to several, and after a power cut. Nothing is believed of a storage
//! because of its name. In reading order: [`storage`] (what is asked of it), [`race`], [`replace`], [`single`],
//! [`peer`], [`kind`], [`means`]; this file makes the list.
//!
//! Writes: files with names that nobody takes for a message, and removes them. Thread: each question has one of its
//! own and a limit of time: storage may hang. Not here: words (`cli::check`, `cli::service`).

pub mod kind;
pub mod means;
pub mod peer;
pub mod race;
pub mod replace;
pub mod single;
pub mod storage;
#[cfg(test)]
mod tests;

pub use kind::{Kind, Sort};
pub use means::{Meaning, Means};
pub use peer::Visible;
pub use race::Tally;
pub use replace::{Handover, Reads};
pub use single::{Locking, Stamps, Syncs, lease, writing};
pub use storage::{Real, Storage};

use crate::config::Folders;
use race::{Course, Size};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::Names;

/// What is asked of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// Whether one rename from Pickup (into Queue, or inside Pickup when Queue is elsewhere) decides between racers.
    ClaimFromPickup,
    /// Whether one rename inside Queue decides between racers.
    ClaimInQueue,
    /// Whether making a file that must not be there excludes others.
    Create,
    /// Whether a file replaced by rename is read old or new, and whole.
    Replace,
    /// Whether who takes a message reads the record that was written before it was released.
    HandOver,
    /// Whether a rename can be told to replace nothing.
    KeepExisting,
    /// What an advisory lock does.
    Lock,
    /// Whether a file renamed into Pickup is told of.
    Notify,
    /// Whether files and folders are synced when asked.
    Sync,
    /// The storage's clock beside ours.
    Stamp,
    /// Whether names that differ in case only are one.
    Case,
    /// When one mount sees what was done through another.
    See,
}

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// A race of renames or of creations.
    Raced(Tally),
    /// Readers beside a writer.
    Read(Reads),
    /// A message that changed hands.
    HandedOver(Handover),
    /// `Some(true)`: known; `Some(false)`: not known; `None`: it is said to be known and is not kept.
    Keeps(Option<bool>),
    /// What the second lock came to.
    Locked(Locking),
    /// After how long it was told; `None`: not at all.
    Told(Option<Duration>),
    /// How long it took.
    Synced(Syncs),
    /// Time stamps.
    Stamped(Stamps),
    /// Whether case is ignored.
    Folds(bool),
    /// What was seen when.
    Visible(Visible),
    /// It could not be tried.
    Failed(String),
    /// No answer in time.
    Hangs(Duration),
}

/// One question, asked and answered.
#[derive(Debug)]
pub struct Proof {
    /// What was asked.
    pub question: Question,
    /// Of which folder.
    pub folder: &'static str,
    /// With half of those who took part coming through the other mount.
    pub through_peer: bool,
    /// What was seen.
    pub seen: Seen,
}

/// Where the proofs are made.
pub struct Ground {
    /// The storage, or one that plays its part.
    pub storage: Arc<dyn Storage>,
    /// The folders as we find them.
    pub folders: Folders,
    /// The same folders through another mount.
    pub peer: Option<Folders>,
    /// `cluster.lease`: what takes longer to be seen is as good as never seen.
    pub lease: Duration,
    /// Whether a question has hung already.
    pub hung: AtomicBool,
}

/// No question may take longer; what needs several leases gets them on top.
const PATIENCE: Duration = Duration::from_secs(30);
/// The questions at the start of a service may not keep it longer.
const QUICK_PATIENCE: Duration = Duration::from_secs(10);
/// Once a question hung, the others get no more.
const LITTLE_PATIENCE: Duration = Duration::from_secs(2);
/// What a file that others may remove shows is not believed at first sight.
const TRIES: usize = 3;

const FULL: Size = Size {
    racers: 4,
    files: 100,
    row: 25,
    time: Duration::from_secs(3),
    settle: Duration::from_secs(3),
};
const FULL_REPLACE: Size = Size { files: 200, ..FULL };
/// A start on a network file system may take a second longer by this, not ten.
const QUICK: Size = Size {
    racers: 2,
    files: 8,
    row: 8,
    time: Duration::from_secs(1),
    settle: Duration::from_millis(300),
};
/// Where the kernel alone answers for a file system that everybody uses, a broken rename would be known; what is left
/// to find is a layer in between (a preloaded library, a container's), and that shows at once.
const GLANCE: Size = Size {
    racers: 2,
    files: 4,
    row: 4,
    ..QUICK
};

impl Ground {
    /// Asks everything, and tells each answer as it comes.
    pub fn prove(&self, tell: &mut dyn FnMut(Proof)) {
        self.decisions(false, FULL, PATIENCE, tell);
        for (name, folder) in [
            ("Queue", &self.folders.queue),
            ("Drop", &self.folders.drop),
            ("Badmail", &self.folders.badmail),
        ] {
            tell(self.replacing(name, vec![folder.clone()], FULL_REPLACE, PATIENCE));
        }
        let queue = self.folders.queue.clone();
        tell(
            self.ask(Question::KeepExisting, "Queue", false, PATIENCE, move |_| {
                single::keeps_existing(&queue, &Names::new()).map(Seen::Keeps)
            }),
        );
        self.single_ones(tell);
    }

    /// Asks what two mounts of one mailroot must do for each other. The answer to the first question is whether they
    /// are two mounts of one mailroot; if not, nothing more is asked and the answer is `false`.
    pub fn prove_through_peer(&self, tell: &mut dyn FnMut(Proof)) -> bool {
        let Some(peer) = &self.peer else { return false };
        let queues = [self.folders.queue.clone(), peer.queue.clone()];
        let both = queues.clone();
        let patience = self.lease.max(Duration::from_secs(10));
        let same = bounded(PATIENCE + patience, {
            let storage = Arc::clone(&self.storage);
            move || peer::is_same(&*storage, &both, &Names::new(), patience)
        });
        if !matches!(same, Some(Ok(true))) {
            return false;
        }
        let lease = self.lease;
        let (both, more) = (queues.clone(), lease * 4);
        tell(
            self.ask(Question::See, "Queue", true, PATIENCE + more, move |storage| {
                peer::visible(storage, &both, &Names::new(), lease + Duration::from_secs(1))
                    .map(Seen::Visible)
            }),
        );
        self.decisions(true, FULL, PATIENCE * 2, tell);
        for (name, folders) in [
            ("Queue", queues.to_vec()),
            ("Drop", vec![self.folders.drop.clone(), peer.drop.clone()]),
        ] {
            tell(self.replacing(name, folders, FULL_REPLACE, PATIENCE));
        }
        tell(
            self.ask(Question::HandOver, "Queue", true, PATIENCE * 2, move |storage| {
                let hand =
                    || replace::handed_over(storage, &queues, &Names::new(), 40, Duration::from_secs(10));
                again(hand, |seen| seen.nothing + seen.refused > 0).map(Seen::HandedOver)
            }),
        );
        self.locks(Some(&peer.status), tell);
        let (watched, by) = (peer.pickup.clone(), self.folders.pickup.clone());
        tell(self.ask(Question::Notify, "Pickup", true, PATIENCE, move |_| {
            let told = single::notified(&watched, &by, Duration::from_secs(2));
            told.map(Seen::Told).map_err(io::Error::other)
        }));
        true
    }

    /// What decides who has a message.
    fn decisions(&self, through_peer: bool, size: Size, patience: Duration, tell: &mut dyn FnMut(Proof)) {
        let views = || {
            let peer = self.peer.iter().filter(move |_| through_peer);
            std::iter::once(&self.folders).chain(peer)
        };
        let course = |from: &PathBuf, to: &PathBuf| Course {
            from: from.clone(),
            to: to.clone(),
        };
        let into_queue: Vec<Course> = views()
            .map(|folders| course(&folders.pickup, &folders.queue))
            .collect();
        let in_pickup: Vec<Course> = views()
            .map(|folders| course(&folders.pickup, &folders.pickup))
            .collect();
        tell(self.ask(
            Question::ClaimFromPickup,
            "Pickup",
            through_peer,
            patience,
            move |storage| {
                let race = |courses: &[Course]| {
                    again(
                        || race::renames(storage, courses, &Names::new(), size, false),
                        |tally| tally.vanished > 0,
                    )
                };
                let tally = race(&into_queue)?;
                if !tally.other_volume {
                    return Ok(Seen::Raced(tally));
                }
                // As a claim across volumes: the rename that decides happens inside Pickup.
                let inside = race(&in_pickup)?;
                Ok(Seen::Raced(Tally {
                    other_volume: true,
                    ..inside
                }))
            },
        ));
        let in_queue: Vec<Course> = views()
            .map(|folders| course(&folders.queue, &folders.queue))
            .collect();
        let queues: Vec<PathBuf> = views().map(|folders| folders.queue.clone()).collect();
        tell(self.ask(
            Question::ClaimInQueue,
            "Queue",
            through_peer,
            patience,
            move |storage| {
                let race = || race::renames(storage, &in_queue, &Names::new(), size, true);
                again(race, |tally| tally.vanished > 0).map(Seen::Raced)
            },
        ));
        tell(self.ask(
            Question::Create,
            "Queue",
            through_peer,
            patience,
            move |storage| {
                let race = || race::creations(storage, &queues, &Names::new(), size);
                again(race, |tally| tally.vanished + tally.doubled + tally.lies > 0).map(Seen::Raced)
            },
        ));
    }

    fn replacing(&self, name: &'static str, folders: Vec<PathBuf>, size: Size, patience: Duration) -> Proof {
        let through_peer = folders.len() > 1;
        self.ask(Question::Replace, name, through_peer, patience, move |storage| {
            let read = || replace::replaced(storage, &folders, &Names::new(), size);
            again(read, |reads| reads.nothing + reads.outdated > 0).map(Seen::Read)
        })
    }

    fn single_ones(&self, tell: &mut dyn FnMut(Proof)) {
        self.locks(None, tell);
        let pickup = self.folders.pickup.clone();
        tell(self.ask(Question::Notify, "Pickup", false, PATIENCE, move |_| {
            let told = single::notified(&pickup, &pickup, Duration::from_secs(2));
            told.map(Seen::Told).map_err(io::Error::other)
        }));
        let queue = self.folders.queue.clone();
        tell(self.ask(Question::Sync, "Queue", false, PATIENCE, move |_| {
            single::writing(&queue)
                .map(Seen::Synced)
                .map_err(io::Error::other)
        }));
        let pickup = self.folders.pickup.clone();
        tell(self.ask(Question::Stamp, "Pickup", false, PATIENCE, move |_| {
            single::stamps(&pickup)
                .map(Seen::Stamped)
                .map_err(io::Error::other)
        }));
        let pickup = self.folders.pickup.clone();
        tell(self.ask(Question::Case, "Pickup", false, PATIENCE, move |_| {
            let folds = single::case_is_folded(&pickup);
            folds.map(Seen::Folds).map_err(io::Error::other)
        }));
    }

    fn locks(&self, peer: Option<&Path>, tell: &mut dyn FnMut(Proof)) {
        let ours = self.folders.status.clone();
        let theirs = peer.unwrap_or(&ours).to_owned();
        // What a lock hangs in, hangs for ever.
        let patience = Duration::from_secs(10);
        tell(
            self.ask(Question::Lock, "Status", peer.is_some(), patience, move |_| {
                let locking = single::locking(&ours, &theirs);
                locking.map(Seen::Locked).map_err(io::Error::other)
            }),
        );
    }

    /// One question on a thread of its own.
    fn ask(
        &self,
        question: Question,
        folder: &'static str,
        through_peer: bool,
        patience: Duration,
        answer: impl FnOnce(&dyn Storage) -> io::Result<Seen> + Send + 'static,
    ) -> Proof {
        let storage = Arc::clone(&self.storage);
        let patience = if self.hung.load(Ordering::Relaxed) {
            patience.min(LITTLE_PATIENCE)
        } else {
            patience
        };
        let seen = match bounded(patience, move || answer(&*storage)) {
            Some(Ok(seen)) => seen,
            Some(Err(error)) => Seen::Failed(error.to_string()),
            None => {
                // A lock that hangs says nothing about the rest.
                self.hung.fetch_or(question != Question::Lock, Ordering::Relaxed);
                Seen::Hangs(patience)
            }
        };
        Proof {
            question,
            folder,
            through_peer,
            seen,
        }
    }
}

/// The short form, for the start of a service: only what decides who has a message and whether records are whole.
///
/// The first answer that rules out a start, if there is one. Trouble of the disk is none: a full disk or one that does
/// not answer is the engine's daily bread, and says nothing about what the storage guarantees.
pub fn what_forbids_a_start(storage: Arc<dyn Storage>, folders: &Folders) -> Option<Proof> {
    let well_known = [&folders.queue, &folders.pickup]
        .iter()
        .all(|folder| kind::is_well_known(folder));
    let size = if well_known { GLANCE } else { QUICK };
    let ground = Ground {
        storage,
        folders: folders.clone(),
        peer: None,
        lease: Duration::ZERO,
        hung: AtomicBool::new(false),
    };
    let mut proofs = Vec::new();
    ground.decisions(false, size, QUICK_PATIENCE, &mut |proof| proofs.push(proof));
    let device = |folder: &Path| folder.metadata().ok().map(|meta| meta.dev());
    let mut asked = Vec::new();
    for (name, folder) in [
        ("Queue", &folders.queue),
        ("Drop", &folders.drop),
        ("Badmail", &folders.badmail),
    ] {
        let device = device(folder);
        let forbidden = proofs.iter().any(Proof::forbids_a_start);
        if !forbidden && !asked.contains(&device) && !ground.hung.load(Ordering::Relaxed) {
            asked.push(device);
            proofs.push(ground.replacing(name, vec![folder.clone()], size, QUICK_PATIENCE));
        }
    }
    proofs.into_iter().find(Proof::forbids_a_start)
}

/// Asks again when the answer may be somebody else's doing: to whoever tidies up our files are worthless. What three
/// runs in a row show is the storage's.
fn again<T>(mut ask: impl FnMut() -> io::Result<T>, doubtful: impl Fn(&T) -> bool) -> io::Result<T> {
    let mut last = ask();
    for _ in 1..TRIES {
        match &last {
            Ok(seen) if doubtful(seen) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
        last = ask();
    }
    last
}

/// What `f` says, unless it takes too long: storage that hangs must not hang us. Its thread is then left behind.
pub fn bounded<T: Send + 'static>(patience: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let body = move || {
        let _ = sender.send(f());
    };
    std::thread::Builder::new()
        .name("probe".into())
        .spawn(body)
        .ok()?;
    receiver.recv_timeout(patience).ok()
}
