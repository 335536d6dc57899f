//! What goes over the wire: the file's bytes minus leading block and Bcc, plus stamps (contract §4).
//!
//! Line ends are always CRLF: a line feed becomes CRLF, a carriage return that stands alone becomes CRLF in the
//! body and a space in the header block, so that no host can see a line or an end of message that we do not see
//! (SMTP smuggling). Periods are as the layout judged them. All other bytes, NUL included, pass unchanged, unless
//! the host cannot take them: lines that are too long, and 8-bit bytes for a host without 8BITMIME, are
//! re-encoded in the MIME part where they stand (`recode`). That breaks a signature over such a part, and
//! nothing else would get it there.
//!
//! Reads: the source, in blocks; memory does not grow with the message. Writes: to the `out` it is given.
//! Thread: the caller's. Not here: the leading block of Drop files, the end-of-data period, SMTP commands.

mod address;
mod blocks;
mod encode;
mod expand;
mod fields;
mod lines;
mod mime;
mod params;
mod recode;
mod scan;
mod stamps;
mod walk;
mod words;

#[cfg(test)]
mod tests;

pub use stamps::{Stamps, stamps};

use crate::mail::ReadAt;
use crate::pickup::Layout;
use crate::smtp::{Body, Outlet};
use blocks::{BLOCK, Count, Room, Sink, each_block};
use lines::{Lines, Rules};
use std::io;
use std::ops::Range;

/// What the receiver can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// 8BITMIME (RFC 6152). Without it no byte over 127 is sent in a body.
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531). Header fields are made 7-bit only for a host with neither of the two.
    pub utf8_headers: bool,
    /// Bytes in a line without its CRLF: 998 (RFC 5321 §4.5.3.1.6), or `usize::MAX` for Drop.
    pub max_line: usize,
}

impl Abilities {
    /// Files of our own take everything.
    pub const DROP: Self = Self {
        eight_bit: true,
        utf8_headers: true,
        max_line: usize::MAX,
    };

    fn seven_bit_body(self) -> bool {
        !self.eight_bit
    }

    fn seven_bit_header(self) -> bool {
        !self.eight_bit && !self.utf8_headers
    }
}

/// The content of one message for one receiver. Writing it twice gives the same bytes.
pub struct Content<'a> {
    source: &'a dyn ReadAt,
    layout: &'a Layout,
    stamps: &'a Stamps,
    can: Abilities,
    recode: bool,
    size: u64,
    eight_bit: bool,
}

impl<'a> Content<'a> {
    /// Decides how the message goes to a receiver that `can` take so much.
    ///
    /// Looks at the layout only, unless something must be re-encoded: then the source is read once to count.
    /// The ranges of the layout refer to `source`: pass the transcoded text where there is one.
    pub fn plan(
        source: &'a dyn ReadAt,
        layout: &'a Layout,
        stamps: &'a Stamps,
        can: Abilities,
    ) -> io::Result<Self> {
        let stamps_ascii = stamps.all().all(str::is_ascii);
        let stamped: usize = stamps.all().map(str::len).sum();
        let recode = layout.longest_line > can.max_line as u64
            || can.seven_bit_body() && layout.eight_bit_body
            || can.seven_bit_header() && (layout.eight_bit_header || !stamps_ascii);
        let mut content = Self {
            source,
            layout,
            stamps,
            can,
            recode,
            size: layout.wire_size + stamped as u64,
            eight_bit: layout.eight_bit_header || layout.eight_bit_body || !stamps_ascii,
        };
        if recode {
            let mut count = Count::default();
            content.write_plain(&mut count)?;
            content.size = count.bytes;
            content.eight_bit = count.eight_bit;
        }
        Ok(content)
    }

    /// Bytes without dot-stuffing, for `SIZE=`: counted when something is re-encoded, else what the layout says,
    /// which is exact but for carriage returns that stand alone.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether `BODY=8BITMIME` is due.
    pub fn needs_eight_bit(&self) -> bool {
        self.can.eight_bit && self.eight_bit
    }

    /// Dot-stuffed (RFC 5321 §4.5.2), ends with CRLF, without the final `.` line.
    pub fn write_data(&self, out: &mut dyn Outlet) -> io::Result<()> {
        self.write(out, true)
    }

    /// No stuffing, ends with CRLF: for BDAT, Drop files and DSN copies.
    pub fn write_plain(&self, out: &mut dyn Outlet) -> io::Result<()> {
        self.write(out, false)
    }

    fn write(&self, out: &mut dyn Outlet, stuff: bool) -> io::Result<()> {
        let expected = usize::try_from(self.size).unwrap_or(BLOCK);
        let sink = Sink::new(out, expected.saturating_add(expected / 32 + 64));
        let mut wire = Lines::new(sink, stuff);
        if self.recode {
            recode::write(self, &mut wire)?;
        } else {
            self.write_as_is(&mut wire)?;
        }
        wire.end_line()?;
        wire.into_inner().finish()
    }

    fn write_as_is(&self, wire: &mut Lines<Sink<'_>>) -> io::Result<()> {
        for stamp in self.stamps.all() {
            wire.text(stamp.as_bytes())?;
        }
        let mut room = Room::default();
        wire.rules = Rules::HEADER;
        for range in self.header_ranges() {
            each_block(self.source, range, &mut room, |bytes| wire.text(bytes))?;
        }
        wire.end_line()?;
        wire.text(b"\r\n")?;
        wire.rules = self.body_rules();
        each_block(self.source, self.layout.body.clone(), &mut room, |bytes| {
            wire.long_text(bytes)
        })
    }

    fn body_rules(&self) -> Rules {
        Rules {
            unstuff: self.layout.dots.stuffed,
            ..Rules::BODY
        }
    }

    /// What is left of the header block when `omit` is taken out: whole fields, and bytes inside of fields.
    fn header_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let header = self.layout.header.clone();
        let ends = self
            .layout
            .omit
            .iter()
            .cloned()
            .chain(std::iter::once(header.end..header.end));
        let mut from = header.start;
        ends.filter_map(move |hole| {
            let kept = from..hole.start.min(header.end);
            from = from.max(hole.end);
            (kept.start < kept.end).then_some(kept)
        })
    }
}

impl Body for Content<'_> {
    fn size(&self) -> u64 {
        Content::size(self)
    }

    fn needs_eight_bit(&self) -> bool {
        Content::needs_eight_bit(self)
    }

    fn write_data(&self, out: &mut dyn Outlet) -> io::Result<()> {
        Content::write_data(self, out)
    }

    fn write_plain(&self, out: &mut dyn Outlet) -> io::Result<()> {
        Content::write_plain(self, out)
    }
}
