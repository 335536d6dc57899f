//! The content of a message as the wire brings it: the strict end of DATA (RFC 5321 §4.5.2) and what is wrong with it.
//!
//! Only CRLF "." CRLF ends DATA. LF "." LF, CR "." CR and their mixtures are content and are noted: a client that
//! lets one pass can be used to smuggle a second message. Pure; bytes in, bytes out.

/// Takes content in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Periods undone. Empty when nothing is kept.
    pub bytes: Vec<u8>,
    /// Bytes of content, kept or not.
    pub size: u64,
    /// What stood in it.
    pub marks: Marks,
    state: State,
    line: usize,
    keep: usize,
}

/// What no content should hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// A CR without LF after it.
    pub bare_cr: bool,
    /// A LF without CR before it.
    pub bare_lf: bool,
    /// A line that begins with exactly one period (DATA only): the client did not double it.
    pub single_dot: bool,
    /// A byte over 127.
    pub eight_bit: bool,
    /// The longest line without its CRLF.
    pub longest_line: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    LineStart,
    Inside,
    Cr,
    Dot,
    DotCr,
}

impl Content {
    /// Keeps at most `keep` bytes; what is over is counted and dropped.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// Takes bytes of DATA. Returns how many belong to it and whether the end was among them.
    pub fn data(&mut self, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            match (self.state, byte) {
                (State::LineStart, b'.') => {
                    self.state = State::Dot;
                    used += 1;
                }
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    used += 1;
                }
                (State::Dot, b'.') => {
                    self.push(b".");
                    self.state = State::Inside;
                    used += 1;
                }
                (State::Dot, _) => {
                    self.marks.single_dot = true;
                    self.state = State::Inside;
                }
                (State::DotCr, b'\n') => return (used + 1, true),
                (State::DotCr, _) => {
                    self.marks.single_dot = true;
                    self.state = State::Cr;
                }
                _ => used += self.plain(input.get(used..).unwrap_or(&[])),
            }
        }
        (used, false)
    }

    /// Takes bytes of BDAT, where periods mean nothing.
    pub fn chunk(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let used = self.plain(input);
            input = input.get(used..).unwrap_or(&[]);
        }
    }

    /// The content is complete: a CR or an unfinished line at the very end is judged now.
    pub fn finish(&mut self) {
        if self.state == State::Cr {
            self.lone_cr();
        }
        self.end_line();
    }

    /// Takes a run of bytes in which periods mean nothing; at least one, at most to the end of the line.
    fn plain(&mut self, input: &[u8]) -> usize {
        if self.state == State::Cr {
            if input.first() == Some(&b'\n') {
                self.push(b"\r\n");
                self.line = self.line.saturating_sub(2);
                self.end_line();
                self.state = State::LineStart;
                return 1;
            }
            self.lone_cr();
        }
        let run = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
        let text = input.get(..run).unwrap_or(&[]);
        if !text.is_empty() {
            self.marks.eight_bit |= !text.is_ascii();
            self.push(text);
            self.state = State::Inside;
        }
        match input.get(run) {
            Some(b'\r') => {
                self.state = State::Cr;
                run + 1
            }
            Some(_) => {
                self.marks.bare_lf = true;
                self.push(b"\n");
                self.state = State::Inside;
                run + 1
            }
            None => run,
        }
    }

    fn lone_cr(&mut self) {
        self.marks.bare_cr = true;
        self.push(b"\r");
        self.state = State::Inside;
    }

    fn end_line(&mut self) {
        self.marks.longest_line = self.marks.longest_line.max(self.line);
        self.line = 0;
    }

    fn push(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.line = self.line.saturating_add(bytes.len());
        let room = self.keep.saturating_sub(self.bytes.len());
        if let Some(kept) = bytes.get(..bytes.len().min(room)) {
            self.bytes.extend_from_slice(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed whole and byte by byte, both must agree; what follows the end is left alone.
    fn data(wire: &[u8]) -> (Vec<u8>, Marks, Option<usize>) {
        let mut whole = Content::new(usize::MAX);
        let (used, ended) = whole.data(wire);
        whole.finish();
        let mut single = Content::new(usize::MAX);
        let at = wire.iter().position(|b| single.data(&[*b]).1);
        single.finish();
        assert_eq!(at.map(|i| i + 1), ended.then_some(used));
        assert_eq!((&single.bytes, single.marks), (&whole.bytes, whole.marks));
        (whole.bytes, whole.marks, ended.then_some(used))
    }

    #[test]
    fn periods_are_undone_and_only_crlf_dot_crlf_ends() {
        let (text, marks, end) = data(b"..a\r\n...\r\nb.c\r\n.\r\nQUIT\r\n");
        assert_eq!(text, b".a\r\n..\r\nb.c\r\n");
        assert_eq!(end, Some(18));
        assert_eq!(
            marks,
            Marks {
                longest_line: 3,
                ..Marks::default()
            }
        );
        assert_eq!(data(b".\r\n"), (Vec::new(), Marks::default(), Some(3)));
    }

    #[test]
    fn smuggled_ends_are_content_and_noted() {
        for (wire, text, cr, lf) in [
            (&b"a\n.\n"[..], &b"a\n.\n"[..], false, true),
            (b"a\n.\r\n", b"a\n.\r\n", false, true),
            (b"a\r.\r\n", b"a\r.\r\n", true, false),
            (b"a\r\n.\n", b"a\r\n\n", false, true),
            (b"a\r\n.\rb\r\n", b"a\r\n\rb\r\n", true, false),
            (b"a\r\r\n", b"a\r\r\n", true, false),
        ] {
            let (got, marks, end) = data(wire);
            assert_eq!(
                (got.as_slice(), end),
                (text, None),
                "{:?}",
                wire.escape_ascii().to_string()
            );
            assert_eq!((marks.bare_cr, marks.bare_lf), (cr, lf));
        }
    }

    #[test]
    fn a_single_period_is_noted() {
        let (text, marks, _) = data(b".hidden\r\n\r\n.\r\n");
        assert_eq!(
            (text.as_slice(), marks.single_dot),
            (&b"hidden\r\n\r\n"[..], true)
        );
    }

    #[test]
    fn chunks_keep_periods_and_crlf_may_be_split() {
        let mut content = Content::new(8);
        content.chunk(b".\r");
        content.chunk(b"\n\xfc2345\r");
        content.finish();
        assert_eq!(
            (content.bytes.as_slice(), content.size),
            (&b".\r\n\xfc2345"[..], 9)
        );
        assert!(content.marks.eight_bit && content.marks.bare_cr && !content.marks.single_dot);
        assert_eq!(content.marks.longest_line, 6);
    }
}
