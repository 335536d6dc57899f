//! The password or token of an [`Auth`](crate::config::Auth), read at each use and kept nowhere.
//!
//! Reads one file, or runs one command. Blocks the session's thread for at most [`COMMAND_TIME`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};

use crate::config::SecretSource;

/// A command gets this long.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// A token is a few KiB.
const MAX_SECRET: u64 = 64 * 1024;

/// The first line of the file or of the command's output; the error is a clause in words.
pub(super) fn read(source: &SecretSource) -> Result<String, String> {
    let (bytes, whence) = match source {
        SecretSource::File(path) => (read_file(path)?, path.display().to_string()),
        SecretSource::Command(words) => {
            let shown = words.first().map_or("", String::as_str);
            (run(words, COMMAND_TIME)?, format!("the command {shown}"))
        }
    };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(format!("the first line of {whence} is empty")),
        Ok(secret) if secret.contains('\0') => Err(format!("the first line of {whence} holds a NUL")),
        Ok(secret) => Ok(secret.to_owned()),
        Err(_) => Err(format!("the first line of {whence} is not UTF-8")),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET).read_to_end(&mut bytes))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(bytes)
}

/// What a command prints, when it ends well and in time. Its whole process group ends with the time.
fn run(words: &[String], time: Duration) -> Result<Vec<u8>, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("no command is given".to_owned());
    };
    let until = Instant::now() + time;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the command {program} cannot be started: {error}"))?;
    let output = read_output(&mut child, until);
    let ended = match output {
        Ok(_) => wait(&mut child, until),
        Err(_) => None,
    };
    let Some(status) = ended else {
        kill(&mut child);
        return Err(match output {
            Err(Some(error)) => format!("the output of the command {program} cannot be read: {error}"),
            _ => format!("the command {program} did not end within {} s", time.as_secs()),
        });
    };
    match output {
        Ok(bytes) if status.success() => Ok(bytes),
        _ => Err(format!("the command {program} failed ({status})")),
    }
}

/// Reads to the end on a thread of its own, since a pipe has no deadline. `Err(None)` when the time is over.
fn read_output(child: &mut Child, until: Instant) -> Result<Vec<u8>, Option<io::Error>> {
    let Some(pipe) = child.stdout.take() else {
        return Ok(Vec::new());
    };
    let (done, output) = bounded(1);
    std::thread::Builder::new()
        .name("secret".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.take(MAX_SECRET).read_to_end(&mut bytes);
            let _ = done.send(read.map(|_| bytes));
        })
        .map_err(Some)?;
    select! {
        recv(output) -> read => match read {
            Ok(read) => read.map_err(Some),
            Err(_) => Err(None),
        },
        recv(crossbeam_channel::at(until)) -> _ => Err(None),
    }
}

fn wait(child: &mut Child, until: Instant) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(String::from).to_vec()
    }

    #[test]
    fn the_first_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = SecretSource::File(path.clone());
        assert!(read(&source).unwrap_err().contains("cannot be read"));
        for (text, secret) in [
            ("hunter2\nmore", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" a b ", " a b "),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&source).unwrap(), secret);
        }
        std::fs::write(&path, "\nx").unwrap();
        assert!(read(&source).unwrap_err().contains("is empty"));
        std::fs::write(&path, "a\0b\n").unwrap();
        assert!(read(&source).unwrap_err().contains("NUL"));
    }

    #[test]
    fn the_first_line_that_a_command_prints() {
        let source = SecretSource::Command(sh("echo token; echo more"));
        assert_eq!(read(&source).unwrap(), "token");
        let source = SecretSource::Command(sh("echo token; exit 3"));
        assert!(read(&source).unwrap_err().contains("failed (exit status: 3)"));
        let source = SecretSource::Command(vec!["/no/such/program".into()]);
        assert!(read(&source).unwrap_err().contains("cannot be started"));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        for script in ["echo x; sleep 30", "sleep 30 & sleep 30", "exec >&-; sleep 30"] {
            let began = Instant::now();
            let error = run(&sh(script), Duration::from_millis(300)).unwrap_err();
            assert!(error.contains("did not end within"), "{script}: {error}");
            assert!(began.elapsed() < Duration::from_secs(10));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_child_of_a_hanging_command_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        run(&sh(&script), Duration::from_millis(500)).unwrap_err();
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let until = Instant::now() + Duration::from_secs(5);
        while lives() && Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(!lives());
    }
}
