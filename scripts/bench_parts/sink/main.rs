//! The other side of `scripts/bench`: an SMTP host that counts and discards, and small loops that show what this
//! machine gives at best.
//!
//! ```text
//! sink serve [--chunking] [--away MS]   prints "port N"; on stdin "wait N SECONDS" and "count", each answered in
//!                                       one line; ends with stdin. --away: each reply comes MS later
//! sink bare PICKUP WORK PORT            open, read, rename to WORK, send pipelined, unlink: nothing else
//!      [--bdat] [--connections N] [--journal] [--lockstep]
//!                                       --journal: a synced record before each unlink, one sync for all that wait;
//!                                       --lockstep: each command waits for the reply to the one before
//! sink flood SIZE COUNT PORT            the same without a disk: what the sink takes
//!      [--bdat] [--connections N]
//! sink copy FOLDER PORT [--connections N]
//!                                       files that hold the wire form already, each through the socket as it is
//! sink durable FOLDER SIZE COUNT [--connections THREADS]
//!                                       write, fsync, rename, sync of the folder, for each file; prints "seconds S"
//! sink fill FOLDER TEMPLATE COUNT       so many files like this one; 0000000 in it becomes the number
//! sink defer QUEUE TEMPLATE RECEIVER COUNT
//!                                       so many deferred messages like this one
//! sink latency PICKUP TEMPLATE COUNT    a host of its own: prints "port N", begins at a line on stdin, prints
//!                                       "renamed" and "in-place" with the milliseconds of each file
//! ```
//!
//! Not here: the comparison, the table (`scripts/bench`).

mod away;
mod bare;
mod disk;
mod latency;
mod serve;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::of(&words);
    let plain: Vec<&str> = options.plain.iter().map(String::as_str).collect();
    let done = match plain.as_slice() {
        ["serve"] => serve::serve(&options),
        ["bare", pickup, work, port] => bare::bare(Path::new(pickup), Path::new(work), port, &options),
        ["flood", size, count, port] => bare::flood(size, count, port, &options),
        ["copy", folder, port] => bare::copy(Path::new(folder), port, &options),
        ["durable", folder, size, count] => disk::durable(Path::new(folder), size, count, &options),
        ["fill", folder, template, count] => {
            disk::fill(Path::new(folder), Path::new(template), count, &options)
        }
        ["defer", queue, template, receiver, count] => {
            disk::defer(Path::new(queue), Path::new(template), receiver, count, &options)
        }
        ["latency", pickup, template, count] => {
            latency::latency(Path::new(pickup), Path::new(template), count)
        }
        _ => Err(io::Error::other("usage: see the head of main.rs")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All options of all forms.
#[derive(Default)]
struct Options {
    chunking: bool,
    bdat: bool,
    journal: bool,
    lockstep: bool,
    away: Duration,
    connections: usize,
    plain: Vec<String>,
}

impl Options {
    fn of(words: &[String]) -> Self {
        let mut options = Self {
            connections: 2,
            ..Self::default()
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
            match word.as_str() {
                "--chunking" => options.chunking = true,
                "--bdat" => options.bdat = true,
                "--journal" => options.journal = true,
                "--lockstep" => options.lockstep = true,
                "--away" => options.away = Duration::from_millis(number().into()),
                "--connections" => options.connections = usize::try_from(number()).unwrap_or(1).max(1),
                _ => options.plain.push(word.clone()),
            }
        }
        options
    }
}

/// A mutex whose other user has panicked is an error like any other.
fn poisoned<T>(_: T) -> io::Error {
    io::Error::other("a thread failed")
}

/// The same work in so many threads; the first error of any.
fn at_once(threads: usize, work: impl Fn() -> io::Result<()> + Sync) -> io::Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let ended: Vec<_> = all
            .into_iter()
            .map(|one| one.join().map_err(poisoned).and_then(|ended| ended))
            .collect();
        ended.into_iter().collect()
    })
}
