//! `mailroot demo`: a real run of the real engine, told in the order in which a newcomer follows it.
//!
//! Reads and writes: a new mailroot, in a temporary folder or where it was asked for; a port on loopback. Thread:
//! main; the engine and the practice host have their own.
//! Nothing that is told is written down here beforehand: outcomes come from the tree ([`facts`]), from the log that
//! lies in it ([`events`]) and from what the practice host holds. [`samples`] says what should have come of each
//! file, and what differs from that is told as well and ends the demo with exit code 70.

mod events;
mod facts;
mod ground;
mod next;
mod samples;
mod story;
mod tree;

use super::{Exit, Page};
use crate::config::Loaded;
use crate::engine::{Engine, Mode};
use crate::log::Logging;
use facts::Facts;
use ground::Ground;
use samples::Sample;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// By then everything must have come to rest; it usually has after two seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the tree is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Runs it and tells it.
pub(super) fn show(dir: Option<PathBuf>, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit {
    match perform(dir, out) {
        Ok(exit) => exit,
        Err((exit, why)) => {
            err.text(&format!("mailroot: {why}"));
            exit
        }
    }
}

fn perform(dir: Option<PathBuf>, out: &mut Page<'_>) -> Result<Exit, (Exit, String)> {
    let ground = Ground::prepare(dir)?;
    let loaded = Loaded::read(&ground.dir, None).map_err(|error| (Exit::Config, error.to_string()))?;
    let samples = samples::all();
    let begin = Instant::now();
    let rested = run(&ground, &loaded, &samples)?;
    let took = begin.elapsed();
    let facts = Facts::gather(&ground, &samples).map_err(|error| {
        (
            Exit::Disk,
            format!("{} cannot be read: {error}", ground.dir.display()),
        )
    })?;

    story::opening(out, &ground, &samples, took);
    story::fates(out, &facts);
    tree::show(out, &ground.dir);
    next::steps(out, &ground.dir, &facts);
    let wrong = facts.differences(rested);
    story::differences(out, &wrong, &ground.dir);
    Ok(if wrong.is_empty() {
        Exit::Ok
    } else {
        Exit::Software
    })
}

/// From start to stop of the engine; whether everything came to rest in time.
fn run(ground: &Ground, loaded: &Loaded, samples: &[Sample]) -> Result<bool, (Exit, String)> {
    Logging::start_unseen(&loaded.config.log, &loaded.config.folders.logs);
    let engine = Engine::start(loaded.config.clone(), Mode::Run).map_err(|why| (Exit::CannotCreate, why))?;
    let mut put = Ok(());
    for sample in samples {
        put = put.and_then(|()| ground.put(sample));
    }
    let rested = put.is_ok() && wait_for_rest(ground);
    engine.finish();
    put.map(|()| rested)
}

/// Two looks in a row: while a folder is listed, a file can change its name from one not yet read to one not to come.
fn wait_for_rest(ground: &Ground) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = 0;
    while looks < 2 {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
        looks = if facts::is_at_rest(&ground.dir) {
            looks + 1
        } else {
            0
        };
    }
    true
}
