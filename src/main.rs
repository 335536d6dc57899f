//! The program `mailroot`: everything is in the library.

use mailroot::cli::check::{Lookup, Outside, SmartHost};
use mailroot::cli::{self, Exit, Parts, Read, Start};
use mailroot::config::Config;
use mailroot::mail::Address;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&NotJoined)
}

/// Stands where the engine, the reader of messages, routes, DNS and the SMTP client will be joined to the verbs:
/// says plainly that they are not there.
struct NotJoined;

const WORDS: &str = "this part is not in this build";

fn absent() -> Exit {
    use io::Write;
    let _ = writeln!(io::stderr(), "mailroot: {WORDS}");
    Exit::Unavailable
}

impl Parts for NotJoined {
    fn run(&self, _: Start) -> Exit {
        absent()
    }
    fn drain(&self, _: Start) -> Exit {
        absent()
    }
    fn demo(&self, _: Option<PathBuf>) -> Exit {
        absent()
    }
    fn is_ignored(&self, _: &OsStr, _: &Config) -> bool {
        false
    }
    fn read(&self, _: File, _: &Config) -> io::Result<Read> {
        Err(io::Error::other(WORDS))
    }
    fn router(&self, _: &Config) -> Box<dyn Fn(&Address) -> String> {
        Box::new(|_| WORDS.to_owned())
    }
    fn outside(&self, _: &Config) -> Box<dyn Outside> {
        Box::new(Self)
    }
}

impl Outside for NotJoined {
    fn mx(&self, _: &str) -> Lookup<Vec<(u16, String)>> {
        Lookup::Failed(WORDS.to_owned())
    }
    fn addresses(&self, _: &str) -> Lookup<Vec<IpAddr>> {
        Lookup::Failed(WORDS.to_owned())
    }
    fn hello(&self, _: &SmartHost) -> Result<String, String> {
        Err(WORDS.to_owned())
    }
}
