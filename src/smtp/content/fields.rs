//! A header block for a host that cannot take it as it is: 7 bits, lines of bounded length, other MIME fields.
//!
//! A stream: canonical CRLF lines in, the same out; at most one field is held, and of a huge one a piece.

use super::words;
use memchr::{memchr, memrchr2};
use std::io::{self, Write};

/// A longer field is treated in pieces.
const MAX_FIELD: usize = 1024 * 1024;

/// How the block must come out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_line: usize,
    pub(super) seven_bit: bool,
}

/// MIME fields to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    /// `Content-Transfer-Encoding`: the one that is there is replaced.
    pub(super) encoding: Option<&'static str>,
    /// `MIME-Version: 1.0` is added.
    pub(super) mime_version: bool,
    /// `Content-Type` is added.
    pub(super) content_type: Option<&'static str>,
}

/// Takes a header block in and passes it on.
pub(super) struct Fields<W> {
    out: W,
    limits: Limits,
    change: Change,
    field: Vec<u8>,
    /// The name of this field was in a former piece.
    continued: bool,
    /// The rest of this field is left out.
    dropping: bool,
    encoding_written: bool,
}

impl<W: Write> Fields<W> {
    pub(super) fn new(out: W, limits: Limits, change: Change) -> Self {
        Self {
            out,
            limits,
            change,
            field: Vec::new(),
            continued: false,
            dropping: false,
            encoding_written: false,
        }
    }

    /// The block ends here, with a CRLF; what is still missing of the change is added.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_field()?;
        if self.change.mime_version {
            self.out.write_all(b"MIME-Version: 1.0\r\n")?;
        }
        if let Some(value) = self.change.content_type {
            write!(self.out, "Content-Type: {value}\r\n")?;
        }
        self.write_encoding()
    }

    fn write_encoding(&mut self) -> io::Result<()> {
        match self.change.encoding.filter(|_| !self.encoding_written) {
            Some(value) => {
                self.encoding_written = true;
                write!(self.out, "Content-Transfer-Encoding: {value}\r\n")
            }
            None => Ok(()),
        }
    }

    fn end_field(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.continued = false;
        self.dropping = false;
        Ok(())
    }

    /// Passes on what is held: a whole field, or the first or next piece of one.
    fn pass_on(&mut self) -> io::Result<()> {
        let field = std::mem::take(&mut self.field);
        if !self.continued && self.change.encoding.is_some() && is_encoding_field(&field) {
            self.dropping = true;
            return self.write_encoding();
        }
        if self.dropping || field.is_empty() {
            return Ok(());
        }
        if self.limits.seven_bit && !field.is_ascii() {
            fold(
                &words::encode(&field, self.continued),
                self.limits.max_line,
                &mut self.out,
            )
        } else {
            fold(&field, self.limits.max_line, &mut self.out)
        }
    }

    /// A field is too long to be held: passes a piece on, cut at white space or else at a character, as lines of its
    /// own.
    fn pass_on_piece(&mut self) -> io::Result<()> {
        let cut = piece(&self.field);
        let tail = self.field.split_off(cut);
        self.field.extend_from_slice(b"\r\n");
        self.pass_on()?;
        self.continued = true;
        // A line end in it would leave an empty line, which ends the header block.
        self.field.push(b' ');
        self.field.extend_from_slice(tail.trim_ascii_start());
        Ok(())
    }
}

/// Where the first piece of a field ends: before white space that stands between words, else before a character.
fn piece(field: &[u8]) -> usize {
    let half = field.len() / 2;
    let words_end = |end: usize| field.get(..end).map_or(0, |text| text.trim_ascii_end().len());
    let last_word = words_end(field.len());
    let blank = field
        .get(half..last_word)
        .and_then(|text| memrchr2(b' ', b'\t', text));
    match blank.map(|blank| words_end(half + blank)) {
        Some(cut) if cut > 0 => cut,
        _ => {
            let later = field.get(half..last_word).unwrap_or_default();
            let character = later.iter().rposition(u8::is_ascii);
            character.map_or(last_word.max(1), |at| half + at + 1)
        }
    }
}

fn is_blank(b: u8) -> bool {
    words::is_space(b)
}

fn is_encoding_field(field: &[u8]) -> bool {
    super::mime::field_name(field).is_some_and(|name| name.eq_ignore_ascii_case(b"Content-Transfer-Encoding"))
}

impl<W: Write> Write for Fields<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if self.field.ends_with(b"\n") && !matches!(first, b' ' | b'\t') {
                self.end_field()?;
            }
            if self.field.len() >= MAX_FIELD && !self.field.ends_with(b"\n") && !self.field.ends_with(b"\r") {
                self.pass_on_piece()?;
            }
            let space = MAX_FIELD.saturating_sub(self.field.len()).max(1);
            let line = memchr(b'\n', rest)
                .map_or(rest.len(), |newline| newline + 1)
                .min(space);
            let (line, after) = rest.split_at(line);
            self.field.extend_from_slice(line);
            rest = after;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines; one that is longer than `max` is folded at white space, else cut, each rest after a space.
fn fold(text: &[u8], max: usize, out: &mut impl Write) -> io::Result<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let bare = line.strip_suffix(b"\r\n").unwrap_or(line);
        if bare.len() <= max {
            out.write_all(line)?;
        } else {
            fold_line(bare, max, out)?;
        }
    }
    Ok(())
}

/// White space at the end, and all but one blank of it at a fold, means nothing in a field and may go.
fn fold_line(line: &[u8], max: usize, out: &mut impl Write) -> io::Result<()> {
    let mut rest = line.trim_ascii_end();
    let mut room = max;
    // a fold that leaves nothing but the name on the first line helps nobody
    let mut least = memchr(b':', rest).map_or(1, |colon| colon + 2).min(max / 2);
    let mut first = true;
    while !rest.is_empty() {
        if !first || rest.first().is_some_and(|b| is_blank(*b)) {
            rest = rest.trim_ascii_start();
            out.write_all(b" ")?;
            room = max.saturating_sub(1).max(1);
        }
        first = false;
        let cut = if rest.len() <= room {
            rest.len()
        } else {
            cut(rest, least, room)
        };
        let (now, later) = rest.split_at(cut);
        out.write_all(now.trim_ascii_end())?;
        out.write_all(b"\r\n")?;
        rest = later;
        least = 1;
    }
    Ok(())
}

/// Where a text longer than `room` is cut: at white space, or before the character that is too much.
fn cut(text: &[u8], least: usize, room: usize) -> usize {
    let window = text.get(..=room).unwrap_or(text);
    let value = window
        .iter()
        .skip(least)
        .position(|b| !is_blank(*b))
        .map_or(room, |skip| least + skip);
    match memrchr2(b' ', b'\t', window) {
        Some(blank) if blank > value => blank,
        _ => {
            let inside = text
                .iter()
                .take(room + 1)
                .rev()
                .take(4)
                .take_while(|b| **b & 0xC0 == 0x80)
                .count();
            if inside < 4 && inside < room {
                room - inside
            } else {
                room
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(block: &[u8], change: Change, seven_bit: bool) -> String {
        let mut whole = None;
        for size in [1, 2, 3, 5, 7, 4096] {
            let mut out = Vec::new();
            let mut fields = Fields::new(
                &mut out,
                Limits {
                    max_line: 20,
                    seven_bit,
                },
                change,
            );
            block
                .chunks(size)
                .for_each(|part| fields.write_all(part).unwrap());
            fields.finish().unwrap();
            let out = String::from_utf8(out).unwrap();
            assert_eq!(*whole.get_or_insert(out.clone()), out);
        }
        whole.unwrap()
    }

    #[test]
    fn short_ascii_fields_are_untouched() {
        let block = b"a:b\r\n folded \r\n\tonce \r\nC : d\r\n";
        assert_eq!(passed(block, Change::default(), true).as_bytes(), block);
    }

    #[test]
    fn long_lines_fold_at_white_space_or_are_cut() {
        for (field, expected) in [
            ("Subject: one two three four", "Subject: one two\r\n three four"),
            ("Subject: 0123456789abcdef", "Subject: 0123456789a\r\n bcdef"),
            (
                "S: 0123456789abcdef0123456789abcdef",
                "S: 0123456789abcdef0\r\n 123456789abcdef",
            ),
            ("S: x                         y", "S: x\r\n y"),
            ("S: x                          ", "S: x"),
            ("S:                             ", "S:"),
            ("S:                            x", "S:\r\n x"),
            ("S: x\r\n                          \r\n y", "S: x\r\n y"),
            ("S: ääääääääääääää", "S: ääääääää\r\n ääääää"),
            ("01234567890123456789: x", "01234567890123456789\r\n : x"),
        ] {
            let out = passed(format!("{field}\r\n").as_bytes(), Change::default(), false);
            assert_eq!(out, format!("{expected}\r\n"), "{field}");
        }
    }

    #[test]
    fn mime_fields_are_replaced_in_place_and_added_at_the_end() {
        let change = Change {
            encoding: Some("base64"),
            mime_version: true,
            content_type: Some("a/b"),
        };
        assert_eq!(
            passed(
                b"a: b\r\ncontent-transfer-encoding :\r\n 8bit\r\nContent-Transfer-Encoding: x\r\nc: d\r\n",
                change,
                false
            ),
            "a: b\r\nContent-Transfer-Encoding: base64\r\nc: d\r\nMIME-Version: 1.0\r\nContent-Type: a/b\r\n"
        );
        let change = Change {
            encoding: Some("7bit"),
            ..Change::default()
        };
        assert_eq!(passed(b"", change, false), "Content-Transfer-Encoding: 7bit\r\n");
    }

    #[test]
    fn pieces_of_a_huge_field_end_between_words_wherever_the_limit_falls() {
        // the limit falls once on each byte of a word and of a fold
        for shift in 0..32 {
            let start = format!("To: {}", "x".repeat(shift));
            let words = "one-of-the-words,\r\n\tand-another\t".repeat(MAX_FIELD / 32 + 10);
            let block = format!("{start} {words}end\r\nC: d\r\n");
            let mut out = Vec::new();
            let limits = Limits {
                max_line: 998,
                seven_bit: false,
            };
            let mut fields = Fields::new(&mut out, limits, Change::default());
            fields.write_all(block.as_bytes()).unwrap();
            fields.finish().unwrap();
            let out = String::from_utf8(out).unwrap();
            let same = out.split_ascii_whitespace().eq(block.split_ascii_whitespace());
            assert!(same, "shift {shift}: a word was cut");
            assert!(
                !out.contains("\r\n\r\n"),
                "shift {shift}: the header block ends early"
            );
            assert!(out.lines().count() > MAX_FIELD / 33 && !out.replace("\r\n", "").contains(['\r', '\n']));
        }
    }

    #[test]
    fn a_huge_field_goes_in_pieces_and_nothing_of_it_is_lost() {
        let text = "é123456789 ".repeat(300_000);
        let mut out = Vec::new();
        let mut fields = Fields::new(
            &mut out,
            Limits {
                max_line: 998,
                seven_bit: false,
            },
            Change::default(),
        );
        fields
            .write_all(format!("Subject: {text}\r\nC: d\r\n").as_bytes())
            .unwrap();
        fields.finish().unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.lines().all(|line| line.len() <= 998));
        assert!(out.ends_with("\r\nC: d\r\n"));
        let change = Change {
            encoding: Some("7bit"),
            ..Change::default()
        };
        let limits = Limits {
            max_line: 998,
            seven_bit: true,
        };
        let mut dropped = Vec::new();
        let mut fields = Fields::new(&mut dropped, limits, change);
        let field = format!("Content-Transfer-Encoding: {text}\r\nC: d\r\n");
        fields.write_all(field.as_bytes()).unwrap();
        fields.finish().unwrap();
        assert_eq!(dropped, b"Content-Transfer-Encoding: 7bit\r\nC: d\r\n");
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(squeezed(&out), squeezed(&format!("Subject: {text} C: d")));
    }
}
