//! Writing a message that its receiver cannot take as it is (contract §4, RFC 6152 §3, RFC 2045).
//!
//! * Text parts become quoted-printable, others base64; parts that are either already get shorter lines.
//!   `multipart/*` and `message/rfc822` are never encoded, their parts are; `8bit` labels become `7bit`.
//! * A message without MIME fields gets them, with `charset=utf-8` or, if it is not UTF-8, `unknown-8bit`.
//! * Header fields: encoded-words and RFC 2231 parameters for 8-bit text, folds for long lines ([`super::fields`]).
//! * Text outside all parts is not content: bytes over 127 become `?`, long lines are cut.
//! * Parts that need nothing pass byte for byte.
//!
//! The source is walked and each piece that needs work is read a second time: memory stays the same however many
//! parts there are. Beyond that nothing here knows the structure ([`super::walk`] does).

use super::encode::{Base64, Encoder, QuotedPrintable, Refold, Scrub, SoftBreaks};
use super::fields::{Change, Fields, Limits};
use super::lines::{Lines, Rules};
use super::walk::{How, Piece, walk};
use super::{Content, Room, each_block};
use std::io::{self, Write};
use std::ops::Range;

/// Writes the whole content.
pub(super) fn write<W: Write>(content: &Content<'_>, wire: &mut Lines<W>) -> io::Result<()> {
    let mut writer = Writer {
        content,
        wire,
        room: Room::default(),
    };
    walk(content, &mut |piece| match piece {
        Piece::Header(change) => writer.header(change),
        Piece::PartHeader {
            fields,
            change,
            blank,
        } => writer.part_header(fields, change, blank),
        Piece::Keep(range) => writer.keep(range),
        Piece::Encode(range, how) => writer.encode(range, how),
    })
}

struct Writer<'w, 'a, W> {
    content: &'w Content<'a>,
    wire: &'w mut Lines<W>,
    room: Room,
}

impl<W: Write> Writer<'_, '_, W> {
    fn header(&mut self, change: Change) -> io::Result<()> {
        let limits = self.limits();
        let content = self.content;
        let mut lines = Lines::new(Fields::new(&mut *self.wire, limits, change), false);
        for stamp in content.stamps.all() {
            lines.text(stamp.as_bytes())?;
        }
        lines.rules = Rules::HEADER;
        for range in content.header_ranges() {
            each_block(content.source, range, &mut self.room, |bytes| lines.text(bytes))?;
        }
        lines.end_line()?;
        lines.into_inner().finish()?;
        self.wire.text(b"\r\n")
    }

    fn part_header(&mut self, fields: Range<u64>, change: Change, blank: bool) -> io::Result<()> {
        let limits = self.limits();
        let mut lines = Lines::new(Fields::new(&mut *self.wire, limits, change), false);
        lines.rules = self.content.body_rules();
        each_block(self.content.source, fields, &mut self.room, |bytes| {
            lines.text(bytes)
        })?;
        lines.end_line()?;
        lines.into_inner().finish()?;
        if blank { self.wire.text(b"\r\n") } else { Ok(()) }
    }

    fn keep(&mut self, range: Range<u64>) -> io::Result<()> {
        self.wire.rules = self.content.body_rules();
        each_block(self.content.source, range, &mut self.room, |bytes| {
            self.wire.text(bytes)
        })?;
        self.wire.settle()?;
        self.wire.rules = Rules::BODY;
        Ok(())
    }

    fn encode(&mut self, range: Range<u64>, how: How) -> io::Result<()> {
        let can = self.content.can;
        match how {
            How::QuotedPrintable => self.through(range, QuotedPrintable::new),
            How::Base64 => self.through(range, Base64::new),
            How::SoftBreaks => self.through(range, SoftBreaks::new),
            How::Refold => self.through(range, Refold::new),
            How::Scrub => self.through(range, |out| Scrub::new(out, can.max_line, can.seven_bit_body())),
        }
    }

    fn through<'s, E: Encoder>(
        &'s mut self,
        range: Range<u64>,
        encoder: impl FnOnce(&'s mut Lines<W>) -> E,
    ) -> io::Result<()> {
        let rules = self.content.body_rules();
        let mut lines = Lines::new(encoder(&mut *self.wire), false);
        lines.rules = rules;
        each_block(self.content.source, range, &mut self.room, |bytes| {
            lines.text(bytes)
        })?;
        lines.settle()?;
        lines.into_inner().finish()
    }

    fn limits(&self) -> Limits {
        let can = self.content.can;
        Limits {
            max_line: can.max_line,
            seven_bit: can.seven_bit_header(),
        }
    }
}
