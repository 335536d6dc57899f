//! The reply codec: bytes of a host → [`Reply`] (RFC 5321 §4.2, RFC 2034).
//!
//! Keeps the raw lines first and parses second, in one linear pass over whatever pieces the socket gives, so that
//! pipelined replies parse from one read. Everything is bounded. Reads and writes nothing itself.
//!
//! Not here: what a reply means for a recipient (`verdict`).

use crate::mail::EnhancedStatus;
use crate::mail::plain::is_printable;

/// Of a longer line only this much is kept.
const KEPT_OF_LINE: usize = 4 * 1024;
/// A longer line ends the connection. Larger than `KEPT_OF_LINE`.
const MAX_LINE: usize = 64 * 1024;
/// A reply of more lines ends the connection.
const MAX_LINES: usize = 128;
/// An outcome carries at most this much of a reply: it is kept once per recipient.
const MAX_TEXT: usize = 2 * 1024;

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// The lines with their codes, controls escaped, joined by `\n`.
    raw: String,
}

impl Reply {
    /// `2`, `3`, `4` or `5`.
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    pub fn is_positive(&self) -> bool {
        self.class() == 2
    }

    /// The lines as they came (controls escaped).
    pub fn raw_lines(&self) -> impl Iterator<Item = &str> {
        self.raw.split('\n')
    }

    /// What follows the code on each line.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.raw_lines().map(|line| line.get(4..).unwrap_or(""))
    }

    /// The enhanced status in the text, with the class that the code has: the code is what a host means.
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        let word = self.texts().next()?.split(' ').next()?;
        let found = EnhancedStatus::parse(word)?;
        let class = u8::try_from(self.class()).ok()?;
        Some(EnhancedStatus::new(class, found.subject, found.detail))
    }

    /// One line: the code, then the texts joined by a space; an enhanced status that every line repeats stands once.
    pub fn one_line(&self) -> String {
        let mut line = self.code.to_string();
        let mut status = None;
        for text in self.texts() {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            let text = if status.is_some() && status == Some(word) {
                rest
            } else {
                text
            };
            if status.is_none() && EnhancedStatus::parse(word).is_some() {
                status = Some(word);
            }
            if !text.is_empty() {
                line.push(' ');
                line.push_str(text);
            }
            if line.len() > MAX_TEXT {
                cut(&mut line, MAX_TEXT);
                break;
            }
        }
        line
    }

    /// The same reply with every occurrence of a secret blotted out.
    pub fn without(mut self, secrets: &[&str]) -> Self {
        for secret in secrets.iter().filter(|s| s.len() >= 4) {
            if self.raw.contains(secret) {
                self.raw = self.raw.replace(secret, "***");
            }
        }
        self
    }
}

/// Shortens to at most `len` bytes and marks the cut.
fn cut(text: &mut String, len: usize) {
    let mut end = len;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
}

/// Why bytes are not a reply, and the lines that came before that was clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotAReply {
    /// A clause, e.g. `a reply of more than 128 lines`.
    pub why: String,
    /// For the dialogue.
    pub raw: String,
}

/// A reply in the making.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    raw: String,
    code: Option<u16>,
    lines: usize,
    line: Vec<u8>,
    line_len: usize,
}

impl Decoder {
    /// Takes what it can use of `input`: how many bytes that was, and the reply when it is whole.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), NotAReply> {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.absorb(rest)?;
                return Ok((input.len(), None));
            };
            self.absorb(rest.get(..end).unwrap_or(rest))?;
            used += end + 1;
            if let Some(reply) = self.end_line()? {
                return Ok((used, Some(reply)));
            }
        }
        Ok((used, None))
    }

    fn absorb(&mut self, part: &[u8]) -> Result<(), NotAReply> {
        self.line_len += part.len();
        if self.line_len > MAX_LINE {
            return Err(self.not_a_reply("a line of more than 64 KiB"));
        }
        let room = KEPT_OF_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
        Ok(())
    }

    /// The line is whole: checks and keeps it. `Some` when it was the last of its reply.
    fn end_line(&mut self) -> Result<Option<Reply>, NotAReply> {
        let cut = self.line_len > self.line.len();
        let line = std::mem::take(&mut self.line);
        self.line_len = 0;
        let line_text = line.strip_suffix(b"\r").unwrap_or(&line);
        match self.lines {
            0 => self.raw.reserve(line_text.len()),
            _ => self.raw.push('\n'),
        }
        push_escaped(&mut self.raw, line_text);
        if cut {
            self.raw.push('…');
        }
        self.lines += 1;
        let head = head(line_text);
        self.line = line;
        self.line.clear();

        let Some((code, last)) = head else {
            return Err(self.not_a_reply("a line that does not begin with a reply code"));
        };
        if let Some(first) = self.code.replace(code).filter(|first| *first != code) {
            return Err(self.not_a_reply(&format!("one reply with two codes, {first} and {code}")));
        }
        if !last && self.lines >= MAX_LINES {
            return Err(self.not_a_reply("a reply of more than 128 lines"));
        }
        Ok(last.then(|| self.take_reply(code)))
    }

    fn take_reply(&mut self, code: u16) -> Reply {
        self.lines = 0;
        self.code = None;
        let raw = std::mem::take(&mut self.raw);
        Reply { code, raw }
    }

    fn not_a_reply(&mut self, why: &str) -> NotAReply {
        if !self.line.is_empty() {
            let start: Vec<u8> = self.line.iter().take(80).copied().collect();
            self.raw.push('\n');
            push_escaped(&mut self.raw, &start);
            self.raw.push('…');
        }
        NotAReply {
            why: why.to_owned(),
            raw: std::mem::take(&mut self.raw),
        }
    }
}

/// The code of a line and whether it is the last (`250 `, or a bare `250`).
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let last = match rest.first() {
        Some(b'-') => false,
        Some(b' ' | b'\t') | None => true,
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, last))
}

/// Text that is safe in a line of a transcript: no controls, no broken UTF-8.
fn push_escaped(to: &mut String, bytes: &[u8]) {
    if is_printable(bytes) {
        return to.push_str(&String::from_utf8_lossy(bytes)); // borrowed
    }
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\t' => to.push(' '),
            c if c.is_control() => to.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<Vec<Reply>, NotAReply> {
        let mut decoder = Decoder::default();
        let mut replies = Vec::new();
        let mut rest = input;
        while !rest.is_empty() {
            let (used, reply) = decoder.feed(rest)?;
            replies.extend(reply);
            rest = &rest[used..];
        }
        Ok(replies)
    }

    #[test]
    fn pipelined_replies_parse_from_one_read_and_from_single_bytes() {
        let input = b"250-a\r\n250 b\r\n550 5.7.606 no\r\n354\r\n451 x\n";
        let whole = all(input).unwrap();
        assert_eq!(
            whole.iter().map(|r| r.code).collect::<Vec<_>>(),
            [250, 550, 354, 451]
        );
        let mut decoder = Decoder::default();
        let bytewise: Vec<Reply> = input
            .iter()
            .filter_map(|b| decoder.feed(&[*b]).unwrap().1)
            .collect();
        assert_eq!(whole, bytewise);
    }

    #[test]
    fn the_enhanced_status_keeps_its_numbers_and_takes_the_class_of_the_code() {
        let status = |text: &[u8]| all(text).unwrap()[0].enhanced().map(|s| s.to_string());
        assert_eq!(
            status(b"550 5.7.606 Access denied\r\n").as_deref(),
            Some("5.7.606")
        );
        assert_eq!(status(b"450 5.1.1 x\r\n").as_deref(), Some("4.1.1"));
        assert_eq!(status(b"550 no such user\r\n"), None);
        assert_eq!(status(b"550\r\n"), None);
    }

    #[test]
    fn lines_join_and_a_repeated_status_stands_once() {
        let reply = &all(b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n").unwrap()[0];
        assert_eq!(reply.one_line(), "550 5.1.1 no such user");
        assert_eq!(all(b"250\r\n").unwrap()[0].one_line(), "250");
    }

    #[test]
    fn codes_of_one_reply_must_agree() {
        let error = all(b"220-hi\r\n550 bye\r\n").unwrap_err();
        assert_eq!(error.why, "one reply with two codes, 220 and 550");
        assert_eq!(error.raw, "220-hi\n550 bye");
    }

    #[test]
    fn what_is_no_reply_is_said_so() {
        for junk in [
            "hello\r\n",
            "25\r\n",
            "\r\n",
            "2500 x\r\n",
            "150 x\r\n",
            "999 x\r\n",
        ] {
            assert!(
                all(junk.as_bytes()).unwrap_err().why.contains("reply code"),
                "{junk:?}"
            );
        }
    }

    #[test]
    fn a_long_line_is_cut_and_a_longer_one_refused() {
        let mut input = b"250 ".to_vec();
        input.resize(60_000, b'x');
        input.extend_from_slice(b"\r\n");
        let reply = &all(&input).unwrap()[0];
        assert_eq!(reply.raw.chars().count(), KEPT_OF_LINE + 1);
        assert!(reply.one_line().len() <= MAX_TEXT + '…'.len_utf8());
        let endless = vec![b'2'; MAX_LINE + 1];
        assert_eq!(all(&endless).unwrap_err().why, "a line of more than 64 KiB");
    }

    #[test]
    fn endless_replies_end() {
        let error = all("250-x\r\n".repeat(1000).as_bytes()).unwrap_err();
        assert_eq!(error.why, "a reply of more than 128 lines");
        let longest = "250-x\r\n".repeat(MAX_LINES - 1) + "250 x\r\n";
        assert_eq!(all(longest.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn controls_are_shown_escaped() {
        let reply = &all(b"250 a\0b\x1b[2J\xff\rc\r\n").unwrap()[0];
        assert_eq!(reply.one_line(), "250 a\\x00b\\x1B[2J\u{fffd}\\x0Dc");
    }

    #[test]
    fn secrets_are_blotted_out() {
        let reply = all(b"535 hunter2 is wrong\r\n").unwrap().remove(0);
        assert_eq!(reply.without(&["hunter2"]).one_line(), "535 *** is wrong");
    }
}
