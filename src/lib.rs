//! mailroot: a mail spool whose API is a directory tree.

pub mod config;
pub mod mail;
pub mod pickup;
pub mod practice;
pub mod smtp;
