//! How long a file takes from the moment it is finished to the moment at which the host has it, one after the other.

use mailroot::practice::{Host, Script};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// What one file may take before the whole measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two files: the engine is idle, and does not see them at a steady beat of its own.
const PAUSES: [u64; 5] = [20, 35, 50, 80, 110];

/// Prints "port N" and waits for a line: then so many files like this one are laid into Pickup, renamed in or written
/// in place. Prints a line of milliseconds for each way.
pub fn latency(pickup: &Path, template: &Path, count: &str) -> io::Result<()> {
    let offers = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"];
    let host = Host::start(Script::new().offering(&offers).discarding())?;
    println!("port {}", host.port());
    io::stdin().lock().read_line(&mut String::new())?;
    let content = std::fs::read(template)?;
    let count: u64 = count.parse().map_err(io::Error::other)?;
    let staged = pickup.with_file_name("staged");
    for (way, renamed) in [("renamed", true), ("in-place", false)] {
        let mut line = way.to_owned();
        for number in 0..count {
            let pause = PAUSES.get(usize::try_from(number).unwrap_or(0) % PAUSES.len());
            std::thread::sleep(Duration::from_millis(pause.copied().unwrap_or(50)));
            let before = host.counts().messages;
            let to = pickup.join(format!("{way}-{number}.eml"));
            let finished = if renamed {
                File::create_new(&staged)?.write_all(&content)?;
                let finished = Instant::now();
                std::fs::rename(&staged, to)?;
                finished
            } else {
                let mut file = File::create_new(to)?;
                file.write_all(&content)?;
                let finished = Instant::now();
                drop(file);
                finished
            };
            host.wait_for(before + 1, PATIENCE).map_err(io::Error::other)?;
            line.push_str(&format!(" {:.3}", finished.elapsed().as_secs_f64() * 1000.0));
        }
        println!("{line}");
    }
    Ok(())
}
