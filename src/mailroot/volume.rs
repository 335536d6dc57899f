//! Whether a folder still lies on the volume that it lay on: an unmounted volume leaves an empty folder of the same
//! name behind, and what is put in there is hidden when the volume comes back. And how that volume makes things durable.
//!
//! Reads: device numbers, what `written` reads. Writes: nothing. Thread: any. A number is remembered only by this process: remounting gives
//! a volume another one, which is taken as it is.

use super::written::Commits;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The volume of one folder.
#[derive(Debug)]
pub struct Volume {
    folder: PathBuf,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    device: u64,
    /// What lies beneath the place where it is mounted; `None` for the root volume.
    beneath: Option<u64>,
    commits: Commits,
}

impl Volume {
    /// That of `folder`, as it is now; looked at when first needed if it is not there yet.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            seen: Mutex::new(look(folder)),
        }
    }

    /// Whether a file on this device is where it should be; in which order what is done to it becomes durable.
    pub fn expects(&self, device: u64) -> io::Result<Commits> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some(known) if known.device == device => Ok(known.commits),
            Some(known) if known.beneath == Some(device) => {
                Err(io::Error::other("its volume is not mounted there at present"))
            }
            _ => {
                *seen = look(&self.folder);
                let is_known = seen.filter(|seen| seen.device == device);
                Ok(is_known.map_or(Commits::Unknown, |seen| seen.commits))
            }
        }
    }

    /// In which order things become durable there; `None`: it has not been seen yet.
    pub fn commits(&self) -> Option<Commits> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(|seen| seen.commits)
    }

    /// Whether the folder is where it should be; an error when it cannot be looked at.
    pub fn is_in_place(&self) -> io::Result<()> {
        self.expects(self.folder.metadata()?.dev()).map(drop)
    }
}

fn look(folder: &Path) -> Option<Seen> {
    let folder = folder.canonicalize().ok()?;
    let device = folder.metadata().ok()?.dev();
    let beneath = folder
        .ancestors()
        .filter_map(|above| Some(above.metadata().ok()?.dev()))
        .find(|&above| above != device);
    let commits = Commits::of(&folder, device);
    Some(Seen {
        device,
        beneath,
        commits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_beneath_is_not_taken_for_the_one_that_was_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().metadata().unwrap().dev();
        let volume = Volume::of(dir.path());
        volume.is_in_place().unwrap();
        volume.expects(device).unwrap();
        volume.expects(device + 1).unwrap(); // another volume was mounted; what is seen now counts
        *volume.seen.lock().unwrap() = Some(Seen {
            device: device + 1,
            beneath: Some(device),
            commits: Commits::Unknown,
        });
        let error = volume.is_in_place().unwrap_err().to_string();
        assert_eq!(error, "its volume is not mounted there at present");
    }

    #[test]
    fn a_mount_point_is_told_from_what_lies_beneath() {
        // /proc is a volume of its own wherever there is one.
        let Some(seen) = look(Path::new("/proc")) else {
            return;
        };
        assert_eq!(
            seen.beneath,
            Path::new("/").metadata().ok().map(|meta| meta.dev())
        );
    }
}
