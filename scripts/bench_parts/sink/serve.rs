//! The host: counts and discards until stdin ends. A thread for each connection (`practice::Host`).

use crate::{Options, away};
use mailroot::practice::{Host, Script};
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

pub fn serve(options: &Options) -> io::Result<()> {
    let mut script = Script::new()
        .offering(&["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"])
        .discarding();
    if options.chunking {
        script = script.also_offering("CHUNKING");
    }
    let host = Host::start(script)?;
    let port = if options.away.is_zero() {
        host.port()
    } else {
        away::relay(host.port(), options.away)?
    };
    let mut out = io::stdout();
    writeln!(out, "port {port}")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["wait", count, seconds] = words.as_slice() {
            let count = count.parse().map_err(io::Error::other)?;
            wait(&host, count, seconds.parse().map_err(io::Error::other)?);
        }
        let counts = host.counts();
        writeln!(
            out,
            "messages {} recipients {} bytes {} most_open {} commands {} violations {}",
            counts.messages,
            counts.recipients,
            counts.bytes,
            counts.most_open,
            counts.commands,
            host.violations().len()
        )?;
    }
    if let Some(first) = host.violations().first() {
        eprintln!("sink: a sender broke the protocol: {first}");
    }
    Ok(())
}

/// Looks now and then instead of being woken by each message: the waiting must not cost the cores anything.
fn wait(host: &Host, count: u64, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while host.counts().messages < count && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}
