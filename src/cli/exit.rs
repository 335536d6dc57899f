//! Exit codes: those of sysexits.h, so that cron, systemd and scripts can tell one end from another.

use std::process::ExitCode;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, and nothing is left to tell.
    Ok = 0,
    /// The command line was not understood (EX_USAGE).
    Usage = 64,
    /// A message went, or would go, to Badmail (EX_DATAERR).
    BadData = 65,
    /// A file or folder that was named is not there or cannot be read (EX_NOINPUT).
    NoInput = 66,
    /// A part that is needed is not there (EX_UNAVAILABLE).
    Unavailable = 69,
    /// Something that cannot happen did (EX_SOFTWARE).
    Software = 70,
    /// The system refused what every program may do (EX_OSERR).
    System = 71,
    /// The tree cannot be made (EX_CANTCREAT).
    CannotCreate = 73,
    /// Trouble of the disk (EX_IOERR).
    Disk = 74,
    /// Something waits in Queue or Pickup (EX_TEMPFAIL).
    Waiting = 75,
    /// The settings, or what they rely on, are wrong (EX_CONFIG).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
