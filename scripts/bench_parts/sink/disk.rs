//! The disk's side: what it gives at best for files that must each be durable, and folders filled by the million.

use crate::{Options, at_once};
use std::fs::{File, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// Stands in a template where each file has its number.
const NUMBER: &str = "0000000";
/// Two transcripts for each message would be two million files that nobody reads: links to few do as well for whoever
/// lists them. ext4 allows 65,000 links to a file.
const LINKS: u64 = 50_000;
/// When the deferred ones are due.
const DUE_IN: Duration = Duration::from_secs(12 * 3600);

/// So many files of that size: write, fsync, rename, sync of the folder. All threads share the folder, so that syncs
/// that fall together share a commit of the file system's journal.
pub fn durable(folder: &Path, size: &str, count: &str, options: &Options) -> io::Result<()> {
    let size: usize = size.parse().map_err(io::Error::other)?;
    let content = vec![b'x'; size];
    let began = Instant::now();
    let itself = File::open(folder)?;
    for_each(count, options, |number| {
        let written = folder.join(format!("{number:08}.tmp"));
        let mut file = File::create_new(&written)?;
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(written, folder.join(format!("{number:08}.eml")))?;
        itself.sync_all()
    })?;
    println!("seconds {}", began.elapsed().as_secs_f64());
    Ok(())
}

/// So many files like this one.
pub fn fill(folder: &Path, template: &Path, count: &str, options: &Options) -> io::Result<()> {
    let template = std::fs::read_to_string(template)?;
    for_each(count, options, |number| {
        let name = format!("{number:07}");
        File::create_new(folder.join(format!("{name}.eml")))?
            .write_all(template.replace(NUMBER, &name).as_bytes())
    })
}

/// So many messages in a Queue that have been tried once and are due much later, with all the files that they have.
pub fn defer(
    queue: &Path,
    template: &Path,
    receiver: &str,
    count: &str,
    options: &Options,
) -> io::Result<()> {
    let template = std::fs::read_to_string(template)?;
    let now = SystemTime::now();
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(io::Error::other)?;
    let shown = |time: SystemTime| {
        jiff::Timestamp::try_from(time)
            .map(|time| format!("{time:.3}"))
            .map_err(io::Error::other)
    };
    let (arrived, next) = (shown(now)?, shown(now + DUE_IN)?);
    for_each(count, options, |number| {
        let millis = u64::try_from(since.as_millis()).map_err(io::Error::other)?;
        let random = u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 16;
        let id = ulid::Ulid::from_parts(millis, random).to_string();
        let mut message = File::create_new(queue.join(format!("{id}.EML")))?;
        message.write_all(template.replace(NUMBER, &format!("{number:07}")).as_bytes())?;
        message.set_times(FileTimes::new().set_modified(now))?;
        let record = format!(
            "mailroot-env 1\nid {id}\nfile {number:07}.eml\narrived {arrived}\nsender <bench@sender.example>\nmtime {}\n\
             rcpt open tries=1 next={next} <{receiver}>\n\
             last deferred 4.4.1 {arrived} at=[192.0.2.1]:25 connection refused\nend\n",
            since.as_nanos()
        );
        File::create_new(queue.join(format!("{id}.ENV")))?.write_all(record.as_bytes())?;
        for ending in ["LTR", "RTR"] {
            transcript(queue, number / LINKS, &id, ending)?;
        }
        Ok(())
    })
}

fn transcript(queue: &Path, group: u64, id: &str, ending: &str) -> io::Result<()> {
    let shared = beside(queue, &format!("transcript-{group}.{ending}"));
    let to = queue.join(format!("{id}.{ending}"));
    match std::fs::hard_link(&shared, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::write(&shared, "a transcript\n")?;
            std::fs::hard_link(shared, to)
        }
        done => done,
    }
}

/// In the folder above.
fn beside(queue: &Path, name: &str) -> PathBuf {
    queue.parent().unwrap_or(queue).join(name)
}

/// The numbers from 0, each given to one of the threads.
fn for_each(count: &str, options: &Options, work: impl Fn(u64) -> io::Result<()> + Sync) -> io::Result<()> {
    let count: u64 = count.parse().map_err(io::Error::other)?;
    let next = AtomicU64::new(0);
    at_once(options.connections, || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= count {
                return Ok(());
            }
            work(number)?;
        }
    })
}
