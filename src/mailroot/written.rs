//! The bytes of a new file, on the volume before the file gets the name by which readers find it.
//!
//! A sync of the file does that everywhere, and each such sync waits for a commit of the journal; the sync of the folder
//! that makes the name durable waits for another. Where a volume has one journal and commits in order, the second is
//! enough: the bytes are written out and waited for, which also puts what makes them part of the file (its blocks, its
//! length) into the journal; the name goes into the journal after that, so no power cut can keep the name and lose what
//! stands before it, and the sync of the folder makes both durable together. It holds for ext4 and XFS whose journal
//! lies on the volume itself, on Linux since 5.2 (`scripts/power-cut` tries it); everywhere else the file is synced.
//!
//! What is written this way counts only together with the sync of the folder that follows: without it nothing is durable.
//!
//! Reads: `/proc/self/mountinfo`, `/proc/fs/jbd2`. Thread: any.

use super::probe::kind::Kind;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::Path;

/// In which order a volume makes durable what was done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// In the order in which it was done, the bytes that were written out before a name included.
    InOrder,
    /// Not known: each thing has to be synced before the next is done.
    Unknown,
}

/// Mounted so, ext4 and XFS have a second device whose cache the commit does not empty in time, or commit before all of
/// the commit is written.
const OUT_OF_ORDER: [&str; 5] = [
    "journal_async_commit",
    "journal_dev",
    "journal_path",
    "logdev",
    "rtdev",
];

/// Linux, major and minor: before, what was being written out might have been passed over.
const SINCE: (u32, u32) = (5, 2);

impl Commits {
    /// Those of the volume that `folder` lies on; `device` is its number.
    pub fn of(folder: &Path, device: u64) -> Self {
        if !cfg!(target_os = "linux") || !is_since(rustix::system::uname().release().to_bytes(), SINCE) {
            return Self::Unknown;
        }
        Self::of_kind(&Kind::of(folder), has_its_journal_inside(device))
    }

    fn of_kind(kind: &Kind, has_its_journal_inside: bool) -> Self {
        let is_out_of_order = kind.options.iter().any(|option| {
            let name = option.split_once('=').map_or(option.as_str(), |(name, _)| name);
            OUT_OF_ORDER.contains(&name)
        });
        match kind.name.as_str() {
            _ if is_out_of_order => Self::Unknown,
            "xfs" => Self::InOrder,
            "ext4" | "ext3" if has_its_journal_inside => Self::InOrder,
            _ => Self::Unknown,
        }
    }

    /// Lets the system begin with that, and does not wait. What fails here fails there too.
    pub fn begin(self, file: &File) {
        #[cfg(target_os = "linux")]
        if self == Self::InOrder {
            let _ = sync_range(file, BEGIN);
        }
        let _ = file;
    }

    /// Writes out what was written to a new file. When this returns, a name that the file gets from now on can be
    /// durable only together with these bytes.
    pub fn write_out(self, file: &File) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self == Self::InOrder {
            return sync_range(file, ALL);
        }
        file.sync_data()
    }
}

/// Whether a system that calls itself `5.14.0-362.el9` is that or newer.
fn is_since(release: &[u8], since: (u32, u32)) -> bool {
    let text = String::from_utf8_lossy(release);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= since,
        _ => false,
    }
}

/// ext4 can be made without a journal, and with one on another device. The inode of one inside has the number 8.
fn has_its_journal_inside(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let Ok(link) = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")) else {
        return false;
    };
    link.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| Path::new(&format!("/proc/fs/jbd2/{name}-8")).is_dir())
}

#[cfg(target_os = "linux")]
const BEGIN: libc::c_uint = libc::SYNC_FILE_RANGE_WRITE;
/// All pages that are not written yet are written, those that are being written are waited for.
#[cfg(target_os = "linux")]
const ALL: libc::c_uint =
    libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;

#[cfg(target_os = "linux")]
fn sync_range(file: &File, how: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, which takes no pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    fn commits(name: &str, options: &str, journal: bool) -> Commits {
        let kind = Kind {
            name: name.to_owned(),
            source: "/dev/sda1".to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        };
        Commits::of_kind(&kind, journal)
    }

    #[test]
    fn only_one_journal_on_the_volume_itself_is_taken_for_in_order() {
        assert_eq!(commits("ext4", "rw,relatime", true), Commits::InOrder);
        assert_eq!(commits("ext3", "rw", true), Commits::InOrder);
        assert_eq!(
            commits("xfs", "rw,attr2,logbufs=8,logbsize=32k,noquota", false),
            Commits::InOrder
        );
        for (name, options, journal) in [
            ("ext4", "rw", false),
            ("ext4", "rw,journal_async_commit,data=writeback", true),
            ("ext4", "rw,journal_path=/dev/sdb1", true),
            ("xfs", "rw,logdev=/dev/sdb1", true),
            ("xfs", "rw,rtdev=/dev/sdb1", true),
            ("ext2", "rw", true),
            ("btrfs", "rw", true),
            ("nfs4", "rw,hard", true),
            ("overlay", "rw", true),
            ("", "", true),
        ] {
            assert_eq!(
                commits(name, options, journal),
                Commits::Unknown,
                "{name} {options}"
            );
        }
    }

    #[test]
    fn an_old_system_is_told_from_a_new_one() {
        for (release, is_new) in [
            ("6.18.44-fc", true),
            ("5.2.0", true),
            ("5.14.0-362.el9", true),
            ("5.1.21", false),
            ("4.18.0-553.el8_10", false),
            ("10.0", true),
            ("", false),
            ("next", false),
        ] {
            assert_eq!(is_since(release.as_bytes(), SINCE), is_new, "{release}");
        }
    }

    #[test]
    fn either_way_the_bytes_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().metadata().unwrap().dev();
        for commits in [
            Commits::InOrder,
            Commits::Unknown,
            Commits::of(dir.path(), device),
        ] {
            let path = dir.path().join("file");
            let mut file = File::create(&path).unwrap();
            file.write_all(b"bytes").unwrap();
            commits.write_out(&file).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        }
    }

    #[test]
    fn what_cannot_be_written_out_is_an_error() {
        let (_reads, writes) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writes));
        assert!(Commits::InOrder.write_out(&pipe).is_err());
        assert!(Commits::Unknown.write_out(&pipe).is_err());
    }
}
