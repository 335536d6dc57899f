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
    fn write_data(&self, out: &mut dyn Outlet) -> io::Result<()>;

    /// For BDAT: not stuffed, ends with CRLF.
    fn write_plain(&self, out: &mut dyn Outlet) -> io::Result<()>;
}

/// Where a message goes. What takes whole blocks gets them as they lie; any other writer gets their bytes.
pub trait Outlet: io::Write {
    /// So many bytes a block should have.
    fn block_size(&self) -> usize {
        128 * 1024
    }

    /// A buffer for the first block, of any length; its bytes mean nothing.
    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes the next bytes, all of `block`, and leaves a buffer for the block after them, as [`Outlet::buffer`] does.
    fn take(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        self.write_all(block)
    }
}

impl Outlet for Vec<u8> {}
impl Outlet for io::Sink {}
impl<W: io::Write> Outlet for io::BufWriter<W> {}

/// A short message in one piece, made where it stays. What was there before is forgotten.
pub(super) struct Whole<'a> {
    piece: &'a mut Vec<u8>,
    begun: bool,
}

impl<'a> Whole<'a> {
    pub(super) fn new(piece: &'a mut Vec<u8>) -> Self {
        Self { piece, begun: false }
    }
}

impl Whole<'_> {
    /// All of it has come, also if that is nothing.
    pub(super) fn finish(self) {
        if !self.begun {
            self.piece.clear();
        }
    }
}

impl io::Write for Whole<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.begun, true) {
            self.piece.clear();
        }
        self.piece.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet for Whole<'_> {
    fn buffer(&mut self) -> Vec<u8> {
        std::mem::take(self.piece)
    }

    fn take(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            self.piece.extend_from_slice(block);
        } else {
            std::mem::swap(self.piece, block);
        }
        Ok(())
    }
}
