//! What a transaction is made of: the envelope part for one host, and the message as bytes for the wire.

use std::io;

use crate::mail::{Address, Recipient, Ret};

/// One message for some recipients at one host.
pub struct Transaction<'a> {
    /// `None` is the null sender.
    pub sender: Option<&'a Address>,
    /// RET, passed on when the host offers DSN.
    pub ret: Option<Ret>,
    /// ENVID in xtext, passed on when the host offers DSN.
    pub envid: Option<&'a str>,
    /// A header holds bytes above 127, so that SMTPUTF8 is due where it is offered (addresses are looked at here).
    pub utf8: bool,
    /// At least one.
    pub recipients: &'a [&'a Recipient],
    /// Given when a record of this transaction may be due. Then the content waits for what is answered to the
    /// recipients, so that nothing but the reply to it is to be read between its end and that record; and this is
    /// called before, when not all of them are taken.
    pub before_partial: Option<&'a dyn Fn()>,
}

/// A message as it goes over the wire. It can be written more than once and gives the same bytes each time.
///
/// An error of these functions is trouble of our own disk, never of the host.
pub trait Body {
    /// Bytes without dot-stuffing, for SIZE: exact, or an upper estimate when something is re-encoded.
    fn size(&self) -> u64;

    /// Whether BODY=8BITMIME is due.
    fn needs_eight_bit(&self) -> bool;

    /// For DATA: dot-stuffed, ends with CRLF, without the final `.`.
    fn write_data(&self, out: &mut dyn io::Write) -> io::Result<()>;

    /// For BDAT: not stuffed, ends with CRLF.
    fn write_plain(&self, out: &mut dyn io::Write) -> io::Result<()>;
}
