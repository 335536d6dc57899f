//! The program `mailroot`: everything is in the library.

use mailroot::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&cli::Joined)
}
