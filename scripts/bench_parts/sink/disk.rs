//! What the disk gives at best for files that must each be durable before the next step.

use crate::{Options, at_once};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// So many files of that size: write, fsync, rename, sync of the folder. All threads share the folder, so that syncs
/// that fall together share a commit of the file system's journal.
pub fn durable(folder: &Path, size: &str, count: &str, options: &Options) -> io::Result<()> {
    let size: usize = size.parse().map_err(io::Error::other)?;
    let count: u64 = count.parse().map_err(io::Error::other)?;
    let content = vec![b'x'; size];
    let next = AtomicU64::new(0);
    let began = Instant::now();
    at_once(options.connections, || {
        let itself = File::open(folder)?;
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= count {
                return Ok(());
            }
            put(folder, &itself, number, &content)?;
        }
    })?;
    println!("seconds {}", began.elapsed().as_secs_f64());
    Ok(())
}

fn put(folder: &Path, itself: &File, number: u64, content: &[u8]) -> io::Result<()> {
    let written = folder.join(format!("{number:08}.tmp"));
    let mut file = File::create_new(&written)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(written, folder.join(format!("{number:08}.eml")))?;
    itself.sync_all()
}
