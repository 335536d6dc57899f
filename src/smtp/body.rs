//! What a transaction sends: the content of one message, seen from the client.
//!
//! Reads and writes: nothing itself. Thread: the session's. Not here: how the bytes come about ([`super::content`]).

use std::io;

/// The content of one message, ready to be written as often as there are hosts to try.
///
/// An error from `out` is the host's trouble, any other is our own disk's: who calls must tell them apart.
pub trait Body {
    /// Bytes without dot-stuffing: for `SIZE=`.
    fn size(&self) -> u64;
    /// Whether `BODY=8BITMIME` is due.
    fn needs_eight_bit(&self) -> bool;
    /// For `DATA`: dot-stuffed, ends with CRLF, without the final `.` line.
    fn write_data(&self, out: &mut dyn io::Write) -> io::Result<()>;
    /// For `BDAT`: no stuffing, ends with CRLF.
    fn write_plain(&self, out: &mut dyn io::Write) -> io::Result<()>;
}
