//! The same mailroot through two mounts: what one writes, and when the other sees it.
//!
//! Writes: see [`super::storage`]. Thread: any.

use super::race::within;
use super::storage::{Litter, Names, Storage};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long one mount took to see what happened through the other. `None`: longer than we waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visible {
    /// A new file, found by its name.
    pub made: Option<Duration>,
    /// A file that was renamed away is seen gone.
    pub gone: Option<Duration>,
    /// A file that was rewritten in place, as heartbeats are.
    pub rewritten: Option<Duration>,
}

/// Whether a file made through one shows in the other: whether they are the same folder.
pub fn is_same(
    storage: &dyn Storage,
    folders: &[PathBuf; 2],
    names: &Names,
    patience: Duration,
) -> io::Result<bool> {
    let [ours, theirs] = folders;
    let mut litter = Litter::new(storage);
    let name = names.next();
    storage.create_new(&litter.path(ours.join(&name)), name.as_bytes())?;
    let there = theirs.join(&name);
    Ok(within(patience, || {
        storage.read(&there).is_ok_and(|bytes| bytes == name.as_bytes())
    }))
}

/// Watches, by asking again and again, what shows when.
pub fn visible(
    storage: &dyn Storage,
    folders: &[PathBuf; 2],
    names: &Names,
    patience: Duration,
) -> io::Result<Visible> {
    let [ours, theirs] = folders;
    let mut litter = Litter::new(storage);
    let (old, new, beat) = (names.next(), names.next(), names.next());
    for name in [&old, &new, &beat] {
        litter.path(ours.join(name));
    }
    let until = |holds: &mut dyn FnMut() -> bool| {
        let begun = Instant::now();
        within(patience, holds).then(|| begun.elapsed())
    };
    let there = |name: &str, wanted: bool| {
        let path = theirs.join(name);
        move || storage.is_there(&path).is_ok_and(|is| is == wanted)
    };
    // What is not there yet was asked for before: an answer that is remembered must not stay.
    let _ = storage.is_there(&theirs.join(&old));
    storage.create_new(&ours.join(&old), b"x")?;
    let made = until(&mut there(&old, true));
    storage.rename(&ours.join(&old), &ours.join(&new))?;
    let gone = until(&mut there(&old, false));

    let text = |beat: usize| format!("heartbeat {beat}\n").into_bytes();
    storage.create_new(&ours.join(&beat), &text(0))?;
    let path = theirs.join(&beat);
    let reads = |wanted: usize| move |seen: Vec<u8>| seen == text(wanted);
    let mut worst = Some(Duration::ZERO);
    for counter in 0..4 {
        if counter > 0 {
            storage.rewrite(&ours.join(&beat), &text(counter))?;
        }
        let seen = until(&mut || storage.read(&path).is_ok_and(reads(counter)));
        worst = worst.zip(seen).map(|(worst, seen)| worst.max(seen));
    }
    Ok(Visible {
        made,
        gone,
        rewritten: worst,
    })
}
