//! Proofs on storage that does what it should, and on storage that lies.

use super::*;
use crate::config::Config;
use crate::mailroot::leftovers::is_probe;
use crate::mailroot::{NodeName, tree};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

/// What a storage does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    /// A rename leaves the old name, too: everybody gets the file.
    Copies,
    /// A rename of what is gone says that it worked.
    SaysDone,
    /// A rename loses the file.
    Loses,
    /// A rename that worked reports an error.
    ReportsError,
    /// No rename works.
    Refuses,
    /// A new file replaces an old one.
    Overwrites,
    /// A replaced file is written over, part by part.
    InPlace,
    /// A file that is replaced is missing for so many milliseconds.
    Gap(u64),
    /// What was read once through the other mount is read for ever.
    Remembers,
    /// No rename comes back.
    Hangs,
}

struct Lying {
    lie: Lie,
    remembered: Mutex<HashMap<PathBuf, Vec<u8>>>,
}

impl Lying {
    fn storage(lie: Lie) -> Arc<dyn Storage> {
        Arc::new(Self {
            lie,
            remembered: Mutex::default(),
        })
    }
}

impl Storage for Lying {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.lie {
            Lie::Copies => std::fs::copy(from, to).map(drop),
            Lie::SaysDone => Real.rename(from, to).or(Ok(())),
            Lie::Loses => Real.remove(from),
            Lie::ReportsError => Real
                .rename(from, to)
                .and(Err(io::Error::from_raw_os_error(libc::EIO))),
            Lie::Refuses => Err(io::Error::from_raw_os_error(libc::EPERM)),
            Lie::InPlace if Real.is_there(to)? => {
                let bytes = Real.read(from)?;
                Real.rewrite(to, bytes.split_at(bytes.len() / 2).0)?;
                std::thread::sleep(Duration::from_millis(2));
                Real.rewrite(to, &bytes)?;
                Real.remove(from)
            }
            Lie::Gap(millis) if Real.is_there(to)? => {
                Real.remove(to)?;
                std::thread::sleep(Duration::from_millis(millis));
                Real.rename(from, to)
            }
            Lie::Hangs => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => Real.rename(from, to),
        }
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)
    }
    fn create_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.lie == Lie::Overwrites {
            std::fs::write(path, bytes)
        } else {
            Real.create_new(path, bytes)
        }
    }
    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        Real.rewrite(path, bytes)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = Real.read(path)?;
        if self.lie == Lie::Remembers && path.components().any(|part| part.as_os_str() == "peer") {
            let mut remembered = self.remembered.lock().unwrap();
            return Ok(remembered.entry(path.to_owned()).or_insert(bytes).clone());
        }
        Ok(bytes)
    }
    fn is_there(&self, path: &Path) -> io::Result<bool> {
        Real.is_there(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Real.remove(path)
    }
}

/// A mailroot at `dir/m`, also to be found as `dir/peer`.
fn made() -> (tempfile::TempDir, Folders, Folders) {
    let dir = tempfile::tempdir().unwrap();
    let folders = |name: &str| {
        Config::parse("", &dir.path().join(name), "h.example")
            .unwrap()
            .folders
    };
    let (ours, theirs) = (folders("m"), folders("peer"));
    tree::make(&ours).unwrap();
    std::os::unix::fs::symlink(dir.path().join("m"), dir.path().join("peer")).unwrap();
    (dir, ours, theirs)
}

fn ground(storage: Arc<dyn Storage>, folders: &Folders, peer: Option<&Folders>) -> Ground {
    Ground {
        storage,
        folders: folders.clone(),
        peer: peer.cloned(),
        lease: Duration::from_millis(400),
        hung: AtomicBool::new(false),
    }
}

fn means(proof: &Proof) -> Meaning {
    proof.means(Duration::from_millis(100), Duration::from_millis(400))
}

fn files_left(folders: &Folders) -> usize {
    let files = |folder: tree::Folder<'_>| std::fs::read_dir(folder.path).unwrap().count();
    tree::folders(folders).into_iter().map(files).sum()
}

#[test]
fn a_plain_folder_does_it_all_and_is_left_empty() {
    let (_dir, folders, peer) = made();
    let ground = ground(Arc::new(Real), &folders, Some(&peer));
    let mut proofs = Vec::new();
    ground.prove(&mut |proof| proofs.push(proof));
    assert!(ground.prove_through_peer(&mut |proof| proofs.push(proof)));
    for proof in &proofs {
        let Meaning { one, several, power } = means(proof);
        assert!(one.max(several).max(power) < Means::Missing, "{proof:?}");
        assert!(!proof.forbids_a_start(), "{proof:?}");
    }
    let asked = |question| proofs.iter().filter(|proof| proof.question == question).count();
    assert_eq!(asked(Question::ClaimInQueue), 2);
    assert_eq!(asked(Question::Replace), 5);
    assert_eq!(asked(Question::HandOver), 1);
    assert_eq!(asked(Question::See), 1);
    assert!(what_forbids_a_start(Arc::new(Real), &folders).is_none());
    assert_eq!(files_left(&folders), 0);
}

#[test]
fn a_storage_that_lies_is_caught_and_forbids_a_start() {
    for (lie, question, part) in [
        (Lie::Copies, Question::ClaimInQueue, "doubled"),
        (Lie::SaysDone, Question::ClaimFromPickup, "doubled"),
        (Lie::Loses, Question::ClaimInQueue, "vanished"),
        (Lie::Overwrites, Question::Create, "doubled"),
        (Lie::InPlace, Question::Replace, "mixed"),
        (Lie::Gap(1800), Question::Replace, "nothing"),
    ] {
        let (_dir, folders, _) = made();
        let ground = ground(Lying::storage(lie), &folders, None);
        let size = Size {
            racers: 2,
            files: 4,
            row: 4,
            ..QUICK
        };
        let mut proofs = Vec::new();
        match question {
            Question::Replace => {
                let queue = folders.queue.clone();
                proofs.push(ground.replacing("Queue", vec![queue], size, PATIENCE));
            }
            _ => ground.decisions(false, size, PATIENCE, &mut |proof| proofs.push(proof)),
        }
        let proof = proofs.iter().find(|proof| proof.question == question).unwrap();
        let wrong = match (&proof.seen, part) {
            (Seen::Raced(tally), "doubled") => tally.doubled,
            (Seen::Raced(tally), "vanished") => tally.vanished,
            (Seen::Read(reads), "mixed") => reads.mixed,
            (Seen::Read(reads), "nothing") => reads.nothing,
            _ => 0,
        };
        assert!(wrong > 0, "{lie:?}: {proof:?}");
        assert_eq!(means(proof).one, Means::Missing, "{lie:?}: {proof:?}");
        assert!(proof.forbids_a_start(), "{lie:?}: {proof:?}");
        assert!(
            what_forbids_a_start(Lying::storage(lie), &folders).is_some(),
            "{lie:?}"
        );
        assert_eq!(files_left(&folders), 0, "{lie:?}");
    }
}

#[test]
fn what_the_engine_can_live_with_forbids_nothing() {
    // An error that is not true: the names tell. A short gap: the second look tells.
    for lie in [Lie::ReportsError, Lie::Gap(3)] {
        let (_dir, folders, _) = made();
        let proof = what_forbids_a_start(Lying::storage(lie), &folders);
        assert!(proof.is_none(), "{lie:?}: {proof:?}");
        assert_eq!(files_left(&folders), 0, "{lie:?}");
    }
    let (_dir, folders, _) = made();
    let ground = ground(Lying::storage(Lie::Gap(3)), &folders, None);
    let size = Size { files: 20, ..FULL };
    let proof = ground.replacing("Queue", vec![folders.queue.clone()], size, PATIENCE);
    assert_eq!(means(&proof).several, Means::Weaker, "{proof:?}");
    assert!(
        matches!(&proof.seen, Seen::Read(reads) if !reads.gaps.is_empty()),
        "{proof:?}"
    );
}

#[test]
fn trouble_is_a_failure_of_a_check_and_forbids_no_start() {
    let (_dir, folders, _) = made();
    let mut proofs = Vec::new();
    let on_trouble = ground(Lying::storage(Lie::Refuses), &folders, None);
    on_trouble.decisions(false, GLANCE, PATIENCE, &mut |proof| proofs.push(proof));
    assert_eq!(means(&proofs[1]).one, Means::Missing, "{proofs:?}");
    assert!(what_forbids_a_start(Lying::storage(Lie::Refuses), &folders).is_none());

    proofs.clear();
    let begun = Instant::now();
    let hanging = ground(Lying::storage(Lie::Hangs), &folders, None);
    let patience = Duration::from_millis(50);
    hanging.decisions(false, GLANCE, patience, &mut |proof| proofs.push(proof));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(
        proofs[..2]
            .iter()
            .all(|proof| matches!(proof.seen, Seen::Hangs(_)) && !proof.forbids_a_start()),
        "{proofs:?}"
    );
    assert_eq!(means(&proofs[1]).several, Means::Missing);

    let (_dir, folders, _) = made();
    std::fs::remove_dir(&folders.queue).unwrap();
    assert!(what_forbids_a_start(Arc::new(Real), &folders).is_none());
}

#[test]
fn a_mount_that_remembers_is_caught() {
    let (_dir, folders, peer) = made();
    let ground = ground(Lying::storage(Lie::Remembers), &folders, Some(&peer));
    let mut proofs = Vec::new();
    assert!(ground.prove_through_peer(&mut |proof| proofs.push(proof)));
    let of = |question| proofs.iter().find(|proof| proof.question == question).unwrap();
    let handed = of(Question::HandOver);
    assert!(
        matches!(&handed.seen, Seen::HandedOver(seen) if seen.old > 0),
        "{handed:?}"
    );
    assert_eq!(means(handed).several, Means::Missing);
    let seen = of(Question::See);
    assert!(
        matches!(&seen.seen, Seen::Visible(seen) if seen.made.is_some() && seen.rewritten.is_none()),
        "{seen:?}"
    );
    assert_eq!(means(seen).several, Means::Missing);
    assert_eq!(files_left(&folders), 0);
}

#[test]
fn another_mailroot_is_no_peer() {
    let (_dir, folders, _) = made();
    let (_other, others, _) = made();
    let mut ground = ground(Arc::new(Real), &folders, Some(&others));
    ground.lease = Duration::ZERO;
    assert!(!ground.prove_through_peer(&mut |proof| panic!("{proof:?}")));
    assert_eq!(files_left(&folders), 0);
}

#[test]
fn what_a_killed_proof_left_goes_when_it_is_old_and_a_living_one_is_not_disturbed() {
    let (_dir, folders, _) = made();
    let spool = crate::mailroot::Spool::new(folders.clone(), NodeName::generate("h"));
    let names = Names::new();
    let left: Vec<PathBuf> = tree::folders(&folders)
        .iter()
        .map(|folder| folder.path.join(names.next()))
        .collect();
    let strange = folders.pickup.join(".WEB-AB12.1.TMP");
    for path in left.iter().chain([&strange]) {
        std::fs::write(path, "").unwrap();
    }
    spool.remove_temporaries(&|_| true);
    let in_queue: Vec<PathBuf> = left
        .iter()
        .filter(|path| path.parent() == Some(&folders.queue))
        .cloned()
        .collect();
    assert!(in_queue.iter().all(|path| is_probe(path.file_name().unwrap())) && in_queue.len() == 1);
    assert!(!is_probe(strange.file_name().unwrap()));
    spool.remove_old_probes(&in_queue);
    assert!(left.iter().all(|path| path.exists()), "a proof may be at work");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for path in left.iter().chain([&strange]) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    spool.remove_old_probes(&in_queue);
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(strange.exists(), "Pickup belongs to the applications");
}

#[test]
fn nobody_takes_the_files_for_messages() {
    let name = Names::new().next();
    assert_eq!(crate::mailroot::QueueName::parse(name.as_ref()), None);
    assert!(name.starts_with('.') && name.ends_with(".TMP"));
    let node = |host| NodeName::generate(host);
    assert!(NodeName::for_probe().is_probe() && !node("web-1").is_probe());
}

#[test]
fn a_missing_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("x");
    let error = writing(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot create {}/", missing.display())),
        "{error}"
    );
}

#[test]
fn what_hangs_is_left_behind() {
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    assert_eq!(
        bounded(Duration::from_millis(20), move || never.recv().is_ok()),
        None
    );
    assert_eq!(bounded(Duration::from_secs(60), || 7), Some(7));
}

#[test]
fn a_file_with_a_lease_is_seen_and_a_lock_is_kept() {
    let (_dir, folders, _) = made();
    assert!(matches!(
        lease(&folders.pickup).unwrap(),
        crate::mailroot::evidence::Writers::None | crate::mailroot::evidence::Writers::Unknown
    ));
    assert!(matches!(
        single::locking(&folders.status, &folders.status).unwrap(),
        Locking::Works
    ));
}
