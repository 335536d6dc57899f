//! mailroot: a mail spool whose API is a directory tree.

pub mod badmail;
pub mod config;
pub mod mail;
pub mod pickup;
pub mod report;
pub mod smtp;
