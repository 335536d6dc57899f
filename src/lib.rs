//! mailroot: a mail spool whose API is a directory tree.

pub mod cli;
pub mod badmail;
pub mod config;
pub mod clock;
pub mod dns;
pub mod drop;
pub mod engine;
pub mod stop;
pub mod log;
pub mod mail;
pub mod mailroot;
pub mod pickup;
pub mod queue;
pub mod report;
pub mod route;
pub mod practice;
pub mod smtp;
