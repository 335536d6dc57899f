//! mailroot: a mail spool whose API is a directory tree.

pub mod cli;
pub mod config;
pub mod log;
pub mod mail;
pub mod mailroot;
pub mod pickup;
pub mod queue;
pub mod smtp;
