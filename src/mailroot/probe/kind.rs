//! What kind of storage a folder is on, as the system calls it.
//!
//! Reads: `/proc/self/mountinfo`, statfs. Thread: any.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount that a folder is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `ext4`, `nfs4`, `fuse.glusterfs` …; empty where the system does not say.
    pub name: String,
    /// `/dev/sda1`, `server:/export` …
    pub source: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

/// What can be expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A disk of this machine, with a journal or the like.
    Disk,
    /// A disk of this machine whose folders a power cut can damage.
    Plain,
    /// Memory.
    Memory,
    /// Layers over other storage.
    Layers,
    /// Storage of other machines.
    Network,
    /// A program of this machine that answers for it; what is behind it only that program knows.
    Program,
    /// None that we know.
    Unknown,
}

impl Kind {
    /// The kind of storage that this folder is on.
    pub fn of(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self::among(&mounts, &folder)
    }

    fn among(mountinfo: &[u8], folder: &Path) -> Self {
        let mut found: Option<(PathBuf, Self)> = None;
        for line in mountinfo.split(|byte| *byte == b'\n') {
            if let Some((at, kind)) = parse(line)
                && folder.starts_with(&at)
                // A later mount at the same place hides the earlier one.
                && found.as_ref().is_none_or(|(best, _)| at.components().count() >= best.components().count())
            {
                found = Some((at, kind));
            }
        }
        found.map_or_else(
            || Self {
                name: String::new(),
                source: String::new(),
                options: Vec::new(),
            },
            |(_, kind)| kind,
        )
    }

    /// What can be expected of it.
    pub fn sort(&self) -> Sort {
        match self.name.as_str() {
            "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "zfs" | "jfs" | "bcachefs" | "reiserfs"
            | "ntfs3" => Sort::Disk,
            "ext2" | "vfat" | "exfat" | "msdos" | "minix" | "ufs" | "fuseblk" => Sort::Plain,
            "tmpfs" | "ramfs" => Sort::Memory,
            "overlay" | "aufs" | "fuse.fuse-overlayfs" => Sort::Layers,
            "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "ceph" | "9p" | "afs" | "lustre" | "gfs2"
            | "ocfs2" | "virtiofs" | "beegfs" | "gpfs" | "orangefs" | "fuse.glusterfs" | "fuse.sshfs"
            | "fuse.ceph" | "fuse.ceph-fuse" | "fuse.moosefs" | "fuse.mfsmount" | "fuse.juicefs"
            | "fuse.s3fs" => Sort::Network,
            name if name.starts_with("fuse") => Sort::Program,
            _ => Sort::Unknown,
        }
    }

    /// Mounted with this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }
}

/// A line of mountinfo: where it is mounted, and what it is.
fn parse(line: &[u8]) -> Option<(PathBuf, Kind)> {
    let mut words = line.split(|byte| *byte == b' ');
    let at = unescape(words.by_ref().nth(4)?);
    let text = |word: &[u8]| String::from_utf8_lossy(&unescape(word)).into_owned();
    let mut options: Vec<String> = text(words.next()?).split(',').map(str::to_owned).collect();
    words.by_ref().find(|word| *word == b"-")?;
    let name = text(words.next()?);
    let source = text(words.next()?);
    options.extend(
        words
            .next()
            .map(text)
            .unwrap_or_default()
            .split(',')
            .map(str::to_owned),
    );
    let at = PathBuf::from(OsString::from_vec(at));
    Some((
        at,
        Kind {
            name,
            source,
            options,
        },
    ))
}

/// Blanks and the like are written as `\040`.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(escaped) => {
                out.push(escaped);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// The number by which the system calls the kind of file system that a folder is on. `None` where it does not say.
pub fn number(folder: &Path) -> Option<i64> {
    let stat = rustix::fs::statfs(folder).ok()?;
    #[allow(clippy::unnecessary_cast)] // the type differs between targets
    let number = stat.f_type as i64;
    Some(number & 0xFFFF_FFFF)
}

/// Whether this is one of the file systems that the kernel alone answers for and whose renames are known: one short
/// round shows there what a long one would.
pub fn is_well_known(folder: &Path) -> bool {
    const EXT: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    const F2FS: i64 = 0xF2F5_2010;
    const ZFS: i64 = 0x2FC1_2FC1;
    const TMPFS: i64 = 0x0102_1994;
    number(folder).is_some_and(|number| [EXT, XFS, BTRFS, F2FS, ZFS, TMPFS].contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts_and_a_later_one_hides_an_earlier() {
        let mounts = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 22 0:30 / /srv/mail\\040room rw - nfs4 nas:/export rw,vers=4.2,soft\n\
            31 22 0:31 / /srv/mail\\040room rw shared:3 - fuse.glusterfs nas:/v rw,allow_other\n\
            32 22 0:32 / /srv/mail rw - tmpfs tmpfs rw\n";
        let kind = |path: &str| Kind::among(mounts, Path::new(path));
        assert_eq!(kind("/srv/mail room/Queue").name, "fuse.glusterfs");
        assert_eq!(kind("/srv/mail room/Queue").source, "nas:/v");
        assert!(kind("/srv/mail room").has("allow_other"));
        assert_eq!(kind("/srv/mail/x").sort(), Sort::Memory);
        assert_eq!(kind("/srv/mails").sort(), Sort::Disk);
        assert_eq!(Kind::among(b"", Path::new("/")).sort(), Sort::Unknown);
    }

    #[test]
    fn the_kernel_tells_of_the_folder_we_are_in() {
        let dir = tempfile::tempdir().unwrap();
        assert_ne!(Kind::of(dir.path()).name, "");
    }
}
