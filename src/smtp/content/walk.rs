//! The MIME structure of a message, walked line by line: which pieces must be re-encoded, and how.
//!
//! Iterative and streaming: what is held is the boundaries that are open, at most [`MAX_DEPTH`], and one line.
//! Multiparts nested deeper are taken as opaque text. Pieces are handed on as soon as they are known, in order.
//!
//! Not here: the encoding itself ([`super::recode`]).

use super::Content;
use super::blocks::Joined;
use super::fields::{Change, Limits};
use super::lines::Rules;
use super::mime::{Encoding, Heading, Kind};
use super::scan::{Line, Scanner};
use crate::mail::ReadAt;
use std::io;
use std::ops::Range;

/// As deep as readers go, and far deeper than writers do.
const MAX_DEPTH: usize = 100;

/// A piece of the wire form; ranges refer to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The message's own header block and its blank line.
    Header(Change),
    /// The header block of a part, and a blank line if there is one.
    PartHeader {
        fields: Range<u64>,
        change: Change,
        blank: bool,
    },
    /// As it is.
    Keep(Range<u64>),
    /// The content of a part, or text outside all parts.
    Encode(Range<u64>, How),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    QuotedPrintable,
    Base64,
    /// It is quoted-printable and has long lines.
    SoftBreaks,
    /// It is base64 and has long lines.
    Refold,
    /// It is outside all parts.
    Scrub,
}

/// Gives the pieces of `content` to `emit`.
pub(super) fn walk(content: &Content<'_>, emit: &mut dyn FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
    let mut heading = Heading::default();
    let header = Joined::new(content.source, content.header_ranges());
    let mut scanner = Scanner::new(&header, 0..header.len(), Rules::HEADER);
    while let Some(line) = scanner.next_line()? {
        heading.header_line(&line, scanner.text());
    }
    let body = content.layout.body.clone();
    let mut walker = Walker {
        source: content.source,
        max_line: content.can.max_line as u64,
        seven_bit: content.can.seven_bit_body(),
        header: Limits {
            max_line: content.can.max_line,
            seven_bit: content.can.seven_bit_header(),
        },
        emit,
        open: Vec::new(),
        state: State::Outside(Text::at(body.start)),
        kept: body.start,
    };
    let main = Head {
        place: None,
        heading,
        is_message: true,
        in_digest: false,
    };
    walker.content_of(main, body.start)?;
    let mut scanner = Scanner::new(content.source, body.clone(), content.body_rules());
    while let Some(line) = scanner.next_line()? {
        walker.line(&line, scanner.text())?;
    }
    walker.end(body.end, false)?;
    walker.keep(body.end)
}

/// A header block, read or being read.
struct Head {
    /// `None`: the message's own.
    place: Option<Range<u64>>,
    heading: Heading,
    /// Of a message, not of a part.
    is_message: bool,
    in_digest: bool,
}

/// What has been seen of a content.
struct Text {
    start: u64,
    /// Where the text of its last line ends: the line end before a boundary belongs to the boundary.
    end: u64,
    eight_bit: bool,
    longest: u64,
}

impl Text {
    fn at(start: u64) -> Self {
        Self {
            start,
            end: start,
            eight_bit: false,
            longest: 0,
        }
    }

    fn line(&mut self, line: &Line) {
        self.end = line.text_end;
        self.eight_bit |= line.eight_bit;
        self.longest = self.longest.max(line.len);
    }
}

enum State {
    /// In a header block that began at this offset.
    Head(Head),
    /// In the content of a part.
    Leaf(Head, Text),
    /// In a multipart whose boundary has not come yet. If it never comes, readers show the text.
    Unopened(Head, Text),
    /// Before the first boundary of a multipart, or after its last: readers show nothing of it.
    Outside(Text),
}

struct Level {
    boundary: Vec<u8>,
    digest: bool,
}

struct Walker<'w> {
    source: &'w dyn ReadAt,
    max_line: u64,
    seven_bit: bool,
    header: Limits,
    emit: &'w mut dyn FnMut(Piece) -> io::Result<()>,
    open: Vec<Level>,
    state: State,
    /// Everything before this offset has been handed on.
    kept: u64,
}

impl Walker<'_> {
    fn line(&mut self, line: &Line, text: &[u8]) -> io::Result<()> {
        if let Some((level, last)) = self.boundary(line, text) {
            return self.at_boundary(line, level, last);
        }
        if let State::Head(head) = &mut self.state {
            if line.len > 0 && head.heading.line(line, text) {
                if let Some(place) = &mut head.place {
                    place.end = line.end;
                }
                return Ok(());
            }
            let blank = line.len == 0;
            let next = if blank { line.end } else { line.start };
            if let State::Head(head) = std::mem::replace(&mut self.state, State::Outside(Text::at(next))) {
                self.content_of(head, next)?;
            }
            // a line that is no field is the first of the content, which may be a header block or a boundary
            // in its turn; it is a leaf at the third look at the latest
            return if blank { Ok(()) } else { self.line(line, text) };
        }
        if let State::Leaf(_, seen) | State::Unopened(_, seen) | State::Outside(seen) = &mut self.state {
            seen.line(line);
        }
        Ok(())
    }

    /// Which open multipart the line delimits, innermost first, and whether it is its last boundary.
    fn boundary(&self, line: &Line, text: &[u8]) -> Option<(usize, bool)> {
        let text = text.strip_prefix(b"--")?;
        if line.len > self.max_line {
            return None;
        }
        let text = text.trim_ascii_end();
        let is = |level: &&Level| {
            let tail = text.strip_prefix(level.boundary.as_slice());
            tail.is_some_and(|tail| tail.is_empty() || tail == b"--")
        };
        let (depth, level) = self.open.iter().enumerate().rev().find(|(_, level)| is(level))?;
        Some((depth, text.len() > level.boundary.len()))
    }

    fn at_boundary(&mut self, line: &Line, level: usize, last: bool) -> io::Result<()> {
        let state = std::mem::replace(&mut self.state, State::Outside(Text::at(line.start)));
        self.state = match state {
            State::Unopened(head, text) if level + 1 == self.open.len() => {
                self.head(&head, self.relabel(&head), true, text.start)?;
                State::Outside(text)
            }
            state => state,
        };
        self.end(line.start, true)?;
        self.open.truncate(if last { level } else { level + 1 });
        self.state = match self.open.get(level) {
            Some(open) => State::Head(Head {
                place: Some(line.end..line.end),
                heading: Heading::default(),
                is_message: false,
                in_digest: open.digest,
            }),
            None => State::Outside(Text::at(line.end)),
        };
        Ok(())
    }

    /// What the state is about ends before `next`: a boundary line, to which the line end before it belongs, or the
    /// end of the body.
    fn end(&mut self, next: u64, boundary: bool) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Outside(Text::at(next))) {
            State::Head(head) => {
                let change = self.relabel(&head);
                self.head(&head, change, false, next)
            }
            State::Leaf(head, text) | State::Unopened(head, text) => {
                let end = if boundary { text.end } else { next };
                self.leaf(&head, &text, end)
            }
            State::Outside(text) if self.too_much(&text) => {
                self.keep(text.start)?;
                self.kept = next;
                (self.emit)(Piece::Encode(text.start..next, How::Scrub))
            }
            State::Outside(_) => Ok(()),
        }
    }

    /// A header block is over: what follows at `next`?
    fn content_of(&mut self, head: Head, next: u64) -> io::Result<()> {
        match head.heading.kind(head.in_digest) {
            Kind::Multipart { boundary, digest } if self.can_open(&boundary) => {
                self.open.push(Level { boundary, digest });
                self.state = State::Unopened(head, Text::at(next));
            }
            Kind::Message => {
                self.head(&head, self.relabel(&head), true, next)?;
                let place = Some(next..next);
                let heading = Heading::default();
                self.state = State::Head(Head {
                    place,
                    heading,
                    is_message: true,
                    in_digest: false,
                });
            }
            _ => self.state = State::Leaf(head, Text::at(next)),
        }
        Ok(())
    }

    fn can_open(&self, boundary: &[u8]) -> bool {
        self.open.len() < MAX_DEPTH
            && boundary.len() as u64 + 4 <= self.max_line
            && (boundary.is_ascii() || !self.seven_bit)
    }

    fn leaf(&mut self, head: &Head, text: &Text, end: u64) -> io::Result<()> {
        let how = self.too_much(text).then(|| head.how());
        let mut change = self.relabel(head);
        if let Some(How::QuotedPrintable | How::Base64) = how {
            change.encoding = Some(if how == Some(How::Base64) {
                "base64"
            } else {
                "quoted-printable"
            });
            change.mime_version = head.is_message && !head.heading.mime_version;
            if head.is_message && !head.heading.has_content_type() && text.eight_bit {
                let utf8 = is_utf8(self.source, text.start..end)?;
                change.content_type = Some(if utf8 {
                    "text/plain; charset=utf-8"
                } else {
                    "text/plain; charset=unknown-8bit"
                });
            }
        }
        self.head(head, change, true, text.start)?;
        if let Some(how) = how {
            self.keep(text.start)?;
            self.kept = end;
            (self.emit)(Piece::Encode(text.start..end, how))?;
        }
        Ok(())
    }

    /// Hands the header block on if it is not to stay as it is; its content begins at `next`.
    fn head(&mut self, head: &Head, change: Change, blank: bool, next: u64) -> io::Result<()> {
        let Some(fields) = head.place.clone() else {
            return (self.emit)(Piece::Header(change));
        };
        let too_much =
            head.heading.longest > self.max_line || self.header.seven_bit && head.heading.eight_bit;
        if too_much || change != Change::default() {
            self.keep(fields.start)?;
            self.kept = next;
            (self.emit)(Piece::PartHeader {
                fields,
                change,
                blank,
            })?;
        }
        Ok(())
    }

    /// Where everything is made 7-bit, nothing may be labelled 8bit.
    fn relabel(&self, head: &Head) -> Change {
        let wrong = self.seven_bit && head.heading.encoding() == Encoding::EightBit;
        Change {
            encoding: wrong.then_some("7bit"),
            ..Change::default()
        }
    }

    fn too_much(&self, text: &Text) -> bool {
        text.longest > self.max_line || self.seven_bit && text.eight_bit
    }

    fn keep(&mut self, to: u64) -> io::Result<()> {
        let from = self.kept;
        self.kept = self.kept.max(to);
        if from < to {
            (self.emit)(Piece::Keep(from..to))
        } else {
            Ok(())
        }
    }
}

impl Head {
    fn how(&self) -> How {
        match (self.heading.encoding(), self.heading.kind(self.in_digest)) {
            (Encoding::QuotedPrintable, _) => How::SoftBreaks,
            (Encoding::Base64, _) => How::Refold,
            (_, Kind::Data) => How::Base64,
            _ => How::QuotedPrintable,
        }
    }
}

/// Whether the bytes are UTF-8, read in blocks.
fn is_utf8(source: &dyn ReadAt, range: Range<u64>) -> io::Result<bool> {
    let mut room = super::Room::default();
    let mut held: Vec<u8> = Vec::new();
    let mut valid = true;
    super::each_block(source, range, &mut room, |bytes| {
        held.extend_from_slice(bytes);
        let good = match std::str::from_utf8(&held) {
            Ok(_) => held.len(),
            Err(e) => {
                valid &= e.error_len().is_none();
                e.valid_up_to()
            }
        };
        held.drain(..good);
        if !valid {
            held.clear();
        }
        Ok(())
    })?;
    Ok(valid && held.is_empty())
}
