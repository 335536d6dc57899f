//! The tokens of RFC 5322 §3.2 and §3.4, stepped over or copied: quoted strings, comments, brackets, encoded words.
//!
//! Each byte is looked at a bounded number of times, whatever the value is.

use super::Mailbox;
use crate::mail::header;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Commas divide; runs to the end.
    List,
    /// One mailbox, then ESMTP parameters.
    Leading,
}

/// Reads forward over the value; each byte is looked at a bounded number of times.
pub(super) struct Reader<'a> {
    value: &'a [u8],
    pub(super) at: usize,
    lines: usize,
    mode: Mode,
    /// No encoded word that begins before this offset ends before it (keeps the search for `?=` linear).
    no_word_before: usize,
}

/// One mailbox while it is being read.
#[derive(Default)]
struct Draft {
    start: Option<(usize, usize)>,
    end: usize,
    /// What is not in angle brackets: display name, or a bare address.
    bare: Vec<u8>,
    space_due: bool,
    /// Inside `[…]`, where a colon is no group.
    literal: bool,
    angle: Option<Vec<u8>>,
    fault: Option<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a [u8], mode: Mode) -> Self {
        Self {
            value,
            at: 0,
            lines: 0,
            mode,
            no_word_before: 0,
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.value.get(self.at + ahead).copied()
    }

    pub(super) fn next_mailbox(&mut self) -> Option<Mailbox<'a>> {
        while self.at < self.value.len() {
            let mut draft = Draft::default();
            self.read_draft(&mut draft);
            if let Some(mailbox) = self.finish(draft) {
                return Some(mailbox);
            }
        }
        None
    }

    /// Reads up to and with the next dividing comma, or in a leading block up to the closing bracket.
    fn read_draft(&mut self, draft: &mut Draft) {
        while let Some(byte) = self.peek(0) {
            if let Some(spaces) = self.space_len() {
                self.lines += usize::from(byte == b'\n');
                self.at += spaces;
                draft.space_due = true;
                draft.literal = false;
                continue;
            }
            if self.mode == Mode::List {
                match byte {
                    b',' | b';' => {
                        self.at += 1;
                        return;
                    }
                    b':' if !draft.literal => {
                        // what stood before it was the name of a group
                        self.at += 1;
                        let fault = draft.angle.is_some().then_some("a colon follows its bracket");
                        *draft = Draft {
                            fault,
                            ..Draft::default()
                        };
                        continue;
                    }
                    _ => {}
                }
            }
            draft.start.get_or_insert((self.at, self.lines));
            self.read_token(byte, draft);
            draft.end = self.at;
            if self.mode == Mode::Leading && draft.angle.is_some() {
                return;
            }
        }
    }

    fn read_token(&mut self, byte: u8, draft: &mut Draft) {
        let opens_word = draft.bare.is_empty() || draft.space_due;
        match byte {
            b'(' => {
                self.skip_comment(draft);
                draft.space_due = true;
            }
            b'<' if !self.is_inside_parameter(draft) => self.read_angle(draft),
            b'"' => {
                draft.make_room(byte);
                self.copy_quoted(draft, Part::Bare);
            }
            b'=' if opens_word && let Some(len) = self.encoded_word_len() => {
                draft.make_room(byte);
                let word = self.value.get(self.at..self.at + len).unwrap_or_default();
                draft.bare.extend_from_slice(word);
                self.at += len;
                // a bracket may follow at once
                draft.space_due = self.peek(0) == Some(b'<');
            }
            _ => {
                match byte {
                    b'[' => draft.literal = true,
                    b']' => draft.literal = false,
                    _ => {}
                }
                draft.make_room(byte);
                draft.bare.push(byte);
                self.at += 1;
            }
        }
    }

    /// `auth=<…>` after a bare address of a leading block is no mailbox.
    fn is_inside_parameter(&self, draft: &Draft) -> bool {
        self.mode == Mode::Leading && !draft.space_due && draft.bare.last() == Some(&b'=')
    }

    /// Length of the white space here: a space, a tab, a line end, a non-breaking space. Not a bare CR.
    fn space_len(&self) -> Option<usize> {
        match self.peek(0)? {
            b' ' | b'\t' | b'\n' => Some(1),
            b'\r' if self.peek(1) == Some(b'\n') => Some(1),
            0xC2 if self.peek(1) == Some(0xA0) => Some(2),
            _ => None,
        }
    }

    /// `<…>`, quotes inside respected.
    fn read_angle(&mut self, draft: &mut Draft) {
        if draft.angle.is_some() {
            draft.fault = Some("two addresses stand there without a comma between them");
        }
        draft.angle = Some(Vec::new());
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'>' => {
                    self.at += 1;
                    return;
                }
                b'<' => {
                    draft.fault = Some("a bracket is opened twice");
                    self.at += 1;
                }
                b'"' => self.copy_quoted(draft, Part::Angle),
                _ => {
                    if let Some(spaces) = self.space_len() {
                        self.lines += usize::from(byte == b'\n');
                        self.at += spaces;
                        draft.push(Part::Angle, b' ');
                    } else {
                        draft.push(Part::Angle, byte);
                        self.at += 1;
                    }
                }
            }
        }
        draft.fault = Some("a bracket is opened and not closed");
    }

    /// `"…"` with its quotes and backslashes; of a fold only the spaces stay (RFC 5322 §2.2.3).
    fn copy_quoted(&mut self, draft: &mut Draft, part: Part) {
        draft.push(part, b'"');
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\n' => self.lines += 1,
                b'\r' if self.peek(0) == Some(b'\n') => {}
                b'"' => {
                    draft.push(part, byte);
                    return;
                }
                b'\\' => {
                    draft.push(part, byte);
                    if let Some(escaped) = self.peek(0).filter(|b| !matches!(b, b'\r' | b'\n')) {
                        draft.push(part, escaped);
                        self.at += 1;
                    }
                }
                _ => draft.push(part, byte),
            }
        }
        draft.fault = Some("a quote is opened and not closed");
    }

    fn skip_comment(&mut self, draft: &mut Draft) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' if self.peek(0).is_some_and(|b| b != b'\n') => self.at += 1,
                b'\n' => self.lines += 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
        draft.fault = Some("a comment is opened and not closed");
    }

    /// `=?charset?Q?text?=` (RFC 2047), which may hold what would divide mailboxes; writers forget to encode it.
    fn encoded_word_len(&mut self) -> Option<usize> {
        if self.at < self.no_word_before {
            return None;
        }
        let rest = self.value.get(self.at..)?.strip_prefix(b"=?")?;
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:*+".contains(b);
        let charset = rest.iter().take(60).take_while(|b| is_token(b)).count();
        let (b'?', encoding, b'?') = (
            *rest.get(charset)?,
            *rest.get(charset + 1)?,
            *rest.get(charset + 2)?,
        ) else {
            return None;
        };
        if !encoding.is_ascii_alphabetic() {
            return None;
        }
        let before_text = 2 + charset + 3;
        let text = rest.get(charset + 3..)?;
        // one step at a time: the end must be found before the next white space, and nothing beyond it is looked at
        let stop = |pair: &[u8]| pair == b"?=" || pair.first().is_some_and(u8::is_ascii_whitespace);
        match text.windows(2).position(stop) {
            Some(len) if text.get(len) == Some(&b'?') => Some(before_text + len + 2),
            none => {
                self.no_word_before = self.at + before_text + none.unwrap_or(text.len());
                None
            }
        }
    }

    fn finish(&self, draft: Draft) -> Option<Mailbox<'a>> {
        let Draft { bare, fault, .. } = draft;
        let (start, lines_down) = draft.start?;
        let bracketed = draft.angle.is_some();
        if !bracketed && bare.is_empty() && fault.is_none() {
            return None; // nothing but comments
        }
        let spec = draft.angle.map_or(bare, |angle| header::trim(&angle).to_vec());
        Some(Mailbox {
            raw: self.value.get(start..draft.end).unwrap_or_default(),
            lines_down,
            spec,
            bracketed,
            fault,
        })
    }
}

#[derive(Clone, Copy)]
enum Part {
    Bare,
    Angle,
}

impl Draft {
    fn push(&mut self, part: Part, byte: u8) {
        match (part, &mut self.angle) {
            (Part::Angle, Some(angle)) => angle.push(byte),
            _ => self.bare.push(byte),
        }
    }

    /// Before a token outside brackets: spaces become one, and none beside an `@`, where they mean nothing.
    fn make_room(&mut self, next: u8) {
        if self.angle.is_some() {
            self.fault = Some("more text follows its closing bracket");
        }
        let before = self.bare.last().copied();
        if std::mem::take(&mut self.space_due) && before.is_some_and(|b| b != b'@') && next != b'@' {
            self.bare.push(b' ');
        }
    }
}
