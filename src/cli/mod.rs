//! The command line: one file per verb, and the words that teach them.
//!
//! Reads arguments and `$MAILROOT`; writes to standard output what was asked for, to standard error what is wrong.
//! What the verbs need of higher and later parts stands in [`Parts`]. Not here: what the verbs do to mail.

pub mod check;
mod demo;
mod drain;
pub mod exit;
mod init;
mod joined;
mod page;
mod place;
mod queue;
mod run;
mod service;
#[cfg(feature = "listener")]
mod sessions;
#[cfg(feature = "listener")]
mod user;

pub use exit::Exit;
pub use joined::Joined;
pub use page::Page;
pub use place::Place;
pub use run::Start;

use crate::config::{Config, LogFormat};
use crate::engine::trial;
use crate::mail::Address;
use crate::pickup::{Completeness, Malformed, Submission};
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What the verbs call: the engine for run, drain and demo; reading, routing and the network for check.
pub trait Parts {
    /// The service, until a signal ends it.
    fn run(&self, start: Start) -> Exit;
    /// The listeners alone, until a signal ends them.
    #[cfg(feature = "listener")]
    fn listen(&self, start: Start) -> Exit;
    /// Everything that is due, once. [`Exit::Ok`], [`Exit::Waiting`] or [`Exit::BadData`].
    fn drain(&self, start: Start) -> Exit;
    /// The main job shown in a folder, or in a temporary one.
    fn demo(&self, dir: Option<PathBuf>, out: &mut Page<'_>, err: &mut Page<'_>) -> Exit;

    /// Whether Pickup leaves a file of this name alone.
    fn is_ignored(&self, name: &OsStr, config: &Config) -> bool;
    /// What a message file says.
    fn read(&self, file: File, config: &Config) -> io::Result<Read>;
    /// Where a recipient goes, in words.
    fn router(&self, config: &Config) -> Box<dyn Fn(&Address) -> String>;
    /// DNS and SMTP hosts, as the engine would see them.
    fn outside(&self, config: &Config) -> Box<dyn check::Outside>;
}

/// A message file as Pickup reads it.
pub struct Read {
    /// Whether it is whole.
    pub completeness: Completeness,
    /// What it says.
    pub submission: Result<Submission, Malformed>,
}

/// The whole program: reads the command line, does it, ends.
pub fn main(parts: &dyn Parts) -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    dispatch(
        std::env::args_os(),
        std::env::var_os("MAILROOT"),
        parts,
        &mut out,
        &mut err,
    )
    .into()
}

/// [`main`] with everything from outside given.
pub fn dispatch(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
    parts: &dyn Parts,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(words) => return explain(&words, out, err),
    };
    let place = |dir| Place::choose(dir, variable, arguments.config, arguments.log.map(Into::into));
    let (out, err) = (&mut Page::new(out), &mut Page::new(err));
    match arguments.verb {
        Verb::Run { dir } => run::run(place(dir), parts, err),
        Verb::Drain { dir } => drain::drain(place(dir), parts, err),
        #[cfg(feature = "listener")]
        Verb::Listen { dir } => run::listen(place(dir), parts, err),
        #[cfg(feature = "listener")]
        Verb::Sessions { task, dir } => {
            let (wish, dir) = match task {
                None => (sessions::Wish::List, dir),
                // With --all the one argument is DIR.
                Some(SessionTask::End { id, all: true, .. }) => {
                    (sessions::Wish::End(None), id.map(PathBuf::from))
                }
                Some(SessionTask::End { id, dir, .. }) => (sessions::Wish::End(id), dir),
            };
            sessions::sessions(&place(dir), &wish, out, err)
        }
        #[cfg(feature = "listener")]
        Verb::Pause { dir } => sessions::sessions(&place(dir), &sessions::Wish::Pause, out, err),
        #[cfg(feature = "listener")]
        Verb::Resume { dir } => sessions::sessions(&place(dir), &sessions::Wish::Resume, out, err),
        #[cfg(feature = "listener")]
        Verb::User { task } => {
            let (task, dir) = task.split();
            user::user(&place(dir), &task, &mut io::stdin().lock(), out, err)
        }
        Verb::Queue {
            task: QueueTask::Release { domain, dir },
        } => queue::release(&place(dir), &domain, out, err),
        Verb::Init { dir } => init::init(&place(dir), out, err),
        Verb::Demo { dir } => parts.demo(dir, out, err),
        Verb::Check {
            targets,
            domain,
            peer,
        } => check::check(targets, &domain, peer.as_deref(), place, parts, out, err),
        Verb::Trial { files } => {
            trial::read_all(&files);
            Exit::Ok
        }
    }
}

/// Help is an answer, anything else a mistake; clap writes the words of both.
fn explain(words: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let is_answer = matches!(words.kind(), DisplayHelp | DisplayVersion);
    let text = words.render();
    if is_answer {
        let _ = write!(out, "{text}");
        Exit::Ok
    } else {
        let _ = write!(err, "{text}");
        Exit::Usage
    }
}

const EXAMPLES: &str = "\
Examples:
  mailroot demo
      see the whole job in a temporary folder, without a network
  mailroot init ./mailroot
      make the folders and a commented mailroot.toml
  mailroot check ./mailroot
      are the settings right, and could mail leave?
  mailroot run ./mailroot
      the service, until Ctrl-C or SIGTERM
  cp hello.eml ./mailroot/Pickup/
      send a message: From, To and Subject lines, a blank line, the text
  mailroot check hello.eml
      who would get this file, and by which way? sends nothing
  */5 * * * * mailroot drain /srv/mailroot
      a line for cron, where no service is wanted

DIR is the mailroot. It defaults to $MAILROOT, or ./mailroot; with --config alone it is the folder of that file. `mailroot VERB --help` tells more, with exit codes.";

#[derive(Parser)]
#[command(
    name = "mailroot",
    version,
    about = "A mail spool whose API is a directory tree: write a file into Pickup/, mailroot delivers it.",
    after_help = EXAMPLES,
    max_term_width = 110,
    disable_help_subcommand = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    arg_required_else_help = true
)]
struct Arguments {
    /// Read settings from FILE instead of DIR/mailroot.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How log lines are written to standard error
    #[arg(long, global = true, value_name = "FORMAT")]
    log: Option<LogWord>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogWord {
    Text,
    Json,
}

impl From<LogWord> for LogFormat {
    fn from(word: LogWord) -> Self {
        match word {
            LogWord::Text => Self::Text,
            LogWord::Json => Self::Json,
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Run the service: deliver what appears in Pickup until a signal ends it
    #[command(after_help = "\
Runs in the foreground and makes the tree if it is missing. Opens no port. Any number of these, and of `drain`, may \
work one mailroot at the same time.

Signals:
  SIGTERM, SIGINT   finish what is on the wire, then stop
  SIGHUP            read mailroot.toml again; with a mistake in it, the old settings stay in force

Exit codes: 0 stopped by a signal, 73 the tree cannot be made, 78 the settings are wrong.")]
    Run {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Deliver everything that is ready once, then exit: for cron and batch jobs
    #[command(after_help = "\
Takes all files in Pickup that are complete, attempts everything in Queue that is due, and exits. Safe beside a \
running service and beside itself.

Exit codes: 0 nothing is left, 65 something went to Badmail in this run, 66 there is no mailroot there, \
75 something waits in Queue or Pickup (run it again later), 78 the settings are wrong.")]
    Drain {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Take mail by SMTP, without delivering it: for a process of its own beside `run`
    #[cfg(feature = "listener")]
    #[command(after_help = "\
Opens the ports of all [listener] entries with `enabled = true` and puts what comes into Pickup; `mailroot run` does the \
same beside its own work. 250 is said when the message is on the disk.

Signals: as for `run`. SIGHUP puts other rules in force; addresses and ports stay.

Exit codes: 0 stopped by a signal, 69 a port cannot be opened, 73 the tree cannot be made, 78 the settings are wrong, or \
no listener is enabled.")]
    Listen {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Show who is at the listeners, or end a session
    #[cfg(feature = "listener")]
    #[command(args_conflicts_with_subcommands = true)]
    #[command(after_help = "\
One line for each session: its ID, since when, who, what it did last, how many messages it sent. What is shown is a \
second or two old; it stands in Status/listener/.

Exit codes: 0 done, 66 there is no such session or no mailroot.")]
    Sessions {
        #[command(subcommand)]
        task: Option<SessionTask>,
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Turn new connections away at the listeners, while sessions and delivery go on
    #[cfg(feature = "listener")]
    Pause {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Take new connections again
    #[cfg(feature = "listener")]
    Resume {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Say who may log in at the listeners
    #[cfg(feature = "listener")]
    #[command(after_help = "\
The users stand in the users_file of [listener], with Argon2 hashes of their passwords; a running listener sees a \
change at once. `add` reads the password from the first line of its input, so that it stands in no list of processes.

Exit codes: 0 done, 66 there is no such user, or the file cannot be used, 78 the settings are wrong.")]
    User {
        #[command(subcommand)]
        task: UserTask,
    },

    /// Let mail go that waits in Queue for a domain on hold
    Queue {
        #[command(subcommand)]
        task: QueueTask,
    },

    /// Check a mailroot and its way out; or say what would become of a message file
    #[command(after_help = "\
With a folder, or nothing: reads the settings, tries the folders, asks DNS and says hello to the smart host. One line \
per finding: ok, note, WARN (mail may go wrong) or FAIL (mail will), each with what to do. No message is sent.

What several processes need of the storage is tried in the folders themselves, beside a running service if need be: \
does a rename decide between racers, is a replaced file read whole, are locks, syncs, time stamps and notifications \
as they should be. The last lines of `storage` say what holds there. With --peer the same is tried through two mounts \
of one mailroot, as two machines would use it.

With files: reads each as Pickup would and shows sender and recipients, where each comes from, by which way each \
would go, and what is wrong with the file. The files stay where they are; nothing is sent. `check DIR FILE...` uses \
the settings of DIR.

Exit codes for a folder: 0 nothing fails, 78 something does.
Exit codes for files: 0 all would be taken, 65 some would not, 66 some cannot be read.")]
    Check {
        /// A mailroot, or message files [default: $MAILROOT, or ./mailroot]
        #[arg(value_name = "DIR|FILE")]
        targets: Vec<PathBuf>,

        /// Also try the way to this domain: its MX hosts, and hello to the first of them
        #[arg(long, value_name = "NAME")]
        domain: Vec<String>,

        /// The same mailroot through another mount: try what several machines need of the storage
        #[arg(long, value_name = "DIR2")]
        peer: Option<PathBuf>,
    },

    /// Read files and say nothing: a service tries so whether a message takes its reader down
    #[command(hide = true)]
    Trial {
        /// Message files
        files: Vec<PathBuf>,
    },

    /// Make the folders, and a mailroot.toml that explains every setting
    #[command(after_help = "\
Makes what is missing and changes nothing that is there, so it may be run again at any time. The tree:

  Pickup/    applications put messages here (1777: everyone may add)
  Queue/     messages on their way (0700)
  Drop/      mail for local domains (2770: chgrp it to its readers' group)
  Badmail/   what could be neither delivered nor returned, and why (0700)
  Status/    which nodes are alive (0755)
  Logs/      log files, when log.file is true (0750)

Exit codes: 0 the tree is complete, 73 something cannot be made, 78 the existing settings are wrong.")]
    Init {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },

    /// Show the whole job with a handful of files and an SMTP host of its own, without a network
    #[command(after_help = "\
Makes a mailroot, starts an SMTP host on the loopback address, puts messages into Pickup and tells what becomes of
each. It takes a few seconds. The tree is left to be looked at; DIR must be new or empty.

Exit codes: 0 all went as told, 70 something did not (it is named at the end), 73 DIR cannot be used.")]
    Demo {
        /// Where to make it [default: a new temporary folder]
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum QueueTask {
    /// Try once what waits for a domain with `hold = true`
    #[command(after_help = "\
What waits in Queue for the domain at this moment is tried once, by the route that the settings give it; what comes \
later waits for the next request, and so does what cannot be delivered now. The same as ETRN at a listener. The request \
is a file in Status/release/.

Exit codes: 0 asked, 64 that domain is not on hold, 66 there is no mailroot there, 74 the request cannot be written.")]
    Release {
        /// `example.com`; `@example.com` means all below it too
        #[arg(long, value_name = "DOMAIN")]
        domain: String,
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },
}

#[cfg(feature = "listener")]
#[derive(Subcommand)]
enum SessionTask {
    /// End a session, or all of them
    #[command(override_usage = "mailroot sessions end <ID> [DIR]\n       mailroot sessions end --all [DIR]")]
    End {
        /// As `mailroot sessions` names it
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        #[arg(conflicts_with = "all")]
        dir: Option<PathBuf>,
        /// End all
        #[arg(long)]
        all: bool,
    },
}

#[cfg(feature = "listener")]
#[derive(Subcommand)]
enum UserTask {
    /// Add a user, or change his password
    Add {
        /// The user's name
        name: String,
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },
    /// Remove a user
    Remove {
        /// The user's name
        name: String,
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },
    /// List the users
    List {
        /// The mailroot [default: $MAILROOT, or ./mailroot]
        dir: Option<PathBuf>,
    },
}

#[cfg(feature = "listener")]
impl UserTask {
    fn split(self) -> (user::Task, Option<PathBuf>) {
        match self {
            Self::Add { name, dir } => (user::Task::Add(name), dir),
            Self::Remove { name, dir } => (user::Task::Remove(name), dir),
            Self::List { dir } => (user::Task::List, dir),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
