//! `badmail.keep_days` and `badmail.max_size`: the only way in which anything of ours is removed that somebody may
//! still want. Off unless set.
//!
//! Reads and writes: Badmail. Thread: keeper, now and then. What does not bear a name of ours is never touched.

use super::error::{DiskError, Result};
use crate::mail::id::Ulid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The three files of one message.
#[derive(Default)]
struct Case {
    files: Vec<PathBuf>,
    size: u64,
    newest: Option<SystemTime>,
}

/// Removes what is older than `keep_days`, then the oldest until the rest is not above `max_size` bytes; 0 switches
/// either off. Returns how many messages went.
pub fn badmail(folder: &Path, keep_days: u32, max_size: u64, now: SystemTime) -> Result<usize> {
    if keep_days == 0 && max_size == 0 {
        return Ok(0);
    }
    let cases = list(folder)?;
    let keep = Duration::from_secs(u64::from(keep_days) * 24 * 3600);
    let is_old = |case: &Case| {
        let age = case.newest.and_then(|newest| now.duration_since(newest).ok());
        keep_days > 0 && age.is_some_and(|age| age > keep)
    };
    let mut left: u64 = cases.values().map(|case| case.size).sum();
    let mut gone = 0;
    // ULIDs begin with the time: the oldest come first.
    for case in cases.values() {
        if is_old(case) || (max_size > 0 && left > max_size) {
            remove(case)?;
            left = left.saturating_sub(case.size);
            gone += 1;
        }
    }
    Ok(gone)
}

fn list(folder: &Path) -> Result<BTreeMap<Ulid, Case>> {
    let mut cases: BTreeMap<Ulid, Case> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(DiskError::when("list", folder))? {
        let entry = entry.map_err(DiskError::when("list", folder))?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.rsplit_once('.'));
        let Some((stem, "BAD" | "BDR" | "BDP")) = stem else {
            continue;
        };
        let (Ok(ulid), Ok(meta)) = (stem.parse::<Ulid>(), entry.metadata()) else {
            continue;
        };
        let case = cases.entry(ulid).or_default();
        case.size += size_on_disk(&meta);
        case.newest = case.newest.max(meta.modified().ok());
        case.files.push(entry.path());
    }
    Ok(cases)
}

/// A file of zeros that nobody wrote may say that it is larger than any disk: it must not push the others out.
fn size_on_disk(meta: &std::fs::Metadata) -> u64 {
    const SMALL: u64 = 1024 * 1024;
    let taken = std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512);
    meta.len().min(taken.max(SMALL))
}

/// The message first: what is left of a removal that was cut short is words without a message, never the reverse.
fn remove(case: &Case) -> Result<()> {
    let is_message = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "BAD");
    let (message, words): (Vec<_>, Vec<_>) = case.files.iter().partition(|path| is_message(path));
    for path in message.into_iter().chain(words) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::when("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, ulid: Ulid, size: usize) {
        for extension in ["BAD", "BDR", "BDP"] {
            std::fs::write(folder.join(format!("{ulid}.{extension}")), vec![0; size]).unwrap();
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let dir = tempfile::tempdir().unwrap();
        let (old, young) = (Ulid::from_parts(1000, 7), Ulid::from_parts(2000, 7));
        put(dir.path(), old, 100);
        put(dir.path(), young, 100);
        std::fs::write(dir.path().join("notes.txt"), [0; 1000]).unwrap();
        let now = SystemTime::now();
        assert_eq!(badmail(dir.path(), 0, 0, now).unwrap(), 0);
        assert_eq!(badmail(dir.path(), 0, 600, now).unwrap(), 0);
        assert_eq!(badmail(dir.path(), 0, 599, now).unwrap(), 1);
        let left = names(dir.path());
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(left.iter().all(|name| !name.starts_with(&old.to_string())));
    }

    #[test]
    fn a_sparse_file_counts_as_what_it_takes() {
        let dir = tempfile::tempdir().unwrap();
        let (old, young) = (Ulid::from_parts(1000, 7), Ulid::from_parts(2000, 7));
        put(dir.path(), old, 100);
        put(dir.path(), young, 100);
        let sparse = dir.path().join(format!("{young}.BAD"));
        let file = std::fs::File::options().write(true).open(sparse).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(badmail(dir.path(), 0, 4 << 20, SystemTime::now()).unwrap(), 0);
        assert_eq!(names(dir.path()).len(), 6);
    }

    #[test]
    fn days_are_counted_from_when_it_came_here() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), Ulid::from_parts(1000, 7), 1);
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        assert_eq!(
            badmail(dir.path(), 2, 0, now + day).unwrap(),
            0,
            "an old message that came today"
        );
        assert_eq!(badmail(dir.path(), 2, 0, now + 3 * day).unwrap(), 1);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}
