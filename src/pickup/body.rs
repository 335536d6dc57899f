//! One pass over the body in blocks of any size: what can be told of its lines. Holds the beginning of one line.
//!
//! Lines that have nothing remarkable about them are counted many at a time ([`super::stretch`]).

use super::closing::Closing;
use super::dots::Tally;
use super::stretch::{self, Stretch};

/// What is judged in one go: one remarkable line makes the others of its piece be looked at one by one.
const PIECE: usize = 4 * 1024;

/// Gathers while blocks come in.
#[derive(Debug)]
pub(super) struct BodyScan {
    tally: Tally,
    closing: Option<Closing>,
    /// The closing boundary was seen.
    closed: bool,
    eight_bit: bool,
    longest: u64,
    period_after_cr: bool,
    /// CR bytes of lines that were looked at one by one, and those of them that end a line.
    crs: u64,
    line_end_crs: u64,
    /// Offset of the line that is being read.
    line_start: u64,
    /// The part of that line that came with earlier blocks: its first bytes, its length, its last byte.
    head: Vec<u8>,
    len: u64,
    last: u8,
    head_max: usize,
}

/// What was found.
#[derive(Debug)]
pub(super) struct BodyFacts {
    /// For the verdict on leading periods.
    pub tally: Tally,
    /// `false` when a closing boundary was looked for in vain.
    pub is_closed: bool,
    /// A byte over 127.
    pub eight_bit: bool,
    /// The longest line without its line end, where one is longer than 512 bytes.
    pub longest: u64,
    /// CR bytes inside of lines; on the wire each becomes a line end.
    pub bare_crs: u64,
    /// A period follows such a byte: it begins a line on the wire and in Drop, which here is none.
    pub period_after_cr: bool,
    /// Offset of the end.
    pub end: u64,
}

impl BodyScan {
    /// A body that begins at offset `start`; with `closing`, its closing boundary is looked for.
    pub(super) fn new(start: u64, closing: Option<Closing>) -> Self {
        Self {
            tally: Tally::default(),
            // two bytes are what the tally wants; they also hold a lone period and its CR
            head_max: closing.as_ref().map_or(0, Closing::line_head).max(2),
            closing,
            closed: false,
            eight_bit: false,
            longest: stretch::SHORT as u64,
            period_after_cr: false,
            crs: 0,
            line_end_crs: 0,
            line_start: start,
            head: Vec::new(),
            len: 0,
            last: 0,
        }
    }

    /// Takes the next block.
    pub(super) fn feed(&mut self, block: &[u8]) {
        for piece in block.chunks(PIECE) {
            let rest = self.end_held_line(piece);
            let (lines, part) = rest.split_at(memchr::memrchr(b'\n', rest).map_or(0, |lf| lf + 1));
            if !self.take_stretch(lines) {
                self.take_each(lines);
            }
            self.hold(part);
        }
    }

    /// Takes what still belongs to the line that is held; gives what follows.
    fn end_held_line<'b>(&mut self, piece: &'b [u8]) -> &'b [u8] {
        if self.len == 0 {
            return piece;
        }
        let Some(lf) = memchr::memchr(b'\n', piece) else {
            self.hold(piece);
            return &[];
        };
        self.hold(piece.get(..lf).unwrap_or_default());
        self.held_line();
        self.line_start += 1;
        piece.get(lf + 1..).unwrap_or_default()
    }

    /// Takes whole lines in one go; `false` when one of them may have to be looked at.
    fn take_stretch(&mut self, lines: &[u8]) -> bool {
        let found = Stretch::of(lines);
        let closing = self.closing.as_ref().filter(|_| !self.closed);
        let remarkable = found.periods
            || found.crs != found.line_end_crs
            || self.tally.has_marker()
            || closing.is_some_and(|closing| closing.may_be_in(lines))
            || !stretch::all_short(lines);
        if !remarkable {
            let bytes = lines.len() as u64;
            self.eight_bit |= found.eight_bit;
            self.tally.stretch(bytes + found.lines - found.line_end_crs);
            self.line_start += bytes;
        }
        !remarkable
    }

    fn take_each(&mut self, lines: &[u8]) {
        self.look_inside(lines);
        let mut rest = lines;
        while let Some((line, tail)) =
            memchr::memchr(b'\n', rest).and_then(|lf| Some((rest.get(..lf)?, rest.get(lf + 1..)?)))
        {
            self.whole_line(line, line.len() as u64);
            self.line_start += 1;
            rest = tail;
        }
    }

    fn look_inside(&mut self, bytes: &[u8]) {
        self.eight_bit |= !bytes.is_ascii();
        let crs = memchr::memchr_iter(b'\r', bytes).count() as u64;
        if crs > 0 {
            self.period_after_cr |= memchr::memmem::find(bytes, b"\r.").is_some();
        }
        self.crs += crs;
    }

    /// There is no more.
    pub(super) fn finish(mut self) -> BodyFacts {
        if self.len > 0 {
            self.held_line();
        }
        BodyFacts {
            tally: self.tally,
            is_closed: self.closed || self.closing.is_none(),
            eight_bit: self.eight_bit,
            longest: self.longest,
            bare_crs: self.crs - self.line_end_crs,
            period_after_cr: self.period_after_cr,
            end: self.line_start,
        }
    }

    /// A part of a line whose end is not there yet.
    fn hold(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        self.period_after_cr |= self.len > 0 && self.last == b'\r' && part.starts_with(b".");
        self.look_inside(part);
        let room = self.head_max.saturating_sub(self.head.len()).min(part.len());
        self.head.extend_from_slice(part.get(..room).unwrap_or_default());
        self.len += part.len() as u64;
        self.last = part.last().copied().unwrap_or(self.last);
    }

    fn held_line(&mut self) {
        let (mut head, len) = (std::mem::take(&mut self.head), std::mem::take(&mut self.len));
        if self.last == b'\r' && (head.len() as u64) < len {
            // the CR is beyond the head; the line is told by its length alone
            self.line(&head, len - 1, len);
        } else {
            self.whole_line(&head, len);
        }
        head.clear();
        self.head = head;
    }

    /// `line` lacks nothing, or nothing but what stands beyond the head; its LF is gone.
    fn whole_line(&mut self, line: &[u8], len: u64) {
        match line.strip_suffix(b"\r") {
            Some(text) if line.len() as u64 == len => self.line(text, len - 1, len),
            _ => self.line(line, len, len),
        }
    }

    /// One line: its first bytes, its length without line end, the bytes to go on by (its LF not counted).
    fn line(&mut self, head: &[u8], len: u64, step: u64) {
        self.tally.line(self.line_start, len, head);
        self.line_end_crs += step - len;
        self.longest = self.longest.max(len);
        if !self.closed {
            self.closed = self.closing.as_ref().is_some_and(|closing| closing.is_line(head));
        }
        self.line_start += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DotsSetting;
    use proptest::prelude::*;

    /// Closed, 8-bit, longest line, bare CRs, end, verdict, end of the body, bytes on the wire.
    type Told = (bool, bool, u64, u64, u64, &'static str, u64, u64);

    fn scan<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> Told {
        scan_for(Some(Closing::new("bound")), blocks)
    }

    fn scan_for<'a>(closing: Option<Closing>, blocks: impl Iterator<Item = &'a [u8]>) -> Told {
        let mut scan = BodyScan::new(7, closing);
        blocks.for_each(|block| scan.feed(block));
        let facts = scan.finish();
        let judged = facts.tally.judge(None, DotsSetting::Auto, facts.end);
        let dots = judged.dots.as_str();
        (
            facts.is_closed,
            facts.eight_bit,
            facts.longest,
            facts.bare_crs,
            facts.end,
            dots,
            judged.end,
            judged.wire,
        )
    }

    #[test]
    fn lines_of_all_kinds() {
        assert_eq!(
            scan([&b"12345\r\n\xC3\xA4\n..\n--bound--\r\n.\r\n\r\n"[..]].into_iter()),
            (
                true,
                true,
                512,
                0,
                7 + 29,
                "stuffed + end marker",
                7 + 24,
                7 + 4 + 3 + 11
            )
        );
        assert_eq!(
            scan([&b""[..]].into_iter()),
            (false, false, 512, 0, 7, "none", 7, 0)
        );
        assert_eq!(
            scan([&b"a\rb"[..]].into_iter()),
            (false, false, 512, 1, 10, "none", 10, 5)
        );
        let long = "x".repeat(100_000) + "\r\n--bound--";
        assert_eq!(
            scan(long.as_bytes().chunks(1000)),
            (
                true,
                false,
                100_000,
                0,
                7 + 100_011,
                "none",
                7 + 100_011,
                100_002 + 11
            )
        );
    }

    #[test]
    fn a_period_after_a_bare_cr_is_seen_wherever_the_blocks_divide() {
        for (body, want) in [
            ("a\r.\n", true),
            ("\r.", true),
            ("a\r\n.\n", false),
            (".\ra\r\r\n", false),
        ] {
            for size in 1..5 {
                let mut scan = BodyScan::new(0, None);
                body.as_bytes().chunks(size).for_each(|block| scan.feed(block));
                assert_eq!(scan.finish().period_after_cr, want, "{body:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn blocks_divide_anywhere(
            body in "(\\.|\\.\\.|--bound--|--bound|a|é|\r|\n|\r\n|.{80}){0,30}",
            size in 1_usize..12,
        ) {
            let (body, whole) = (body.as_bytes(), [body.as_bytes()]);
            prop_assert_eq!(scan(body.chunks(size)), scan(whole.into_iter()));
            prop_assert_eq!(scan_for(None, body.chunks(size)), scan_for(None, whole.into_iter()));
        }

        #[test]
        fn a_remarkable_line_is_seen_among_many_that_are_not(
            body in "((plain text, long or not, é\r?\n){150}|\\.x?\r?\n|\\.\\.\n|--bound--\n|\r|\n|.{600}){0,12}",
            size in 1_usize..12,
        ) {
            let (body, whole) = (body.as_bytes(), [body.as_bytes()]);
            prop_assert_eq!(scan(body.chunks(size)), scan(whole.into_iter()));
            prop_assert_eq!(scan_for(None, body.chunks(size)), scan_for(None, whole.into_iter()));
        }
    }
}
