//! The mailroot binary as a child process: with a deadline, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::holds_within;

/// Nothing that ends by itself may take longer than this.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A child process; killed when dropped.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// Runs `mailroot ARGS` to its end; a run that does not end is killed and fails the test.
pub fn mailroot(notes: &Path, args: &[&str]) -> Finished {
    let mut running = start(notes, args);
    assert!(
        running.ends_within(DEADLINE).is_some(),
        "mailroot {args:?} did not end within {DEADLINE:?}; it said:\n{}",
        running.stderr()
    );
    running.finish()
}

/// Starts `mailroot ARGS`. What it prints goes to numbered files in `notes`, so that no pipe can fill up.
pub fn start(notes: &Path, args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroot"));
    command.args(args).env_remove("MAILROOT").env("TZ", "UTC");
    start_command(notes, command)
}

/// Starts any command in the same way.
pub fn start_command(notes: &Path, mut command: Command) -> Running {
    std::fs::create_dir_all(notes).unwrap();
    let number = std::fs::read_dir(notes).unwrap().count() / 2;
    let (stdout, stderr) = (
        notes.join(format!("{number:03}.out")),
        notes.join(format!("{number:03}.err")),
    );
    let child = command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Running {
        child,
        stdout,
        stderr,
    }
}

impl Running {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // an error means that it has ended already
        let _ = kill_process(pid, signal);
    }

    /// SIGTERM, then its end; a service that does not end is killed and fails the test.
    pub fn stop(mut self) -> Finished {
        self.signal(Signal::TERM);
        assert!(
            self.ends_within(DEADLINE).is_some(),
            "no end within {DEADLINE:?} of SIGTERM; it said:\n{}",
            self.stderr()
        );
        self.finish()
    }

    /// SIGKILL: a crash.
    pub fn crash(mut self) -> Finished {
        let _ = self.child.kill();
        self.finish()
    }

    /// Its exit status, if it ends in time.
    pub fn ends_within(&mut self, within: Duration) -> Option<ExitStatus> {
        let mut status = None;
        holds_within(within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }

    /// The most memory that it had at any time, in KiB; 0 where the system does not say.
    pub fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    fn finish(mut self) -> Finished {
        let status = self.child.wait().unwrap();
        Finished {
            code: status.code(),
            stdout: lossy(&self.stdout),
            stderr: lossy(&self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
