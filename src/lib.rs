//! mailroot: a mail spool whose API is a directory tree.

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
pub mod practice;
pub mod queue;
pub mod report;
pub mod route;
pub mod smtp;
pub mod stop;
