//! The program `mailroot`: everything is in the library.

use mailroot::cli;
use std::process::ExitCode;

/// Messages are made in some threads and forgotten in others, many thousand times a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(&cli::Joined)
}
