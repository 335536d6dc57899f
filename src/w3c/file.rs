//! `Logs/exYYMMDD.log`: one file per UTC day, a header on top and wherever a process begins to write.
//!
//! Processes of one machine append to the same file, each batch in one write, which a file system of that machine keeps
//! apart. Storage that several machines share gives no such promise (NFS looks up the end first and writes then), so
//! there each machine has its own file, `exYYMMDD-MACHINE.log`, which `ex*.log` finds as well. A file that was moved or
//! removed is begun anew within a second. Thread: the writer's.

use super::{Batch, Form};
use crate::mailroot::probe::{Kind, Sort};
use crate::mailroot::tree;
use jiff::Timestamp;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With less room on the volume of Logs nothing is written: the rest of it is for mail.
const MIN_FREE: u64 = 64 * 1024 * 1024;
/// The file and its volume are looked at so often …
const LOOK: Duration = Duration::from_secs(1);
/// … and after so many bytes.
const LOOK_AFTER: usize = 2 * 1024 * 1024;

/// The file that is open.
pub(super) struct Day {
    open: Option<Open>,
    /// When it was looked at, and what has been written since.
    looked: Option<(Instant, usize)>,
    is_full: bool,
    pub(super) min_free: u64,
}

impl Default for Day {
    fn default() -> Self {
        Self {
            open: None,
            looked: None,
            is_full: false,
            min_free: MIN_FREE,
        }
    }
}

struct Open {
    path: PathBuf,
    form: Arc<Form>,
    file: File,
    /// A line may lack its end.
    torn: bool,
}

impl Open {
    /// Whether it is still found under its name; somebody may have moved it, or removed it.
    fn is_there(&self) -> bool {
        let facts = |of: io::Result<Metadata>| of.map(|meta| (meta.dev(), meta.ino()));
        match (facts(self.path.symlink_metadata()), facts(self.file.metadata())) {
            (Ok(named), Ok(open)) => named == open,
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        }
    }
}

impl Day {
    /// The next lines wait for a look at file and volume.
    pub fn look_again(&mut self) {
        self.looked = None;
    }

    /// Appends these lines to the file of their day; the error is a sentence, and they are gone then.
    pub fn write(&mut self, batch: &Batch) -> Result<(), String> {
        self.look(&batch.form.folder);
        if self.is_full {
            let (least, folder) = (self.min_free >> 20, batch.form.folder.display());
            return Err(format!(
                "less than {least} MiB are free on the volume of {folder}"
            ));
        }
        let form = &batch.form;
        let is_open = |open: &Open| open.path == path(form, batch.day) && open.form == *form;
        let mut bytes = Vec::with_capacity(batch.lines.len() + 512);
        if !self.open.as_ref().is_some_and(is_open) {
            self.open = None;
            let path = path(form, batch.day);
            let file = tree::open_log(&path).map_err(|error| error.to_string())?;
            self.open = Some(Open {
                path,
                form: Arc::clone(form),
                file,
                torn: false,
            });
            bytes.extend_from_slice(header(form, batch.day).as_bytes());
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if open.torn {
            bytes.insert(0, b'\n');
        }
        bytes.extend_from_slice(batch.lines.as_bytes());
        open.torn = true;
        let written = open.file.write_all(&bytes);
        written.map_err(|error| format!("cannot write {}: {error}", open.path.display()))?;
        open.torn = false;
        if let Some((_, since)) = &mut self.looked {
            *since += bytes.len();
        }
        Ok(())
    }

    /// Where the system does not say what is free, there is room.
    fn look(&mut self, folder: &Path) {
        let is_fresh = |(at, bytes): (Instant, usize)| at.elapsed() < LOOK && bytes < LOOK_AFTER;
        if self.looked.is_some_and(is_fresh) {
            return;
        }
        self.looked = Some((Instant::now(), 0));
        if self.open.as_ref().is_some_and(|open| !open.is_there()) {
            self.open = None;
        }
        self.is_full = fs2::available_space(folder).is_ok_and(|free| free < self.min_free);
    }
}

/// `exYYMMDD.log`
fn path(form: &Form, day: Timestamp) -> PathBuf {
    let machine = match form.shared {
        true => format!("-{}", form.computer),
        false => String::new(),
    };
    form.folder
        .join(format!("ex{}{machine}.log", day.strftime("%y%m%d")))
}

/// Programs look for the name of IIS on top.
fn header(form: &Form, day: Timestamp) -> String {
    let names: Vec<&str> = form.fields.iter().map(|field| field.name()).collect();
    format!(
        "#Software: Microsoft Internet Information Services 6.0 format, by mailroot {}\n#Version: 1.0\n#Date: {}\n#Fields: {}\n",
        env!("CARGO_PKG_VERSION"),
        day.strftime("%Y-%m-%d %H:%M:%S"),
        names.join(" ")
    )
}

/// Whether other machines may write there too.
pub(super) fn may_be_shared(folder: &Path) -> bool {
    match Kind::of(folder).sort() {
        Sort::Disk | Sort::Plain | Sort::Memory | Sort::Layers => false,
        Sort::Network | Sort::Program | Sort::Unknown => true,
    }
}
