//! `Logs/exYYMMDD.log`: one file per UTC day, a header on top and wherever a process begins to write.
//!
//! Processes of one machine append to the same file, each batch in one write, which a file system of that machine keeps
//! apart. Storage that several machines share gives no such promise (NFS looks up the end first and writes then), so
//! there each machine has its own file, `exYYMMDD-MACHINE.log`, which `ex*.log` finds as well. Thread: the writer's.

use super::{Batch, Form};
use crate::mailroot::probe::{Kind, Sort};
use crate::mailroot::tree;
use jiff::Timestamp;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The file that is open.
#[derive(Default)]
pub(super) struct Day(Option<Open>);

struct Open {
    path: PathBuf,
    form: Arc<Form>,
    file: File,
    /// A line may lack its end.
    torn: bool,
}

impl Day {
    /// Appends these lines to the file of their day; the error is a sentence, and they are gone then.
    pub fn write(&mut self, batch: &Batch) -> Result<(), String> {
        let form = &batch.form;
        let is_open = |open: &Open| open.path == path(form, batch.day) && open.form == *form;
        let mut bytes = Vec::with_capacity(batch.lines.len() + 512);
        if !self.0.as_ref().is_some_and(is_open) {
            self.0 = None;
            let path = path(form, batch.day);
            let file = tree::open_log(&path).map_err(|error| error.to_string())?;
            self.0 = Some(Open {
                path,
                form: Arc::clone(form),
                file,
                torn: false,
            });
            bytes.extend_from_slice(header(form, batch.day).as_bytes());
        }
        let Some(open) = &mut self.0 else {
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
        Ok(())
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
pub(super) fn may_be_shared(folder: &std::path::Path) -> bool {
    match Kind::of(folder).sort() {
        Sort::Disk | Sort::Plain | Sort::Memory | Sort::Layers => false,
        Sort::Network | Sort::Program | Sort::Unknown => true,
    }
}
