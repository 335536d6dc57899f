//! Line ends and leading periods: any text in, CRLF lines out, whole runs at a time.
//!
//! A state machine: text may be cut anywhere, also between CR and LF or before a period.

use super::blocks::Sink;
use super::expand::expand;
use memchr::{memchr, memchr2};
use std::io::{self, Write};

/// How the text that comes in is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// One period is taken from each line that begins with one: after a line feed, which is what was judged.
    pub(super) unstuff: bool,
    /// What becomes of a carriage return without a line feed.
    pub(super) bare_cr: BareCr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BareCr {
    /// It ends the line.
    EndsLine,
    /// It is a space: a field cannot be cut in two by it.
    Space,
}

impl Rules {
    pub(super) const HEADER: Self = Self {
        unstuff: false,
        bare_cr: BareCr::Space,
    };
    pub(super) const BODY: Self = Self {
        unstuff: false,
        bare_cr: BareCr::EndsLine,
    };
}

/// How far into a line we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing of it has been seen.
    Start,
    /// Nothing either, and the writer did not see a line begin here: its periods were not judged.
    AfterCr,
    /// Only the period that was taken away.
    Unstuffed,
    Inside,
}

/// Writes lines that end in CRLF and nothing else that looks like a line end.
pub(super) struct Lines<W> {
    out: W,
    stuff: bool,
    at: At,
    /// A carriage return came last, and what it means is not known yet.
    cr: bool,
    /// May be changed between texts.
    pub(super) rules: Rules,
}

impl<W: Write> Lines<W> {
    /// `stuff`: a period is put before each line that begins with one (RFC 5321 §4.5.2).
    pub(super) fn new(out: W, stuff: bool) -> Self {
        Self {
            out,
            stuff,
            at: At::Start,
            cr: false,
            rules: Rules::BODY,
        }
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Ends the line unless it has not begun.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        let lone_cr = std::mem::take(&mut self.cr) && self.rules.bare_cr == BareCr::EndsLine;
        if lone_cr || !matches!(self.at, At::Start | At::AfterCr) {
            self.newline()
        } else {
            Ok(())
        }
    }

    /// The text is cut here by us, not by chance: a carriage return that came last stands alone.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.cr) {
            self.bare_cr()
        } else {
            Ok(())
        }
    }

    /// The next part of the text.
    pub(super) fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        // `run` is what waits to be written as it is; `seen` is how far it has been looked at
        let (mut run, mut seen) = (self.after_cr(bytes)?, 0);
        loop {
            if self.at != At::Inside && run.get(seen) == Some(&b'.') {
                run = self.leading_period(run, seen)?;
                seen = 0;
            }
            let Some(unseen) = run.get(seen..).filter(|unseen| !unseen.is_empty()) else {
                break;
            };
            let Some(found) = memchr2(b'\r', b'\n', unseen) else {
                self.at = At::Inside;
                break;
            };
            let (clean, tail) = run.split_at(seen + found);
            if let [b'\r', b'\n', ..] = tail {
                self.at = At::Start;
                seen += found + 2;
                continue;
            }
            self.out.write_all(clean)?;
            if found > 0 {
                self.at = At::Inside;
            }
            match tail {
                [b'\r'] => self.cr = true,
                [b'\r', ..] => self.bare_cr()?,
                _ => self.newline()?,
            }
            (run, seen) = (tail.get(1..).unwrap_or(&[]), 0);
        }
        self.out.write_all(run)
    }

    /// Settles what a carriage return at the end of the former text means.
    fn after_cr<'b>(&mut self, bytes: &'b [u8]) -> io::Result<&'b [u8]> {
        match bytes {
            [b'\n', rest @ ..] if self.cr => {
                self.cr = false;
                self.newline()?;
                Ok(rest)
            }
            [] => Ok(bytes),
            _ => self.settle().map(|()| bytes),
        }
    }

    /// A line begins with the period `run[seen]`: removes it, or doubles it, or both. Gives what is not written yet.
    fn leading_period<'b>(&mut self, run: &'b [u8], seen: usize) -> io::Result<&'b [u8]> {
        let (before, mut line) = run.split_at(seen);
        self.out.write_all(before)?;
        if self.at == At::Start && self.rules.unstuff {
            line = line.get(1..).unwrap_or(&[]);
            self.at = At::Unstuffed;
        }
        if line.first() == Some(&b'.') {
            self.at = At::Inside;
            if self.stuff {
                self.out.write_all(b".")?;
            }
        }
        Ok(line)
    }

    fn newline(&mut self) -> io::Result<()> {
        self.at = At::Start;
        self.out.write_all(b"\r\n")
    }

    fn bare_cr(&mut self) -> io::Result<()> {
        match self.rules.bare_cr {
            BareCr::EndsLine => {
                self.newline()?;
                self.at = At::AfterCr;
            }
            BareCr::Space => {
                self.at = At::Inside;
                self.out.write_all(b" ")?;
            }
        }
        Ok(())
    }
}

impl Lines<Sink<'_>> {
    /// As [`Lines::text`], of which much comes at once: quicker where all lines end in LF.
    pub(super) fn long_text(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = self.after_cr(bytes)?;
        if memchr(b'\r', rest).is_some() {
            return self.text(rest);
        }
        loop {
            if self.at == At::Start {
                let (taken, filled) = expand(rest, self.out.room());
                self.out.fill(filled);
                rest = rest.get(taken..).unwrap_or(&[]);
            }
            // What that stopped at: a period, the rest of a line, a line that is longer than the room.
            let Some((line, after)) = memchr(b'\n', rest).and_then(|lf| rest.split_at_checked(lf + 1)) else {
                return self.text(rest);
            };
            self.text(line)?;
            rest = after;
        }
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
