//! Whether a message takes down the process that reads it: tried in a process of its own.
//!
//! A panic is caught where it happens; what ends a whole process (a stack that overflows, memory that runs out) leaves
//! only claims of a dead node. Most of these are innocent: the process was killed, or the machine lost its power. So
//! whatever was taken over from the dead is first read by a child process; a message whose reader dies has now taken
//! down two, and goes to Badmail.
//!
//! Reads: the messages, in the child. Writes: nothing. Thread: keeper. Not here: the burying (keeper).

use super::job::Source;
use super::shared::Shared;
use crate::config::Config;
use crate::mail::MessageId;
use crate::mailroot::evidence::open_plain;
use crate::pickup::read::{self, ReadRules};
use crate::queue::env::timestamp;
use crate::smtp::content::{Abilities, Content, stamps};
use crate::stop::Stop;
use rayon::prelude::*;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tracing::{debug, error};

/// The verb that reads files and says nothing.
pub const VERB: &str = "trial";
/// Messages that one child reads; when it dies, each is tried alone.
const TOGETHER: usize = 256;
/// So many are read at a time.
const THREADS: usize = 16;
/// Longer messages are not read in a trial: they are never read as a whole.
const LONGEST: u64 = 128 << 20;
/// A child that is not done after this has hung.
const PATIENCE: Duration = Duration::from_secs(30);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program has the verb. Without it nothing is tried.
pub fn set_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// Of messages that wait in Queue, those that take their reader down.
pub fn guilty(shared: &Shared, suspects: &[MessageId]) -> Vec<MessageId> {
    let Some(program) = PROGRAM.get() else {
        return Vec::new();
    };
    let suspects: Vec<Suspect> = suspects
        .iter()
        .map(|&id| (id, shared.spool.waiting(id)))
        .collect();
    guilty_by(program, &suspects, &shared.stop)
}

/// A message and its file.
type Suspect = (MessageId, PathBuf);

fn guilty_by(program: &Path, suspects: &[Suspect], stop: &Stop) -> Vec<MessageId> {
    let mut found = Vec::new();
    for together in suspects.chunks(TOGETHER) {
        if survives(program, together, stop) {
            continue;
        }
        for suspect in together {
            if stop.is_set() {
                return found;
            }
            if !survives(program, std::slice::from_ref(suspect), stop) {
                let id = suspect.0;
                error!(%id, "reading this message takes the process down; please report it with the message file");
                found.push(id);
            }
        }
    }
    found
}

fn survives(program: &Path, suspects: &[Suspect], stop: &Stop) -> bool {
    let child = Command::new(program)
        .arg(VERB)
        .args(suspects.iter().map(|(_, path)| path))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            debug!(%error, "no trial: taken for innocent");
            return true;
        }
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.signal().is_none(),
            Ok(None) if Instant::now() < deadline && !stop.is_set() => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => {
                let _ = child.kill();
                let _ = child.wait();
                return other.is_err() || stop.is_set();
            }
        }
    }
}

/// The child: does with each file all that reading and sending do with its bytes. Errors are nobody's death. Many at a
/// time: keeper waits, and on network storage each read is a long wait.
pub fn read_all(files: &[PathBuf]) {
    let read = |file: &PathBuf| {
        let _ = read_one(file);
    };
    match rayon::ThreadPoolBuilder::new().num_threads(THREADS).build() {
        Ok(pool) => pool.install(|| files.par_iter().with_max_len(1).for_each(read)),
        Err(_) => files.iter().for_each(read),
    }
}

fn read_one(path: &Path) -> io::Result<()> {
    let file = open_plain(path)?;
    let source = Source::open(&file, file.metadata()?.len())?;
    let Ok(config) = Config::parse("", Path::new("."), "trial.invalid") else {
        return Ok(());
    };
    let rules = ReadRules {
        max_size: LONGEST,
        ..ReadRules::from_config(&config)
    };
    let reading = read::read(&source, &rules)?;
    let source = reading.transcoded.clone().map_or(source, Source::Transcoded);
    let Ok(submission) = reading.when_final() else {
        return Ok(());
    };
    let id = MessageId::generate();
    let sender = submission.envelope.sender.as_ref();
    let stamps = stamps(
        id,
        "trial.invalid",
        timestamp(id.arrived_ms()),
        sender,
        &config.reports.postmaster,
        submission.layout.missing,
    );
    for eight_bit in [true, false] {
        let can = Abilities {
            eight_bit,
            utf8_headers: eight_bit,
            max_line: 998,
        };
        let content = Content::plan(&source, &submission.layout, &stamps, can)?;
        content.write_plain(&mut io::sink())?;
        content.write_data(&mut io::sink())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_kills_its_reader_is_found_among_the_innocent() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let reader = dir.path().join("reader");
        std::fs::write(
            &reader,
            "#!/bin/sh\nif grep -q deadly \"$@\"; then kill -9 $$; fi\n",
        )
        .unwrap();
        std::fs::set_permissions(&reader, std::fs::Permissions::from_mode(0o755)).unwrap();
        let suspects: Vec<Suspect> = ["hello", "deadly", "bye"]
            .iter()
            .map(|text| {
                let id = MessageId::generate();
                let path = dir.path().join(id.to_string());
                std::fs::write(&path, text).unwrap();
                (id, path)
            })
            .collect();
        let found = guilty_by(&reader, &suspects, &Stop::default());
        assert_eq!(found, vec![suspects[1].0]);
        let innocent = &suspects[..1];
        assert_eq!(guilty_by(&reader, innocent, &Stop::default()), vec![]);
        let nothing = dir.path().join("nothing");
        assert_eq!(
            guilty_by(&nothing, &suspects, &Stop::default()),
            vec![],
            "no reader, no verdict"
        );
    }

    #[test]
    fn reading_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good.eml");
        std::fs::write(&good, "From: a@b.example\nTo: c@d.example\n\n.\nhi \u{e4}\n").unwrap();
        let bad = dir.path().join("bad.eml");
        std::fs::write(&bad, [0, 1, 2]).unwrap();
        assert!(read_one(&good).is_ok());
        read_all(&[good, bad, dir.path().join("nothing"), dir.path().to_owned()]);
    }
}
