//! *put* (contract §3): a new file, whole and for good or not at all, in three steps. Staged, it is written under a name
//! that nobody reads; published, it has its own, and its bytes are on the volume; the sync of the folder makes the name
//! durable. Who has many puts them into one folder step by step and syncs it once.
//!
//! Writes: Queue, Drop, Badmail. Thread: any.

use super::error::{DiskError, Result};
use super::hanging::asking;
use super::spool::{Shelf, Spool, sync_folder};
use super::written::Commits;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// A file that is written and has no name yet by which it is read. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct Staged<'a> {
    spool: &'a Spool,
    shelf: Shelf,
    name: String,
    tmp: PathBuf,
    /// Closed before it gets its name: a reader may refuse what somebody could still write.
    file: Option<File>,
    commits: Commits,
    is_published: bool,
}

impl Spool {
    /// All steps. Replaces a former file of that name; durable when it returns.
    pub fn put(
        &self,
        shelf: Shelf,
        name: &str,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        self.stage(shelf, name, write)?.publish()?;
        self.sync_shelf(shelf)
    }

    /// The first step.
    pub fn stage(
        &self,
        shelf: Shelf,
        name: &str,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<Staged<'_>> {
        let tmp = self.folder(shelf).join(self.next_tmp(shelf));
        let _asking = asking("write", &tmp);
        let mode = if shelf == Shelf::Drop { 0o664 } else { 0o640 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&tmp)
            .map_err(DiskError::when("create", &tmp))?;
        let mut staged = Staged {
            spool: self,
            shelf,
            name: name.to_owned(),
            tmp,
            file: None,
            commits: Commits::Unknown,
            is_published: false,
        };
        let device = file.metadata().map(|meta| meta.dev());
        let commits = device.and_then(|device| self.volume(shelf).expects(device));
        staged.commits = commits.map_err(DiskError::when("write", &staged.tmp))?;
        write(&mut file).map_err(DiskError::when("write", &staged.tmp))?;
        staged.file = Some(file);
        Ok(staged)
    }

    /// The last step, for all that was published before: together with others that want it.
    pub fn sync_shelf(&self, shelf: Shelf) -> Result<()> {
        self.gatherings.of(shelf).sync(self.folder(shelf), sync_folder)
    }

    /// Whether the volume of this folder makes things durable in order, so that staging many means no more waiting than
    /// staging one.
    pub fn is_in_order(&self, shelf: Shelf) -> bool {
        self.volume(shelf).commits() == Some(Commits::InOrder)
    }

    /// A name that was never used before, for what is being written.
    pub(super) fn next_tmp(&self, shelf: Shelf) -> String {
        let number = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        // A leading period in the folders that applications read: their readers ignore it.
        let hidden = if shelf == Shelf::Drop { "." } else { "" };
        format!("{hidden}{}.{number}.TMP", self.node())
    }
}

impl Staged<'_> {
    /// Lets the system begin to write it, while others are staged.
    pub fn begin(&self) {
        if let Some(file) = &self.file {
            self.commits.begin(file);
        }
    }

    /// The second step.
    pub fn publish(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            let _asking = asking("write", &self.tmp);
            self.commits
                .write_out(&file)
                .map_err(DiskError::when("sync", &self.tmp))?;
        }
        let target = self.spool.folder(self.shelf).join(&self.name);
        self.spool.rename(&self.tmp, &target, false)?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            let _ = std::fs::remove_file(&self.tmp); // worthless; the scan removes it when this fails
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::mailroot::{NodeName, tree};
    use std::io::Write;
    use std::path::Path;

    fn spool(root: &Path) -> Spool {
        let folders = Config::parse("", root, "h.example").unwrap().folders;
        tree::make(&folders).unwrap();
        Spool::new(folders, NodeName::generate("h"))
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_staged_is_hidden_until_it_is_published_and_leaves_nothing_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        let folder = spool.folder(Shelf::Drop);
        let [one, other] = ["a.EML", "b.EML"].map(|name| {
            spool
                .stage(Shelf::Drop, name, &mut |file| file.write_all(name.as_bytes()))
                .unwrap()
        });
        one.begin();
        let staged = names(folder);
        assert!(
            staged.len() == 2 && staged.iter().all(|name| name.starts_with('.')),
            "{staged:?}"
        );
        one.publish().unwrap();
        drop(other);
        assert_eq!(names(folder), ["a.EML"]);
        assert_eq!(std::fs::read(folder.join("a.EML")).unwrap(), b"a.EML");
    }

    #[test]
    fn a_former_file_of_that_name_is_replaced_or_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        let folder = spool.folder(Shelf::Queue);
        let put = |text: &'static str| {
            spool.put(Shelf::Queue, "x", &mut |file| match text {
                "" => Err(io::ErrorKind::StorageFull.into()),
                text => file.write_all(text.as_bytes()),
            })
        };
        put("first").unwrap();
        assert!(put("").unwrap_err().to_string().starts_with("cannot write"));
        assert_eq!(std::fs::read(folder.join("x")).unwrap(), b"first");
        put("second").unwrap();
        assert_eq!(std::fs::read(folder.join("x")).unwrap(), b"second");
        assert_eq!(names(folder), ["x"]);
        // What stands there is no file: it stays, and nothing is left beside it.
        std::fs::create_dir(folder.join("y")).unwrap();
        assert!(spool.put(Shelf::Queue, "y", &mut |_| Ok(())).is_err());
        assert_eq!(names(folder), ["x", "y"]);
    }
}
