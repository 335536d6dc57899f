//! Evidence that a writer is done with a file (contract §4 a, b): opens it without following or waiting, and asks
//! the system who else has it open.
//!
//! Reads: one file in Pickup. Writes: nothing. Thread: any. Not here: how long to wait for better evidence (engine).

use super::locks;
use super::probe::kind::number;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file in Pickup, open for reading.
#[derive(Debug)]
pub struct Candidate {
    /// Open, and under a read lease while that is possible.
    pub file: File,
    /// As it was when it was opened.
    pub meta: Metadata,
    /// What the system says of writers.
    pub writers: Writers,
}

/// Who has the file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// A read lease was granted: no process of this machine.
    None,
    /// The lease was refused: some process.
    Some,
    /// A lease cannot be asked for here (no permission, or the file system knows none).
    Unknown,
    /// A process holds an advisory lock on it.
    Locked,
}

/// What a name in Pickup turned out to be.
#[derive(Debug)]
pub enum Looked {
    /// A regular file with one link.
    File(Candidate),
    /// Nothing in it.
    Empty,
    /// It has more than one link: perhaps its writer publishes by link and unlink.
    Linked,
    /// A symbolic link, FIFO, device, socket or folder; in words.
    NotAFile(&'static str),
    /// No longer there.
    Gone,
    /// Not readable.
    Unreadable(io::Error),
}

/// Records are smaller.
const READ_AT_ONCE: usize = 1024;

/// A link is not followed, a FIFO or a device is not waited for.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;

/// The time of the last access stays as it is.
#[cfg(target_os = "linux")]
const UNSEEN: i32 = libc::O_NOATIME;
#[cfg(not(target_os = "linux"))]
const UNSEEN: i32 = 0;

/// Opens `path` and gathers what the system says about it. `shared`: it lies on storage of several machines, which is
/// asked for one lock at a time.
pub fn look(path: &Path, shared: bool) -> Looked {
    let _asking = super::hanging::asking("look at", path);
    // What is no regular file is not opened at all: opening a FIFO or a device has effects. One that is swapped in after
    // this look is opened, without waiting, and never read: to shut that out costs every file two calls more (O_PATH).
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Looked::Gone,
        Err(error) => Looked::Unreadable(error),
        Ok(meta) if !meta.file_type().is_file() => Looked::NotAFile(kind_of(&meta)),
        Ok(meta) if meta.len() == 0 => Looked::Empty,
        Ok(_) => look_at_listed(path, shared),
    }
}

/// The same of what a listing has just called a regular file.
pub fn look_at_listed(path: &Path, shared: bool) -> Looked {
    let _asking = super::hanging::asking("look at", path);
    let file = match open_unseen_at(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Looked::Gone,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Looked::NotAFile("a symbolic link");
        }
        Err(error) => return Looked::Unreadable(error),
    };
    let writers = ask_writers(&file, shared);
    // After the lease stands: what was written until then is part of the file.
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => return Looked::Unreadable(error),
    };
    if !meta.file_type().is_file() {
        return Looked::NotAFile(kind_of(&meta));
    }
    if meta.len() == 0 {
        return Looked::Empty;
    }
    if std::os::unix::fs::MetadataExt::nlink(&meta) > 1 {
        return Looked::Linked;
    }
    Looked::File(Candidate { file, meta, writers })
}

/// Opens a file for reading without leaving that in its times: to write them costs more than to read the file. Only its
/// owner and root may ask for that, so `open` may be asked twice; it gets the flags beside those for reading.
pub(super) fn open_unseen(open: impl Fn(i32) -> io::Result<File>) -> io::Result<File> {
    static MAY: AtomicBool = AtomicBool::new(true);
    if MAY.load(Ordering::Relaxed) {
        match open(FLAGS | UNSEEN) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => MAY.store(false, Ordering::Relaxed),
            other => return other,
        }
    }
    open(FLAGS)
}

fn open_unseen_at(path: &Path) -> io::Result<File> {
    open_unseen(|flags| OpenOptions::new().read(true).custom_flags(flags).open(path))
}

/// All of a file of ours, by the same rule.
pub(super) fn read_unseen(path: &Path) -> io::Result<Vec<u8>> {
    read_all(&open_unseen_at(path)?)
}

/// All of a file that is not long, in as few calls as there can be.
pub(super) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let (mut bytes, mut len) = (vec![0; READ_AT_ONCE], 0);
    loop {
        match file.read_at(bytes.get_mut(len..).unwrap_or_default(), len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == bytes.len() {
            bytes.resize(len * 2, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The facts of a regular file with one name and something in it; it is not opened. `None`: it is none, or the
/// storage does not say.
pub fn plain(path: &Path) -> Option<Metadata> {
    let _asking = super::hanging::asking("look at", path);
    let meta = path.symlink_metadata().ok()?;
    (strangeness(&meta).is_none() && meta.len() > 0).then_some(meta)
}

/// Why what lies at `path` is no message of one writer, in words: it is no regular file, or it has other names too.
/// `None`: nothing is wrong with it. For what was swapped in between a look and a rename.
pub fn strange(path: &Path) -> io::Result<Option<&'static str>> {
    let meta = path.symlink_metadata()?;
    Ok(strangeness(&meta))
}

fn strangeness(meta: &Metadata) -> Option<&'static str> {
    if !meta.file_type().is_file() {
        Some(kind_of(meta))
    } else if std::os::unix::fs::MetadataExt::nlink(meta) > 1 {
        Some("a file with more than one link")
    } else {
        None
    }
}

/// As [`open_plain`], and the file has no other name: nobody may have it copied by linking to it.
pub fn open_single(path: &Path) -> io::Result<File> {
    let file = open_plain(path)?;
    match strangeness(&file.metadata()?) {
        Some(what) => Err(io::Error::other(format!("it is {what}"))),
        None => Ok(file),
    }
}

/// Opens a file of ours for reading: never what was swapped in under its name (a link, a FIFO), and never waiting.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let _asking = super::hanging::asking("open", path);
    let file = OpenOptions::new().read(true).custom_flags(FLAGS).open(path)?;
    let meta = file.metadata()?;
    if !meta.file_type().is_file() {
        return Err(io::Error::other(format!("it is {}, not a file", kind_of(&meta))));
    }
    Ok(file)
}

impl Candidate {
    /// Whether nobody has opened the file for writing since the lease was granted. True where there is no lease.
    pub fn undisturbed(&self) -> bool {
        self.writers != Writers::None || lease_of(&self.file) == Some(libc::F_RDLCK)
    }

    /// What lies at `path` now, if it is still this very file as it was looked at: not swapped, not grown. On another
    /// volume it is a copy, of which only the length can be compared.
    pub fn found_at(&self, path: &Path) -> Option<Metadata> {
        use std::os::unix::fs::MetadataExt;
        let found = path.symlink_metadata().ok()?;
        let is_copy = found.dev() != self.meta.dev();
        let same_times = found.mtime() == self.meta.mtime() && found.mtime_nsec() == self.meta.mtime_nsec();
        // One name, also now: between two links to the file of another, one moment of none would pass for one's own.
        let same = strangeness(&found).is_none() && found.len() == self.meta.len();
        (same && (is_copy || (found.ino() == self.meta.ino() && same_times))).then_some(found)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.writers == Writers::None {
            set_lease(&self.file, libc::F_UNLCK); // closing would do it too; a writer may be waiting for it now
        }
    }
}

fn kind_of(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn ask_writers(file: &File, shared: bool) -> Writers {
    let locked = match shared {
        true => locks::is_locked_in_turn(file),
        false => locks::is_locked(file),
    };
    if locked {
        return Writers::Locked;
    }
    match set_lease(file, libc::F_RDLCK) {
        0 => Writers::None,
        libc::EAGAIN => Writers::Some,
        _ => Writers::Unknown,
    }
}

/// Sets or drops a lease; returns the error number, 0 for success.
#[cfg(target_os = "linux")]
fn set_lease(file: &File, lease: i32) -> i32 {
    // SAFETY: the descriptor is open for the length of the call, and F_SETLEASE takes an int and no pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
    if result == 0 {
        0
    } else {
        io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
    }
}

#[cfg(target_os = "linux")]
fn lease_of(file: &File) -> Option<i32> {
    // SAFETY: the descriptor is open for the length of the call, and F_GETLEASE takes no argument.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) };
    (result >= 0).then_some(result)
}

#[cfg(not(target_os = "linux"))]
fn set_lease(_file: &File, _lease: i32) -> i32 {
    libc::ENOSYS
}

#[cfg(not(target_os = "linux"))]
fn lease_of(_file: &File) -> Option<i32> {
    None
}

/// Whether a lease says nothing about writers on other machines: the folder lies on a network or user-space
/// file system.
pub fn is_shared_storage(folder: &Path) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517B;
    const SMB2: i64 = 0xFE53_4D42;
    const CIFS: i64 = 0xFF53_4D42;
    const FUSE: i64 = 0x6573_5546;
    const CEPH: i64 = 0x00C3_6400;
    const GFS2: i64 = 0x0116_1970;
    const OCFS2: i64 = 0x7461_636F;
    const V9FS: i64 = 0x0102_1997;
    number(folder)
        .is_none_or(|number| [NFS, SMB, SMB2, CIFS, FUSE, CEPH, GFS2, OCFS2, V9FS].contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn candidate(path: &Path) -> Candidate {
        match look(path, false) {
            Looked::File(candidate) => candidate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_open_writer_is_seen_and_a_closed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.eml");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(matches!(
            candidate(&path).writers,
            Writers::Some | Writers::Unknown
        ));
        drop(writer);
        let seen = candidate(&path);
        assert!(matches!(seen.writers, Writers::None | Writers::Unknown));
        assert!(seen.undisturbed());
    }

    #[test]
    fn an_advisory_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.eml");
        std::fs::write(&path, "x").unwrap();
        let holder = File::open(&path).unwrap();
        fs2::FileExt::try_lock_shared(&holder).unwrap(); // what .NET holds while it writes
        assert_eq!(candidate(&path).writers, Writers::Locked);
    }

    #[test]
    fn a_file_that_grew_or_was_swapped_is_not_the_one_that_was_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (path, claimed) = (dir.path().join("a.eml"), dir.path().join("claimed"));
        std::fs::write(&path, "x").unwrap();
        let seen = candidate(&path);
        std::fs::rename(&path, &claimed).unwrap();
        assert!(seen.found_at(&claimed).is_some());
        let second = dir.path().join("second");
        std::fs::hard_link(&claimed, &second).unwrap();
        assert!(seen.found_at(&claimed).is_none(), "it has another name");
        std::fs::remove_file(&second).unwrap();
        // Without a lease nobody holds the writer back.
        set_lease(&seen.file, libc::F_UNLCK);
        File::options()
            .append(true)
            .open(&claimed)
            .unwrap()
            .write_all(b"y")
            .unwrap();
        assert!(seen.found_at(&claimed).is_none(), "it grew");
        std::fs::remove_file(&claimed).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &claimed).unwrap();
        assert!(seen.found_at(&claimed).is_none(), "it was swapped");
        assert!(open_plain(&claimed).is_err());
    }

    #[test]
    fn what_is_no_file_is_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "secret").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(look(&link, true), Looked::NotAFile("a symbolic link")));
        assert!(matches!(look(dir.path(), true), Looked::NotAFile("a folder")));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert!(matches!(look(&fifo, true), Looked::NotAFile("a FIFO")));
        assert!(plain(&target).is_some());
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        for strange in [
            &link,
            &fifo,
            &empty,
            &dir.path().to_owned(),
            &dir.path().join("nothing"),
        ] {
            assert!(plain(strange).is_none(), "{strange:?}");
        }
        let second = dir.path().join("second");
        std::fs::hard_link(&target, &second).unwrap();
        assert!(plain(&target).is_none(), "it has two names");
        assert!(matches!(look(&second, true), Looked::Linked));
        assert!(matches!(look(&dir.path().join("nothing"), true), Looked::Gone));
    }
}
