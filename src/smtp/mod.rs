//! Floor 2: the SMTP client (RFC 5321). Talks to one host; knows no queue and no tree.

pub mod body;
pub mod content;

pub use body::Body;
