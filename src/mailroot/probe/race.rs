//! Racers after the same names: whether one rename decides between them, and whether making a name excludes others.
//!
//! All racers run along the same row of files and wait for each other before each: they meet at it. Writes: see [`super::storage`]. Thread: one per racer.

use super::storage::{Litter, Names, Storage};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// From where to where one racer renames: through our mount, or through another one.
#[derive(Debug, Clone)]
pub struct Course {
    /// Where the files are.
    pub from: PathBuf,
    /// Where they go.
    pub to: PathBuf,
}

/// How long a race is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many run.
    pub racers: usize,
    /// Files raced for.
    pub files: usize,
    /// Files in one row.
    pub row: usize,
    /// No row begins after this.
    pub time: Duration,
    /// How long, after each row, the names may take until all who look see the same.
    pub settle: Duration,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that were raced for.
    pub files: usize,
    /// What each racer got.
    pub wins: Vec<usize>,
    /// More than one racer was told that it has the file.
    pub doubled: usize,
    /// Afterwards the names said something else than the racers were told.
    pub lies: usize,
    /// A racer was told of an error although it has the file; the names told the truth.
    pub mistold: usize,
    /// Nobody got it, and it is still there.
    pub refused: usize,
    /// It is gone altogether: somebody removed it meanwhile, or the storage lost it.
    pub vanished: usize,
    /// What losers were told, other than that the file is gone (or there already).
    pub errors: BTreeMap<String, usize>,
    /// The two folders are on different volumes: no rename leads there.
    pub other_volume: bool,
}

/// What one racer knows of one file.
#[derive(Debug, Clone)]
enum Told {
    Has,
    HasDespite(String),
    Not(Option<String>),
    OtherVolume,
}

/// Lets racers rename the same files, each to names of its own. Racer `n` takes course `n`, from the beginning again
/// where there are fewer. `new`: with the rename that claims in Queue make, which replaces nothing.
pub fn renames(
    storage: &dyn Storage,
    courses: &[Course],
    names: &Names,
    size: Size,
    new: bool,
) -> io::Result<Tally> {
    let mut tally = Tally::sized(size);
    let begun = Instant::now();
    while tally.files < size.files && (tally.files == 0 || begun.elapsed() < size.time) {
        let mut litter = Litter::new(storage);
        let mut row = Vec::new();
        for _ in 0..size.row.max(1) {
            row.push(RenameLane::prepare(storage, courses, names, size, &mut litter)?);
        }
        let told = chase(size.racers, row.len(), |racer, lane| match row.get(lane) {
            Some(lane) => lane.run(storage, racer, new),
            None => Told::Not(None),
        })?;
        let settled = Instant::now() + size.settle;
        for (at, lane) in row.iter().enumerate() {
            lane.judge(storage, &of_lane(&told, at), settled, &mut tally);
        }
        if tally.other_volume {
            break;
        }
    }
    Ok(tally)
}

/// Lets racers make the same names. The bytes of each file say who made it.
pub fn creations(storage: &dyn Storage, folders: &[PathBuf], names: &Names, size: Size) -> io::Result<Tally> {
    let Some(ours) = folders.first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut tally = Tally::sized(size);
    let begun = Instant::now();
    while tally.files < size.files && (tally.files == 0 || begun.elapsed() < size.time) {
        let mut litter = Litter::new(storage);
        let row: Vec<String> = (0..size.row.max(1)).map(|_| names.next()).collect();
        for name in &row {
            litter.path(ours.join(name));
        }
        let told = chase(size.racers, row.len(), |racer, lane| {
            let folder = folders.get(racer % folders.len()).unwrap_or(ours);
            let Some(name) = row.get(lane) else {
                return Told::Not(None);
            };
            match storage.create_new(&folder.join(name), racer.to_string().as_bytes()) {
                Ok(()) => Told::Has,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Told::Not(None),
                Err(error) => Told::Not(Some(error.to_string())),
            }
        })?;
        let settled = Instant::now() + size.settle;
        for (at, name) in row.iter().enumerate() {
            let path = ours.join(name);
            let holder = |who: usize| {
                within(settled.saturating_duration_since(Instant::now()), || {
                    storage
                        .read(&path)
                        .is_ok_and(|bytes| bytes == who.to_string().as_bytes())
                })
            };
            let is_there = || matches!(storage.is_there(&path), Ok(true));
            // A name can always be had.
            tally.add(&of_lane(&told, at), holder, || true, is_there);
        }
    }
    Ok(tally)
}

/// One file that is raced for, with the names it may get.
struct RenameLane {
    /// Per racer: from and to, as this racer finds them.
    ways: Vec<(PathBuf, PathBuf)>,
}

impl RenameLane {
    fn prepare<'a>(
        storage: &'a dyn Storage,
        courses: &[Course],
        names: &Names,
        size: Size,
        litter: &mut Litter<'a>,
    ) -> io::Result<Self> {
        let Some(ours) = courses.first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let source = names.next();
        let mut ways = Vec::new();
        for course in courses.iter().cycle().take(size.racers) {
            let target = names.next();
            litter.path(ours.to.join(&target));
            ways.push((course.from.join(&source), course.to.join(&target)));
        }
        storage.create_new(&litter.path(ours.from.join(&source)), b"")?;
        // Who does not see the file yet cannot race for it.
        for (from, _) in ways.iter().take(courses.len()).skip(1) {
            within(size.settle, || matches!(storage.is_there(from), Ok(true)));
        }
        Ok(Self { ways })
    }

    /// One racer's rename, and what it believes of it: an error counts as the engine counts it, by the two names.
    fn run(&self, storage: &dyn Storage, racer: usize, new: bool) -> Told {
        let Some((from, to)) = self.ways.get(racer) else {
            return Told::Not(None);
        };
        let renamed = if new {
            storage.rename_new(from, to)
        } else {
            storage.rename(from, to)
        };
        let Err(error) = renamed else { return Told::Has };
        if error.kind() == io::ErrorKind::CrossesDevices {
            return Told::OtherVolume;
        }
        let moved = matches!(storage.is_there(from), Ok(false)) && matches!(storage.is_there(to), Ok(true));
        if moved {
            Told::HasDespite(error.to_string())
        } else if error.kind() == io::ErrorKind::NotFound && !matches!(storage.is_there(from), Ok(true)) {
            Told::Not(None)
        } else {
            Told::Not(Some(error.to_string()))
        }
    }

    fn judge(&self, storage: &dyn Storage, told: &[Told], settled: Instant, tally: &mut Tally) {
        let there = |path: &PathBuf| matches!(storage.is_there(path), Ok(true));
        // Whoever has it sees it under the new name and no longer under the old one; the others may for a while see
        // the old one (a look can be old), but never get a name of their own.
        let holder = |who: usize| {
            within(settled.saturating_duration_since(Instant::now()), || {
                let mine = self
                    .ways
                    .get(who)
                    .is_some_and(|(from, to)| there(to) && !there(from));
                mine && !self
                    .ways
                    .iter()
                    .enumerate()
                    .any(|(other, (_, to))| other != who && there(to))
            })
        };
        let source = || self.ways.first().is_some_and(|(from, _)| there(from));
        let anything = || source() || self.ways.iter().any(|(_, to)| there(to));
        tally.add(told, holder, source, anything);
    }
}

impl Tally {
    fn sized(size: Size) -> Self {
        Self {
            wins: vec![0; size.racers],
            ..Self::default()
        }
    }

    /// One file. `holder`: whether the disk says that this racer has it; `source`: it is there to be had; `anything`:
    /// it is there under any name.
    fn add(
        &mut self,
        told: &[Told],
        holder: impl Fn(usize) -> bool,
        source: impl Fn() -> bool,
        anything: impl Fn() -> bool,
    ) {
        self.files += 1;
        for told in told {
            match told {
                Told::OtherVolume => self.other_volume = true,
                Told::HasDespite(error) | Told::Not(Some(error)) => {
                    *self.errors.entry(error.clone()).or_default() += 1;
                }
                Told::Has | Told::Not(None) => {}
            }
        }
        let has = |told: &Told| matches!(told, Told::Has | Told::HasDespite(_));
        let holders: Vec<usize> = (0..told.len())
            .filter(|racer| told.get(*racer).is_some_and(has))
            .collect();
        let despite = told.iter().any(|told| matches!(told, Told::HasDespite(_)));
        let failed = told.iter().any(|told| matches!(told, Told::Not(Some(_))));
        match holders.as_slice() {
            [] if self.other_volume => {}
            [] if failed && source() => self.refused += 1,
            [] if anything() => self.mistold += 1, // done, and nobody was told: found by the next listing
            [] => self.vanished += 1,
            [one] if holder(*one) => {
                self.mistold += usize::from(despite);
                if let Some(wins) = self.wins.get_mut(*one) {
                    *wins += 1;
                }
            }
            [_] if !anything() => self.vanished += 1,
            [_] => self.lies += 1,
            _ => self.doubled += 1,
        }
    }
}

impl Tally {
    /// Whether it was a race at all: where one racer was always first, nothing was decided.
    pub fn was_close(&self) -> bool {
        self.wins.iter().filter(|wins| **wins > 0).count() > 1
    }
}

/// What all racers were told of one file.
fn of_lane(told: &[Vec<Told>], lane: usize) -> Vec<Told> {
    told.iter().filter_map(|row| row.get(lane).cloned()).collect()
}

/// Looks again for a while, with growing pauses.
pub(super) fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if holds() {
            return true;
        }
        if begun.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Where racers wait for each other before every file, so that they meet at it also on a busy machine.
struct Gate {
    /// How many take part; 0 as long as not all are there to be counted.
    racers: AtomicUsize,
    arrived: AtomicUsize,
}

impl Gate {
    /// Waits until everybody has arrived so often. A racer whose storage hangs is not waited for: the file then tells
    /// nothing, and its question ends by its limit of time.
    fn pass(&self, times: usize) {
        const BRISK: Duration = Duration::from_millis(5);
        const PATIENCE: Duration = Duration::from_secs(5);
        let begun = Instant::now();
        loop {
            let racers = self.racers.load(Ordering::Acquire);
            if racers > 0 && self.arrived.load(Ordering::Acquire) >= racers * times {
                return;
            }
            match begun.elapsed() {
                waited if waited < BRISK => std::thread::yield_now(),
                waited if waited < PATIENCE => std::thread::sleep(Duration::from_micros(200)),
                _ => return,
            }
        }
    }
}

/// Runs every racer along the whole row on a thread of its own.
fn chase<T: Send>(
    racers: usize,
    lanes: usize,
    run: impl Fn(usize, usize) -> T + Sync,
) -> io::Result<Vec<Vec<T>>> {
    let gate = Gate {
        racers: AtomicUsize::new(0),
        arrived: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let spawn = |racer: usize| {
            let (gate, run) = (&gate, &run);
            let body = move || {
                let mut told = Vec::with_capacity(lanes);
                for lane in 0..lanes {
                    gate.arrived.fetch_add(1, Ordering::AcqRel);
                    gate.pass(lane + 1);
                    told.push(run(racer, lane));
                }
                told
            };
            std::thread::Builder::new()
                .name("probe".into())
                .spawn_scoped(scope, body)
        };
        let running: Vec<_> = (0..racers).map(spawn).collect();
        let started = running.iter().filter(|racer| racer.is_ok()).count();
        gate.racers.store(started, Ordering::Release);
        running
            .into_iter()
            .map(|racer| {
                racer?
                    .join()
                    .map_err(|_| io::Error::other("a racer ended by a panic"))
            })
            .collect()
    })
}
