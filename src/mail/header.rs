//! The header block: where each field stands, byte by byte (RFC 5322 §2.2), without changing any.
//!
//! This scanner is the authority for every edit of a message: what is left out, what is missing, where an address
//! was read. It finds fields and nothing else; what a value means is told by [`super::mailbox`] and
//! [`super::structured`]. Pure; one pass; not here: finding the blank line that ends the block.

use super::plain::is_printable;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

/// Fields one header block may have. With `pickup::split::MAX_HEADER` it bounds the memory of a scan.
pub const MAX_FIELDS: usize = 500_000;

/// One field, folds included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, without the spaces and non-breaking spaces around it.
    pub name: &'a [u8],
    /// What follows the colon, folds included, without the final line end; offsets into the block.
    pub value: Range<usize>,
    /// The whole field with its final line end; offsets into the block.
    pub whole: Range<usize>,
    /// Line of the name.
    pub line: usize,
}

/// Why a block is not a header block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanError {
    /// A line that is neither `name: value` nor a fold.
    NotAField {
        /// Which line.
        line: usize,
        /// What it says, by [`shown`].
        text: String,
    },
    /// More than [`MAX_FIELDS`] fields.
    TooLarge,
}

impl Field<'_> {
    /// Whether this is the field `name`, in any letter case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The name as text.
    pub fn shown_name(&self) -> String {
        String::from_utf8_lossy(self.name).into_owned()
    }

    /// The value's bytes, folds included. `block` is the block that was scanned.
    pub fn value_in<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        block.get(self.value.clone()).unwrap_or_default()
    }

    /// Non-breaking spaces before the name, between name and colon and right after the colon: forgiven when read,
    /// but no other program understands them, so they are left out of what is sent. Ascending.
    pub fn forgiven(&self, block: &[u8]) -> Vec<Range<usize>> {
        let colon = self.value.start.saturating_sub(1);
        let before = block.get(self.whole.start..colon).unwrap_or_default();
        let name_at = self.whole.start + (before.len() - trim_start(before).len());
        let name_end = name_at + self.name.len();
        let value = self.value_in(block);
        let value_at = self.value.start + (value.len() - trim_start(value).len());
        [
            self.whole.start..name_at,
            name_end..colon,
            self.value.start..value_at,
        ]
        .into_iter()
        .filter_map(|gap| non_breaking(block, gap))
        .collect()
    }
}

/// Finds all fields of `block`, which begins at line `first_line` of its file and ends before the blank line.
/// Lines end in LF or CRLF; a CR anywhere else is part of the value. The fields cover the block without a gap.
pub fn scan(block: &[u8], first_line: usize) -> Result<Vec<Field<'_>>, ScanError> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut start = 0;
    for (nth, line) in lines(block).enumerate() {
        let end = start + line.len();
        let text_end = start + without_line_end(line).len();
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        match fields.last_mut() {
            Some(field) if is_fold => {
                field.value.end = text_end;
                field.whole.end = end;
            }
            _ => {
                let Some((name, colon)) = split_name(line) else {
                    return Err(ScanError::NotAField {
                        line: first_line + nth,
                        text: shown(without_line_end(line)),
                    });
                };
                if fields.len() == MAX_FIELDS {
                    return Err(ScanError::TooLarge);
                }
                fields.push(Field {
                    name,
                    value: start + colon + 1..text_end,
                    whole: start..end,
                    line: first_line + nth,
                });
            }
        }
        start = end;
    }
    Ok(fields)
}

/// The block as its receivers will read it: a CR that ends no line goes out as a space (`smtp::content`), so whoever
/// reads a value here sees that space too. All offsets stay.
pub fn as_sent(block: &[u8]) -> Cow<'_, [u8]> {
    let is_bare = |at: usize| block.get(at + 1) != Some(&b'\n');
    let Some(first) = memchr::memchr_iter(b'\r', block).find(|at| is_bare(*at)) else {
        return Cow::Borrowed(block);
    };
    let mut sent = block.to_vec();
    for (nth, byte) in sent.iter_mut().enumerate().skip(first) {
        if *byte == b'\r' && is_bare(nth) {
            *byte = b' ';
        }
    }
    Cow::Owned(sent)
}

/// A value as one line of text: folds become one space, outer spaces go, what is not UTF-8 becomes U+FFFD.
pub fn unfold(value: &[u8]) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    let mut after_fold = false;
    for &byte in value {
        match byte {
            b'\r' | b'\n' => after_fold = true,
            b' ' | b'\t' if after_fold => {}
            _ => {
                if std::mem::take(&mut after_fold) {
                    out.truncate(out.trim_ascii_end().len());
                    out.push(b' ');
                }
                out.push(byte);
            }
        }
    }
    String::from_utf8_lossy(trim(&out)).into_owned()
}

/// Bytes as one line for people: control characters escaped, bytes that are not UTF-8 as `\xNN`, at most 200
/// characters.
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    if bytes.len() <= MOST && is_printable(bytes) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    // an escape is up to ten characters for one byte; four bytes may be one character
    let mut out = String::new();
    for chunk in bytes.get(..MOST * 4 + 4).unwrap_or(bytes).utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            // writing to a String cannot fail
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    if out.chars().count() > MOST {
        out = out.chars().take(MOST - 1).collect();
        out.push('…');
    }
    out
}

/// Without spaces, tabs and non-breaking spaces (UTF-8 or Latin-1) at both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    loop {
        text = match text {
            [rest @ .., 0xC2, 0xA0] | [rest @ .., b' ' | b'\t'] => rest,
            [rest @ .., 0xA0] if !ends_in_character(text) => rest,
            _ => return text,
        };
    }
}

/// Whether the last byte belongs to a UTF-8 character of several: the second byte of `à` is a non-breaking space in
/// Latin-1.
fn ends_in_character(text: &[u8]) -> bool {
    (2..=4).any(|len| {
        let tail = text.len().checked_sub(len).and_then(|at| text.get(at..));
        tail.is_some_and(|tail| std::str::from_utf8(tail).is_ok())
    })
}

fn trim_start(text: &[u8]) -> &[u8] {
    let mut text = text;
    loop {
        text = match text {
            [0xC2, 0xA0, rest @ ..] | [b' ' | b'\t' | 0xA0, rest @ ..] => rest,
            _ => return text,
        };
    }
}

/// The lines of a block, each with its line end.
pub fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let len = memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        let (line, tail) = rest.split_at_checked(len).filter(|(line, _)| !line.is_empty())?;
        rest = tail;
        Some(line)
    })
}

/// A line without its LF or CRLF.
pub fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] => text,
        _ => line,
    }
}

/// The trimmed name and the offset of the colon, when the line begins a field.
fn split_name(line: &[u8]) -> Option<(&[u8], usize)> {
    // a fold is no beginning, though a non-breaking space in its place would be forgiven
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return None;
    }
    let colon = memchr::memchr(b':', line)?;
    let name = trim(line.get(..colon)?);
    let is_name = !name.is_empty() && name.iter().all(|b| matches!(b, 33..=126));
    is_name.then_some((name, colon))
}

/// From the first to the last non-breaking space in `gap`, which holds nothing but spaces.
fn non_breaking(block: &[u8], gap: Range<usize>) -> Option<Range<usize>> {
    let spaces = block.get(gap.clone())?;
    let is_part = |b: &u8| matches!(b, 0xC2 | 0xA0);
    let first = spaces.iter().position(is_part)?;
    let last = spaces.iter().rposition(is_part)?;
    Some(gap.start + first..gap.start + last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(block: &[u8]) -> Vec<String> {
        scan(block, 1).unwrap().iter().map(Field::shown_name).collect()
    }

    #[test]
    fn fields_with_folds_and_any_line_end() {
        let block = b"From: a\r\n b\r\n\tc\nTo:d\nX-Empty:\r\nLast: e";
        let fields = scan(block, 5).unwrap();
        let seen: Vec<_> = fields
            .iter()
            .map(|f| (f.shown_name(), f.value_in(block), f.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("From".into(), &b" a\r\n b\r\n\tc"[..], 5),
                ("To".into(), b"d", 8),
                ("X-Empty".into(), b"", 9),
                ("Last".into(), b" e", 10),
            ]
        );
        assert_eq!(fields[0].whole, 0..16);
    }

    #[test]
    fn a_character_that_ends_like_a_non_breaking_space_stays_whole() {
        for text in ["voil\u{e0}", "\u{3a20}", "\u{1f620}"] {
            assert_eq!(trim(format!(" {text}\u{a0} ").as_bytes()), text.as_bytes());
            assert_eq!(unfold(text.as_bytes()), text);
        }
        assert_eq!(trim(b"\xA0gar\xE7on\xA0\xA0"), b"gar\xE7on");
        assert_eq!(trim(b"\xA0\xA0"), b"");
    }

    #[test]
    fn spaces_around_names_are_forgiven() {
        let block = "\u{a0}From\u{a0} : a\nTo\u{a0}:\u{a0}b\nCc : c\n".as_bytes();
        assert_eq!(names(block), ["From", "To", "Cc"]);
        assert_eq!(names(b"\xA0From\xA0: a\n"), ["From"]);
        let fields = scan(block, 1).unwrap();
        let mut kept = block.to_vec();
        for gap in fields
            .iter()
            .rev()
            .flat_map(|f| f.forgiven(block).into_iter().rev())
        {
            kept.drain(gap);
        }
        assert_eq!(String::from_utf8(kept).unwrap(), "From : a\nTo:b\nCc : c\n");
    }

    #[test]
    fn a_line_that_is_no_field_is_named() {
        for (block, line, text) in [
            (&b"From: a\nHello there\n"[..], 2, "Hello there"),
            (b" From: a\n", 1, " From: a"),
            (b"From: a\nDear Bob: hello\n", 2, "Dear Bob: hello"),
            (b": a\n", 1, ": a"),
            (b"Fr\0m: a\n", 1, "Fr\\u{0}m: a"),
            (b"\xC3\xA4: a\n", 1, "ä: a"),
            (b"\xE4: a\n", 1, "\\xE4: a"),
            (b"A: b\n\nC: d\n", 2, ""),
        ] {
            let text = text.to_owned();
            assert_eq!(scan(block, 1), Err(ScanError::NotAField { line, text }));
        }
    }

    #[test]
    fn a_bare_cr_is_part_of_the_value() {
        let block = b"A: b\rC: d\r\nE: f\r\n";
        assert_eq!(names(block), ["A", "E"]);
        assert_eq!(scan(block, 1).unwrap()[0].value_in(block), b" b\rC: d");
    }

    #[test]
    fn a_bare_cr_is_read_as_the_space_that_is_sent() {
        let block = b"A:\r\xA0b\r\r\nC: d\r\n e\r";
        assert_eq!(&*as_sent(block), b"A: \xA0b \r\nC: d\r\n e ");
        let field = scan(block, 1).unwrap().remove(0);
        assert_eq!(field.forgiven(&as_sent(block)), vec![3..4; 1]);
        assert!(matches!(as_sent(b"A: b\r\nC: d\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn too_many_fields_are_refused() {
        assert_eq!(scan(&b"a:\n".repeat(MAX_FIELDS + 1), 1), Err(ScanError::TooLarge));
    }

    #[test]
    fn unfolding() {
        assert_eq!(unfold(b"  a \r\n\t b\n c\xFF  "), "a b c\u{fffd}");
        assert_eq!(unfold("\u{a0}x\u{a0}".as_bytes()), "x");
        assert_eq!(unfold(b"a\rb"), "a b");
    }

    #[test]
    fn shown_is_one_short_line() {
        assert_eq!(shown(b"a\tb\x1b\xff"), "a\\tb\\u{1b}\\xFF");
        let long = shown("ä".repeat(500).as_bytes());
        assert_eq!(long.chars().count(), 200);
        assert!(long.ends_with("ä…"));
        assert_eq!(shown(&[0; 5000]).chars().count(), 200);
    }

    proptest! {
        #[test]
        fn fields_cover_the_block(lines in proptest::collection::vec("([A-Za-z-]{1,9}:| |\t)[ -~\\r]{0,20}\\r?\\n", 0..20)) {
            let block = lines.concat().into_bytes();
            if let Ok(fields) = scan(&block, 1) {
                let mut end = 0;
                for field in &fields {
                    prop_assert_eq!(field.whole.start, end);
                    prop_assert!(field.whole.start < field.value.start && field.value.start <= field.value.end);
                    prop_assert!(field.value.end <= field.whole.end);
                    end = field.whole.end;
                }
                prop_assert_eq!(end, block.len());
            } else {
                prop_assert!(block.starts_with(b" ") || block.starts_with(b"\t"));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(block: Vec<u8>) {
            for field in scan(&block, 1).unwrap_or_default() {
                field.forgiven(&block);
                unfold(field.value_in(&block));
            }
            shown(&block);
        }
    }
}
