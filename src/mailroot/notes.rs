//! A folder of `Status/` in which small files ask for something. It belongs to the service's user, and root may write
//! there too, for an operator: so nothing is opened that lies there already, and no link is followed on the way to it.
//!
//! ```text
//! Status/release/.ID ──written, given to the owner of Status──▶ renamed to its name, in the place of a former one
//! ```
//!
//! Writes: one folder. Thread: any. Not here: what the files mean (release, reception).

use super::error::{DiskError, Result};
use crate::mail::MessageId;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// See above.
#[derive(Debug)]
pub(super) struct Notes {
    folder: OwnedFd,
    path: PathBuf,
    /// Of the folder above.
    owner: Stat,
}

impl Notes {
    /// Makes it, if need be, for whom the folder above belongs to.
    pub fn make(path: &Path) -> Result<Self> {
        Self::at(path, true).map_err(DiskError::when("use the folder", path))
    }

    /// That which is there; `None`: there is none.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        match Self::at(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(DiskError::when("use the folder", path)),
        }
    }

    fn at(path: &Path, make: bool) -> io::Result<Self> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = rustix::fs::open(above, flags, Mode::empty())?;
        let owner = rustix::fs::fstat(&above)?;
        let is_new = match make.then(|| rustix::fs::mkdirat(&above, name, mode(0o755))) {
            Some(Ok(())) => true,
            Some(Err(Errno::EXIST)) | None => false,
            Some(Err(error)) => return Err(error.into()),
        };
        let folder = rustix::fs::openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let found = rustix::fs::fstat(&folder)?;
        let us = rustix::process::geteuid();
        if is_new && found.st_uid == us.as_raw() {
            give(&folder, &found, &owner);
        } else if found.st_uid != owner.st_uid && (us.is_root() || found.st_uid != us.as_raw()) {
            // Root was led to a folder of somebody else's.
            return Err(io::Error::other(
                "it does not belong to whom the folder above belongs to",
            ));
        }
        Ok(Self {
            folder,
            path: path.to_owned(),
            owner,
        })
    }

    /// Puts a file there, in the place of a former one.
    pub fn write(&self, name: &str, text: &str, permissions: RawMode) -> Result<()> {
        let aside = format!(".{}", MessageId::generate());
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file: File = rustix::fs::openat(&self.folder, &aside, flags, mode(permissions))?.into();
            give(&file, &rustix::fs::fstat(&file)?, &self.owner);
            file.write_all(text.as_bytes())?;
            Ok(rustix::fs::renameat(&self.folder, &aside, &self.folder, name)?)
        };
        write().map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.folder, &aside, AtFlags::empty());
            DiskError::when("write", &self.path.join(name))(error)
        })
    }

    /// Removes a file; there may be none.
    pub fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(DiskError::when("remove", &self.path.join(name))(error.into())),
        }
    }

    /// Whether there is something of this name.
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// How many names there are.
    pub fn count(&self) -> Result<usize> {
        let list = || -> rustix::io::Result<usize> {
            let mut count = 0_usize;
            for entry in Dir::read_from(&self.folder)? {
                count += usize::from(!matches!(entry?.file_name().to_bytes(), b"." | b".."));
            }
            Ok(count)
        };
        list().map_err(|error| DiskError::when("list", &self.path)(error.into()))
    }
}

fn mode(bits: RawMode) -> Mode {
    Mode::from_raw_mode(bits)
}

/// What we have just made, to whom the folder above belongs to: only root can.
fn give(made: impl std::os::fd::AsFd, now: &Stat, owner: &Stat) {
    if (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid) {
        let user = rustix::fs::Uid::from_raw(owner.st_uid);
        let group = rustix::fs::Gid::from_raw(owner.st_gid);
        let _ = rustix::fs::fchown(made, Some(user), Some(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    #[test]
    fn a_link_in_the_place_of_the_folder_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("release"), dir.path().join("other"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("paused"), "theirs").unwrap();
        symlink(&other, &folder).unwrap();
        let error = Notes::make(&folder).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the folder "), "{error}");
        assert!(Notes::find(&folder).is_err());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }

    #[test]
    fn what_lies_there_is_replaced_and_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("release"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        assert!(Notes::find(&folder).unwrap().is_none());
        assert!(!folder.exists(), "who looks makes nothing");
        let notes = Notes::make(&folder).unwrap();
        assert_eq!(notes.count().unwrap(), 0);
        symlink(&other, folder.join("a")).unwrap();
        fs::hard_link(&other, folder.join("b")).unwrap();
        for (name, permissions) in [("a", 0o644), ("b", 0o600), ("c", 0o644)] {
            notes.write(name, "ours", permissions).unwrap();
            let facts = folder.join(name).symlink_metadata().unwrap();
            assert_eq!(
                (facts.is_file(), facts.len(), facts.mode() & 0o777),
                (true, 4, permissions)
            );
        }
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert_eq!(notes.count().unwrap(), 3);
        fs::create_dir(folder.join("d")).unwrap();
        assert!(notes.write("d", "ours", 0o644).is_err());
        assert_eq!(notes.count().unwrap(), 4, "nothing is left behind");
        assert!(notes.has("c"));
        notes.remove("c").unwrap();
        notes.remove("c").unwrap();
        assert!(!notes.has("c"));
        assert!(Notes::find(&folder).unwrap().is_some());
    }

    #[test]
    fn what_root_makes_belongs_to_the_service() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give something away
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(65_534), Some(65_533)).unwrap();
        let folder = dir.path().join("release");
        Notes::make(&folder).unwrap().write("a", "", 0o644).unwrap();
        for path in [&folder, &folder.join("a")] {
            let facts = path.metadata().unwrap();
            assert_eq!((facts.uid(), facts.gid()), (65_534, 65_533));
        }
        chown(&folder, Some(0), Some(0)).unwrap();
        let error = Notes::make(&folder).unwrap_err().to_string();
        assert!(error.contains("does not belong to whom"), "{error}");
    }
}
