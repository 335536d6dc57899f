//! Making the folders of a mailroot, and the files in it that are no messages: settings and log.
//!
//! Writes: what is missing; changes nothing that is there, neither content nor mode. Any number of nodes may do it
//! at once. Thread: start-up; the log file: whoever logs. Not here: whether the folders are usable (`probe`).
//!
//! | folder | mode | because |
//! |---|---|---|
//! | Pickup | 1777 | everyone may add, nobody may take another's file |
//! | Queue, Badmail | 0700 | other people's mail; for the engine and operators |
//! | Drop | 2770 | the group reads and removes; `chgrp` it to the group of the applications |
//! | Status | 0755 | anyone may read |
//! | Logs | 0750 | addresses of other people; the group may read |

use super::error::{DiskError, Result};
use super::spool::sync_folder;
use crate::config::Folders;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder of the tree with the name of its setting and the mode that it is made with.
#[derive(Debug, Clone, Copy)]
pub struct Folder<'a> {
    /// As in `[folders]`, with a capital: `Pickup`.
    pub name: &'static str,
    /// Where it is.
    pub path: &'a Path,
    /// Permission bits when we make it.
    pub mode: u32,
}

/// The six folders, in the order in which mail passes them.
pub fn folders(folders: &Folders) -> [Folder<'_>; 6] {
    let folder = |name, path, mode| Folder { name, path, mode };
    [
        folder("Pickup", folders.pickup.as_path(), 0o1777),
        folder("Queue", folders.queue.as_path(), 0o700),
        folder("Drop", folders.drop.as_path(), 0o2770),
        folder("Badmail", folders.badmail.as_path(), 0o700),
        folder("Status", folders.status.as_path(), 0o755),
        folder("Logs", folders.logs.as_path(), 0o750),
    ]
}

/// Makes the folders that are missing and names those it made. Durable when it returns: a message that will be synced
/// into a folder must find the folder again after a power cut.
pub fn make(config: &Folders) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut holders = Holders::new();
    for folder in folders(config) {
        if make_folder(&folder, &mut holders)? {
            made.push(folder.path.to_owned());
        }
    }
    for (folder, must) in holders {
        let synced = sync_folder(&folder);
        if must {
            synced?;
        }
    }
    Ok(made)
}

/// Folders whose names are to be made durable. `true`: one of them is new. `false`: all were there, but a start that
/// was cut short may have made them; what cannot be synced then is no error.
type Holders = BTreeMap<PathBuf, bool>;

fn note_holder(holders: &mut Holders, of: &Path, is_new: bool) {
    let parent = of.parent().filter(|parent| !parent.as_os_str().is_empty());
    *holders
        .entry(parent.unwrap_or(Path::new(".")).to_owned())
        .or_default() |= is_new;
}

/// Whether it was missing.
fn make_folder(folder: &Folder<'_>, holders: &mut Holders) -> Result<bool> {
    let path = folder.path;
    // Nobody gets in before the mode is what it is to be: the umask cannot be trusted either way.
    let create = || DirBuilder::new().mode(0o700).create(path);
    let created = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_parents(path, holders)?;
            create()
        }
        other => other,
    };
    match created {
        Ok(()) => {
            note_holder(holders, path, true);
            std::fs::set_permissions(path, Permissions::from_mode(folder.mode))
                .map_err(DiskError::when("set the mode of", path))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            note_holder(holders, path, false);
            Ok(false)
        }
        Err(error) => Err(DiskError::when("make the folder", path)(error)),
    }
}

/// Makes what is missing above `path`.
fn make_parents(path: &Path, holders: &mut Holders) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    if parent.is_dir() {
        note_holder(holders, parent, false);
        return Ok(());
    }
    make_parents(parent, holders)?;
    match DirBuilder::new().mode(0o755).create(parent) {
        // Another node may be making the same ones.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(DiskError::when("make the folder", parent)(error))
        }
        _ => {
            note_holder(holders, parent, true);
            Ok(())
        }
    }
}

/// Writes a file that must not be there yet; `false` when it is (then it stays as it is).
pub fn write_new(path: &Path, text: &str) -> Result<bool> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(DiskError::when("make the folder", parent))?;
    }
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(DiskError::when("create", path)(error)),
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a file would pass for the whole one the next time.
        let _ = std::fs::remove_file(path);
        return Err(DiskError::when("write", path)(error));
    }
    Ok(true)
}

/// The right to change a file beside which it lies, for programs that read it, change it and put it back.
#[derive(Debug)]
pub struct Turn(PathBuf);

/// Who holds a turn for this long has ended.
const TURN: Duration = Duration::from_secs(60);

impl Turn {
    /// Waits until nobody else has it.
    pub fn take(path: &Path) -> Result<Self> {
        let lock = path.with_extension("lock");
        loop {
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&lock)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let since = lock.metadata().and_then(|meta| meta.modified());
                    if since.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > TURN)) {
                        let _ = std::fs::remove_file(&lock);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(DiskError::when("make", &lock)(error)),
                Ok(_) => return Ok(Self(lock)),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Puts a file that only its owner may read in the place of a former one, in one step. It belongs to whom the former
/// one belonged, or the folder: root makes such files for the service.
pub fn replace_private(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        if let Some(owner) = path.metadata().ok().or_else(|| path.parent()?.metadata().ok()) {
            let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let written = write()
        .map_err(DiskError::when("write", &beside))
        .and_then(|()| std::fs::rename(&beside, path).map_err(DiskError::when("replace", path)))
        .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("."))));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Opens a log file for appending; several nodes may write lines to the same one. A link is not followed: root may
/// write a log too, in a folder that is not his.
pub fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(DiskError::when("open the log file", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn modes(config: &Folders) -> Vec<u32> {
        let mode = |folder: Folder<'_>| folder.path.metadata().unwrap().permissions().mode() & 0o7777;
        folders(config).into_iter().map(mode).collect()
    }

    #[test]
    fn the_tree_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse("", &dir.path().join("a/b"), "h.example")
            .unwrap()
            .folders;
        let made = make(&config).unwrap();
        assert_eq!(made.len(), 6);
        assert_eq!(modes(&config), [0o1777, 0o700, 0o2770, 0o700, 0o755, 0o750]);
        assert!(make(&config).unwrap().is_empty());
    }

    #[test]
    fn every_folder_that_holds_a_new_one_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let below = |path: &str| dir.path().join(path);
        let folder = |path: &str| {
            let mut holders = Holders::new();
            let (path, name, mode) = (&*below(path), "Queue", 0o700);
            make_folder(&Folder { name, path, mode }, &mut holders).unwrap();
            holders
        };
        let wanted = [("", true), ("new", true), ("new/deep", true)];
        let mut found = folder("new/deep/Queue");
        assert_eq!(found.remove(dir.path().parent().unwrap()), Some(false));
        assert!(
            found
                .iter()
                .zip(wanted)
                .all(|(one, (path, must))| one == (&dir.path().join(path), &must))
                && found.len() == 3,
            "{found:?}"
        );
        // Made by a start that was cut short, perhaps, before it was synced.
        assert_eq!(
            folder("new/deep/Queue"),
            Holders::from([(below("new/deep"), false)])
        );
    }

    #[test]
    fn what_is_there_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse("", dir.path(), "h.example").unwrap().folders;
        std::fs::create_dir(&config.pickup).unwrap();
        std::fs::set_permissions(&config.pickup, Permissions::from_mode(0o1733)).unwrap();
        std::os::unix::fs::symlink(dir.path(), &config.queue).unwrap();
        let made = make(&config).unwrap();
        assert!(!made.contains(&config.pickup) && !made.contains(&config.queue));
        assert_eq!(modes(&config)[0], 0o1733);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse("", dir.path(), "h.example").unwrap().folders;
        std::fs::write(&config.drop, "").unwrap();
        let error = make(&config).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot make the folder {}", config.drop.display())),
            "{error}"
        );
    }

    #[test]
    fn a_log_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (log, other) = (dir.path().join("a.log"), dir.path().join("other"));
        open_log(&log).unwrap();
        std::fs::write(&other, "").unwrap();
        std::fs::remove_file(&log).unwrap();
        std::os::unix::fs::symlink(&other, &log).unwrap();
        let error = open_log(&log).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the log file "), "{error}");
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/mailroot.toml");
        assert!(write_new(&path, "a").unwrap());
        assert!(!write_new(&path, "b").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"a");
    }
}
