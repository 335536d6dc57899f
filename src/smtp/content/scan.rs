//! The lines of a source, each with its place: what [`super::walk`] looks at. Any text, lines of any length.

use super::blocks::{BLOCK, fill};
use super::lines::{BareCr, Rules};
use crate::mail::ReadAt;
use memchr::memchr2;
use std::io;
use std::ops::Range;

/// How much of a line is shown; the rest is only counted.
const SHOWN: usize = 16 * 1024;

/// One line; its text is [`Scanner::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Its first byte in the source.
    pub(super) start: u64,
    /// Where its line end begins.
    pub(super) text_end: u64,
    /// Where the next line begins.
    pub(super) end: u64,
    /// Bytes without line end and without a period that is not sent.
    pub(super) len: u64,
    /// Holds a byte over 127.
    pub(super) eight_bit: bool,
}

/// Reads line by line, exactly as [`super::lines::Lines`] would cut them.
pub(super) struct Scanner<'s> {
    source: &'s dyn ReadAt,
    rules: Rules,
    /// Offset of what follows the block.
    next: u64,
    end: u64,
    block: Vec<u8>,
    /// Not looked at yet.
    rest: Range<usize>,
    text: Vec<u8>,
    after_cr: bool,
}

impl<'s> Scanner<'s> {
    pub(super) fn new(source: &'s dyn ReadAt, range: Range<u64>, rules: Rules) -> Self {
        let len = range.end.saturating_sub(range.start);
        let size = usize::try_from(len).map_or(BLOCK, |len| len.clamp(1, BLOCK));
        Self {
            source,
            rules,
            next: range.start,
            end: range.end,
            block: vec![0; size],
            rest: 0..0,
            text: Vec::with_capacity(256),
            after_cr: false,
        }
    }

    /// The text of the last line, its first 16 KiB.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        self.text.clear();
        let start = self.at();
        let mut line = Line {
            start,
            text_end: start,
            end: start,
            len: 0,
            eight_bit: false,
        };
        if self.rules.unstuff && !std::mem::take(&mut self.after_cr) && self.peek()? == Some(b'.') {
            self.rest.start += 1;
        }
        while self.peek()?.is_some() {
            let rest = self.block.get(self.rest.clone()).unwrap_or(&[]);
            let found = memchr2(b'\r', b'\n', rest);
            let run = rest.get(..found.unwrap_or(rest.len())).unwrap_or(rest);
            line.len += run.len() as u64;
            line.eight_bit = line.eight_bit || !run.is_ascii();
            let space = SHOWN.saturating_sub(self.text.len());
            self.text.extend_from_slice(run.get(..space).unwrap_or(run));
            self.rest.start += run.len();
            line.text_end = self.at();
            if found.is_some() && self.line_end()? {
                line.end = self.at();
                return Ok(Some(line));
            }
            line.len += u64::from(found.is_some());
        }
        line.text_end = self.at();
        line.end = line.text_end;
        Ok((line.end > line.start).then_some(line))
    }

    /// Steps over CRLF, LF or CR; false when that CR does not end a line.
    fn line_end(&mut self) -> io::Result<bool> {
        let first = self.peek()?;
        self.rest.start += 1;
        if first == Some(b'\n') {
            return Ok(true);
        }
        if self.peek()? == Some(b'\n') {
            self.rest.start += 1;
            return Ok(true);
        }
        if self.rules.bare_cr == BareCr::EndsLine {
            self.after_cr = true;
            return Ok(true);
        }
        self.text.push(b' ');
        Ok(false)
    }

    fn at(&self) -> u64 {
        self.next - self.rest.len() as u64
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.rest.is_empty() {
            if self.next >= self.end {
                return Ok(None);
            }
            let n = fill(self.source, self.next..self.end, &mut self.block)?.len();
            self.next += n as u64;
            self.rest = 0..n;
        }
        Ok(self.block.get(self.rest.start).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ShortReads;
    use super::*;

    #[test]
    fn lines_have_the_same_places_whatever_the_blocks() {
        let text = b"a\r\n\n..b\xffc\r.\r\r\n.\nlast".as_slice();
        let rules = Rules {
            unstuff: true,
            ..Rules::BODY
        };
        let expected = [
            (0, 1, 3, "a"),
            (3, 3, 4, ""),
            (4, 9, 10, ".b\u{fffd}c"),
            (10, 11, 12, "."),
            (12, 12, 14, ""),
            (14, 15, 16, ""),
            (16, 20, 20, "last"),
        ];
        for size in 1..=text.len() {
            let source = ShortReads(text, size);
            let mut scanner = Scanner::new(&source, 0..text.len() as u64, rules);
            for (start, text_end, end, shown) in expected {
                let line = scanner.next_line().unwrap().unwrap();
                assert_eq!(
                    (line.start, line.text_end, line.end),
                    (start, text_end, end),
                    "size {size}"
                );
                assert_eq!(String::from_utf8_lossy(scanner.text()), shown);
                assert_eq!(line.len, scanner.text().len() as u64);
                assert_eq!(line.eight_bit, start == 4);
            }
            assert_eq!(scanner.next_line().unwrap(), None);
        }
    }

    #[test]
    fn a_carriage_return_does_not_cut_a_header_line() {
        let text = b"A: b\rc\r\nD: e".as_slice();
        let mut scanner = Scanner::new(&text, 0..text.len() as u64, Rules::HEADER);
        assert_eq!(scanner.next_line().unwrap().unwrap().end, 8);
        assert_eq!(scanner.text(), b"A: b c");
        assert_eq!(scanner.next_line().unwrap().unwrap().len, 4);
    }
}
