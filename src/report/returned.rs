//! The part that brings the original back: the whole message or its header block (RFC 3461 §4.3, RFC 6522 §3).

use super::{About, Kind};
use crate::mail::Ret;
use std::borrow::Cow;

/// RFC 5322 §2.1.1, without the line end.
const MAX_LINE: usize = 998;

/// The third part.
pub struct Returned<'a> {
    /// `message/rfc822` or `text/rfc822-headers`.
    pub content_type: &'static str,
    /// CRLF lines of at most 998 bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Whether a byte over 127 is in it.
    pub eight_bit: bool,
    /// How much it is, and why.
    pub shown: Shown,
}

/// How much of the original comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Whole,
    /// The sender wanted no more than the headers, or nothing failed.
    HeadersAsAsked,
    /// It is too large, or its lines cannot stand inside another message.
    HeadersOnly,
}

/// The whole message when something failed, the sender did not ask for less, and it can stand inside another message
/// as it is; else the headers. (RFC 3461 §4.3: RET counts only where something failed; else headers are enough.)
pub fn part<'a>(kind: Kind, about: &About<'a>) -> Returned<'a> {
    let wanted = kind == Kind::Failure && about.ret != Some(Ret::Hdrs);
    let whole = about.original_whole.filter(|whole| wanted && embeddable(whole));
    let (content_type, bytes, shown) = match whole {
        Some(whole) => ("message/rfc822", Cow::Borrowed(whole), Shown::Whole),
        None => {
            let shown = if wanted {
                Shown::HeadersOnly
            } else {
                Shown::HeadersAsAsked
            };
            ("text/rfc822-headers", header_lines(about.original_header), shown)
        }
    };
    Returned {
        content_type,
        eight_bit: !bytes.is_ascii(),
        bytes,
        shown,
    }
}

/// The value of the `Message-ID` field without angle brackets, if it can stand in a field of ours.
pub fn message_id(header: &[u8]) -> Option<String> {
    let value = field(header, "message-id")?;
    let (_, after) = value.split_once('<')?;
    let (id, _) = after.split_once('>')?;
    let fits =
        !id.is_empty() && id.len() <= MAX_LINE - 20 && id.bytes().all(|b| b.is_ascii_graphic() && b != b'<');
    fits.then(|| id.to_owned())
}

/// The first field of that name (given in lower case), unfolded.
pub fn field(header: &[u8], name: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in header.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match &mut found {
            Some(value) if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) => {
                value.push(' ');
                value.push_str(String::from_utf8_lossy(line).trim());
            }
            Some(_) => break,
            None => {
                let Some(colon) = memchr::memchr(b':', line) else {
                    continue;
                };
                let (before, after) = line.split_at(colon);
                if before.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
                    let value = after.get(1..).unwrap_or_default();
                    found = Some(String::from_utf8_lossy(value).trim().to_owned());
                }
            }
        }
    }
    found
}

/// Whether every line ends in CRLF, none is too long, and there is no NUL: then it may stand in a 7bit or 8bit part.
fn embeddable(message: &[u8]) -> bool {
    let lines_fit = message
        .split(|b| *b == b'\n')
        .all(|line| line.strip_suffix(b"\r").unwrap_or(line).len() <= MAX_LINE);
    lines_fit && memchr::memchr(0, message).is_none() && bare_line_ends(message) == 0
}

/// How many CR and LF do not belong to a CRLF.
fn bare_line_ends(text: &[u8]) -> usize {
    let mut bare = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', text) {
        let pair = match text.get(at) {
            Some(b'\r') => text.get(at + 1) == Some(&b'\n'),
            _ => at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\r'),
        };
        bare += usize::from(!pair);
    }
    bare
}

/// A header block that may stand in a 7bit or 8bit part. Borrowed as it is when it already may.
fn header_lines(header: &[u8]) -> Cow<'_, [u8]> {
    if embeddable(header) && header.ends_with(b"\r\n") {
        return Cow::Borrowed(header);
    }
    let mut out = Vec::with_capacity(header.len() + header.len() / 64 + 2);
    for line in header.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            push_folded(&mut out, line);
        }
    }
    Cow::Owned(out)
}

/// One line, folded at blanks where it is too long, or where it must be when it has none. Bare CR and NUL become
/// blanks.
fn push_folded(out: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    let mut room = MAX_LINE;
    while rest.len() > room {
        let head = rest.get(..room).unwrap_or(rest);
        // a fold before the first blank of a continuation would make an empty line
        let end = memchr::memrchr2(b' ', b'\t', head).filter(|at| *at > 1);
        let (now, later) = rest.split_at(end.unwrap_or_else(|| char_boundary(head)));
        push_line(out, now);
        let cut_a_word = end.is_none() && !later.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
        if cut_a_word {
            out.push(b' ');
        }
        room = MAX_LINE - usize::from(cut_a_word);
        rest = later;
    }
    push_line(out, rest);
}

/// A line, unless it is blank: many readers would take that for the end of the header block.
fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    if !line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | 0)) {
        out.extend(line.iter().map(blank_if_control));
        out.extend_from_slice(b"\r\n");
    }
}

/// The longest prefix of at most all of `head` that does not end inside a UTF-8 sequence.
fn char_boundary(head: &[u8]) -> usize {
    let continued = head
        .iter()
        .rev()
        .take(4)
        .take_while(|b| **b & 0xC0 == 0x80)
        .count();
    match head
        .len()
        .checked_sub(continued + 1)
        .and_then(|at| head.get(at).map(|b| (at, *b)))
    {
        Some((at, lead)) if lead >= 0xC0 && at > 1 => at,
        _ => head.len(),
    }
}

fn blank_if_control(b: &u8) -> u8 {
    if matches!(b, b'\r' | 0) { b' ' } else { *b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_unfolded() {
        let header = b"A: x\r\nMESSAGE-ID :\r\n <a@b>\r\nDate: today\r\nDate: tomorrow\r\n";
        assert_eq!(message_id(header).as_deref(), Some("a@b"));
        assert_eq!(field(header, "date").as_deref(), Some("today"));
        assert_eq!(field(header, "subject"), None);
    }

    #[test]
    fn a_message_id_that_could_break_a_field_is_not_used() {
        for wrong in [
            "Message-ID: a@b\r\n",
            "Message-ID: <a b>\r\n",
            "Message-ID: <>\r\n",
            "Message-ID: <\u{f6}@b>\r\n",
        ] {
            assert_eq!(message_id(wrong.as_bytes()), None, "{wrong}");
        }
        let long = format!("Message-ID: <{}@b>\r\n", "x".repeat(1200));
        assert_eq!(message_id(long.as_bytes()), None);
    }

    #[test]
    fn headers_are_made_to_fit() {
        let fine = b"Subject: x\r\n y\r\n".as_slice();
        assert!(matches!(header_lines(fine), Cow::Borrowed(_)));
        let long = format!(
            "Subject: {}\nX: {}\nA: b\rc\0d",
            "word ".repeat(500),
            "ö".repeat(1500)
        );
        let out = header_lines(long.as_bytes()).into_owned();
        assert!(
            embeddable(&out) && out.ends_with(b"\r\n"),
            "{}",
            String::from_utf8_lossy(&out)
        );
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            (text.matches("word").count(), text.matches('ö').count()),
            (500, 1500)
        );
        assert!(!text.contains("\r\n\r\n") && text.ends_with("A: b c d\r\n"));
        let mail = format!("{text}\r\n");
        let parsed = mail_parser::MessageParser::new()
            .parse_headers(mail.as_bytes())
            .unwrap();
        assert_eq!(parsed.headers().len(), 3);
    }

    #[test]
    fn bare_line_ends_are_seen() {
        assert_eq!(bare_line_ends(b"a\r\nb\nc\rd\r\n\n\r"), 4);
        assert!(embeddable(b"a\r\n") && !embeddable(b"a\n") && !embeddable(b"a\0\r\n"));
        assert!(embeddable(&[&[b'x'; 998][..], b"\r\n"].concat()) && !embeddable(&[b'x'; 999]));
    }
}
