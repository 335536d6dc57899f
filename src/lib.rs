//! mailroot: a mail spool whose API is a directory tree.
//!
//! ```text
//! application ──writes──▶ Pickup/              whoever can write a file can send mail
//!                           │ claim (one rename)
//!                           ▼
//!                        Queue/  ID@NODE.EML ⇄ ID.EML    ID.ENV  ID.LTR  ID.RTR
//!                           │ attempt
//!             ┌─────────────┼───────────────┐
//!             ▼ local       ▼ remote        ▼ failed
//!           Drop/        SMTP host       DSN ─▶ Queue/      nobody to tell ─▶ Badmail/
//!             │
//! application ◀──reads──
//! ```
//!
//! The program is for people who write files; this library is the program in pieces, for those who read or test it.
//!
//! # Floors, and the order to read in
//!
//! | floor | modules | |
//! |:-:|---|---|
//! | 0 | [`mail`] | the words: IDs, addresses, envelopes, outcomes, header fields. No I/O |
//! | 1 | [`mailroot`] | the disk: the only module that creates, renames, syncs or removes |
//! | 2 | [`pickup`] [`queue`] [`mod@drop`] [`badmail`] [`report`] [`route`] [`dns`] [`smtp`] | one idea each; none knows the others' order |
//! | 3 | [`engine`] | the order of things; its head is the thread map |
//! | 4 | [`cli`] | the verbs |
//!
//! Beside the building: [`config`], [`clock`], [`log`], [`w3c`], [`stop`], [`timed`] for all floors; [`plugins`], which touch the tree
//! only; and [`practice`], an SMTP host for the
//! demo and the tests. A module names only lower floors; `tests/tidy.rs` holds that as a test.
//! `ARCHITECTURE.md` tells the same for people, with the state table and what is on the disk after a power cut.

pub mod badmail;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dns;
pub mod drop;
pub mod engine;
pub mod log;
pub mod mail;
pub mod mailroot;
pub mod pickup;
pub mod plugins;
pub mod practice;
pub mod queue;
pub mod report;
pub mod route;
pub mod smtp;
pub mod stop;
pub mod timed;
pub mod w3c;

/// What must hold for any input: the bodies of the fuzzing targets (`scripts/fuzz`), run here over their seeds.
#[cfg(test)]
#[path = "../tests/fuzz_targets/mod.rs"]
mod fuzz_targets;

#[cfg(test)]
#[path = "../tests/support/effort.rs"]
mod effort;
