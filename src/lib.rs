//! mailroot: a mail spool whose API is a directory tree.

pub mod config;
pub mod dns;
pub mod mail;
pub mod pickup;
pub mod route;
pub mod smtp;
