//! Replacing a file by rename while others read it, and handing a record over with the message it belongs to.
//!
//! Writes: see [`super::storage`]. Thread: the caller's writes, one per reader.

use super::race::{Size, within};
use super::storage::{Litter, Names, Storage};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What readers of a file saw while it was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// How often it was replaced.
    pub replaced: usize,
    /// How often it was read.
    pub reads: usize,
    /// Errors at the first look (contract §6: a reader looks again).
    pub gaps: BTreeMap<String, usize>,
    /// There was nothing, also after several looks.
    pub nothing: usize,
    /// It could not be read, also after several looks; what is not read is not believed to be missing.
    pub unreadable: usize,
    /// Neither the old nor the new content, but parts.
    pub mixed: usize,
    /// An older content after a newer one.
    pub backward: usize,
    /// A reader that never saw the last content.
    pub outdated: usize,
}

/// The record of a message after another node has taken it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handover {
    /// How often the message changed hands.
    pub rounds: usize,
    /// The taker read an older record than the giver had written before.
    pub old: usize,
    /// The taker found no record, also after several looks.
    pub nothing: usize,
    /// The taker could not read the record, also after several looks: the message waits.
    pub unreadable: usize,
    /// The taker could not take the message.
    pub refused: usize,
    /// Errors at the first look.
    pub gaps: BTreeMap<String, usize>,
    /// The longest time until the taker had it, in milliseconds.
    pub slowest: u128,
}

/// Pauses before a look is repeated.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(1000), // mounts remember names for a second
];
/// All those pauses, and some time to read.
const LOOKED: Duration = Duration::from_secs(3);
/// How long a renamed file may take to be seen by who takes it.
const TAKEN: Duration = Duration::from_secs(5);
/// The writer goes on.
const NOT_YET: usize = usize::MAX;
/// A content of this many lines: more than a page, as most ENV files.
const LINES: usize = 600;

/// Replaces a file again and again while readers open it. The first folder is the writer's; each has a reader.
/// Every content is one line many times, so that a mixture shows.
pub fn replaced(storage: &dyn Storage, folders: &[PathBuf], names: &Names, size: Size) -> io::Result<Reads> {
    let Some(ours) = folders.first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut litter = Litter::new(storage);
    let name = names.next();
    let target = litter.path(ours.join(&name));
    storage.create_new(&target, &content(0))?;
    let signs = Signs {
        last: AtomicUsize::new(NOT_YET),
        ready: AtomicUsize::new(0),
        looking_again: AtomicUsize::new(0),
        found_nothing: AtomicUsize::new(0),
    };
    let mut sum = Reads::default();
    let mut written = Ok(());
    std::thread::scope(|scope| {
        let spawn = |folder: &PathBuf| {
            let path = folder.join(&name);
            let signs = &signs;
            std::thread::Builder::new()
                .name("probe".into())
                .spawn_scoped(scope, move || read_on(storage, &path, signs, size.settle))
        };
        let readers: Vec<_> = folders.iter().map(spawn).collect();
        let running = readers.iter().filter(|reader| reader.is_ok()).count();
        within(size.settle, || signs.ready.load(Ordering::Acquire) >= running);
        let begun = Instant::now();
        while written.is_ok() && sum.replaced < size.files && begun.elapsed() < size.time {
            // Whoever looks again meets the replacement that hid the file from it, and no other.
            within(LOOKED, || signs.looking_again.load(Ordering::Acquire) == 0);
            if signs.found_nothing.load(Ordering::Acquire) > 0 {
                break;
            }
            let tmp = litter.path(ours.join(names.next()));
            sum.replaced += 1;
            written = storage
                .create_new(&tmp, &content(sum.replaced))
                .and_then(|()| storage.rename(&tmp, &target));
        }
        let final_one = if written.is_ok() { sum.replaced } else { 0 };
        signs.last.store(final_one, Ordering::Release);
        for reader in readers {
            if let Ok(Ok((reads, newest))) = reader.map(|reader| reader.join()) {
                sum.add(reads);
                sum.outdated += usize::from(written.is_ok() && newest != Some(sum.replaced));
            }
        }
    });
    written.map(|()| sum)
}

impl Reads {
    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.nothing += other.nothing;
        self.unreadable += other.unreadable;
        self.mixed += other.mixed;
        self.backward += other.backward;
        for (error, count) in other.gaps {
            *self.gaps.entry(error).or_default() += count;
        }
    }
}

/// What readers and writer tell each other.
struct Signs {
    /// The last content, once it is written.
    last: AtomicUsize,
    /// Readers that have begun.
    ready: AtomicUsize,
    /// Readers that found nothing and look again.
    looking_again: AtomicUsize,
    /// Readers that found nothing however often they looked: there is no more to show.
    found_nothing: AtomicUsize,
}

/// One reader; also the newest content that it saw.
fn read_on(storage: &dyn Storage, path: &Path, signs: &Signs, settle: Duration) -> (Reads, Option<usize>) {
    let mut reads = Reads::default();
    let mut newest = None;
    let mut end = None;
    loop {
        let last = signs.last.load(Ordering::Acquire);
        match read_again(storage, path, &mut reads.gaps, &signs.looking_again) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                reads.nothing += 1;
                signs.found_nothing.fetch_add(1, Ordering::Release);
            }
            Err(_) => reads.unreadable += 1,
            Ok(bytes) => match version(&bytes) {
                None => reads.mixed += 1,
                Some(seen) => {
                    reads.backward += usize::from(newest.is_some_and(|newest| seen < newest));
                    newest = newest.max(Some(seen));
                }
            },
        }
        if reads.reads == 0 {
            signs.ready.fetch_add(1, Ordering::Release);
        }
        reads.reads += 1;
        if last != NOT_YET {
            let end = *end.get_or_insert_with(Instant::now);
            if newest >= Some(last) || end.elapsed() > settle || reads.nothing > 0 {
                return (reads, newest);
            }
            if end.elapsed() > Duration::from_millis(20) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Reads, and looks again when there is nothing.
fn read_again(
    storage: &dyn Storage,
    path: &Path,
    gaps: &mut BTreeMap<String, usize>,
    looking_again: &AtomicUsize,
) -> io::Result<Vec<u8>> {
    let mut first = None;
    let mut last = Err(io::ErrorKind::NotFound.into());
    for pause in std::iter::once(Duration::ZERO).chain(AGAIN) {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        last = storage.read(path);
        match &last {
            Ok(_) => break,
            Err(error) if first.is_none() => {
                first = Some(error.to_string());
                looking_again.fetch_add(1, Ordering::Release);
            }
            Err(_) => {}
        }
    }
    if let Some(error) = first {
        looking_again.fetch_sub(1, Ordering::Release);
        *gaps.entry(error).or_default() += 1;
    }
    last
}

fn content(version: usize) -> Vec<u8> {
    format!("{version:08}\n").repeat(LINES).into_bytes()
}

/// Which content this is; `None` when it is not one, whole.
fn version(bytes: &[u8]) -> Option<usize> {
    let version = std::str::from_utf8(bytes.get(..8)?).ok()?.parse().ok()?;
    (bytes == content(version).as_slice()).then_some(version)
}

/// One message changes hands between two views, again and again: who has it records, releases; the other takes it and
/// reads the record. What it reads decides who gets the message once more.
pub fn handed_over(
    storage: &dyn Storage,
    folders: &[PathBuf; 2],
    names: &Names,
    rounds: usize,
    time: Duration,
) -> io::Result<Handover> {
    let [ours, theirs] = folders;
    let mut litter = Litter::new(storage);
    let (record, free) = (names.next(), names.next());
    let taken = [names.next(), names.next()];
    for name in [&record, &free].into_iter().chain(&taken) {
        litter.path(ours.join(name));
    }
    let [mine, yours] = &taken;
    storage.create_new(&ours.join(mine), b"")?;
    let mut sum = Handover::default();
    let begun = Instant::now();
    let mut hands = [(ours, mine), (theirs, yours)];
    while sum.rounds < rounds && begun.elapsed() < time {
        sum.rounds += 1;
        let [(giver, has), (taker, gets)] = hands;
        let tmp = litter.path(ours.join(names.next()));
        let tmp = giver.join(tmp.file_name().unwrap_or_default());
        storage.create_new(&tmp, &content(sum.rounds))?;
        storage.rename(&tmp, &giver.join(&record))?;
        storage.rename_new(&giver.join(has), &giver.join(&free))?;
        let released = Instant::now();
        let (from, to) = (taker.join(&free), taker.join(gets));
        let there = |path: &Path| storage.is_there(path).ok();
        let takes = || {
            storage.rename_new(&from, &to).is_ok() || (there(&from), there(&to)) == (Some(false), Some(true))
        };
        if !within(TAKEN, takes) {
            sum.refused += 1;
            break;
        }
        sum.slowest = sum.slowest.max(released.elapsed().as_millis());
        match read_again(storage, &taker.join(&record), &mut sum.gaps, &AtomicUsize::new(0)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => sum.nothing += 1,
            Err(_) => sum.unreadable += 1,
            Ok(bytes) => sum.old += usize::from(version(&bytes) != Some(sum.rounds)),
        }
        hands.reverse();
    }
    Ok(sum)
}
