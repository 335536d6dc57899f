//! The message as it comes: the end of DATA found, periods undone, a header block made of what there is.
//!
//! Only CRLF, period, CRLF ends a message: no server that we could pass the message on to, or that passed it to us, can
//! see an end where we see none (SMTP smuggling). A period in front of a line is undone wherever a line begins, after a
//! line feed alone too, as those who send such lines put it there; a line that is a period and no end stays.
//!
//! Pure. Memory: the header block, at most [`MAX_HEADER`].

use crate::mail::header;

/// More of a header block is not taken.
pub(super) const MAX_HEADER: usize = 1024 * 1024;

/// Finds the end of DATA in what comes, in whatever pieces.
pub(super) struct Undotter {
    /// The last two bytes that went by.
    before: [u8; 2],
}

/// What [`Undotter::take`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many bytes of the input are done with; the rest comes again, with more behind it.
    pub used: usize,
    /// The message is over.
    pub ended: bool,
}

impl Undotter {
    /// Behind the CRLF of the command.
    pub fn new() -> Self {
        Self { before: *b"\r\n" }
    }

    /// Hands the content that is in `input` on, in runs.
    pub fn take(&mut self, input: &[u8], mut to: impl FnMut(&[u8])) -> Taken {
        let mut used = 0;
        loop {
            let mut rest = input.get(used..).unwrap_or_default();
            if self.before[1] == b'\n' {
                match rest {
                    [b'.', b'\r', b'\n', ..] if self.before[0] == b'\r' => {
                        return Taken {
                            used: used + 3,
                            ended: true,
                        };
                    }
                    [] | [b'.'] | [b'.', b'\r'] => return Taken { used, ended: false },
                    [b'.', b'\n', ..] | [b'.', b'\r', b'\n', ..] => {}
                    [b'.', after @ ..] => {
                        rest = after;
                        used += 1;
                    }
                    _ => {}
                }
            }
            // Up to the next line that begins with a period.
            let end = memchr::memmem::find(rest, b"\n.").map_or(rest.len(), |at| at + 1);
            let run = rest.get(..end).unwrap_or_default();
            if run.is_empty() {
                return Taken { used, ended: false };
            }
            to(run);
            used += run.len();
            self.before = match (self.before, run) {
                (_, [.., a, b]) => [*a, *b],
                ([_, a], [b]) => [a, *b],
                (before, []) => before,
            };
        }
    }
}

/// The header block of a message while it comes.
#[derive(Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// Lines before this one are fields.
    line: usize,
    /// So far there is no other line end.
    looked: usize,
    hops: usize,
}

/// What [`Head::feed`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// It is not over yet.
    More,
    /// It is: what follows is body.
    Over,
    /// It is larger than [`MAX_HEADER`].
    TooLarge,
}

impl Head {
    /// Takes the next part of the message.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        self.bytes.extend_from_slice(bytes);
        while let Some(unseen) = self.bytes.get(self.looked..)
            && let Some(end) = memchr::memchr(b'\n', unseen).map(|at| self.looked + at + 1)
        {
            if end > MAX_HEADER {
                return Fed::TooLarge;
            }
            let line = self.bytes.get(self.line..end).unwrap_or_default();
            if header::without_line_end(line).is_empty() {
                return Fed::Over;
            }
            match kind_of(line, self.line == 0) {
                Kind::Other => {
                    self.end_here();
                    return Fed::Over;
                }
                kind => self.hops += usize::from(kind == Kind::Received),
            }
            (self.line, self.looked) = (end, end);
        }
        self.looked = self.bytes.len();
        if self.bytes.len() > MAX_HEADER {
            return Fed::TooLarge;
        }
        Fed::More
    }

    /// The message is over and its header block is not: what there is, is all. Returns it.
    pub fn finish(mut self) -> Vec<u8> {
        let rest = self.bytes.get(self.line..).unwrap_or_default();
        if !rest.is_empty() {
            if kind_of(rest, self.line == 0) == Kind::Other {
                self.end_here();
                return self.bytes;
            }
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }

    /// What has been fed, once it is over.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// `Received` fields so far (RFC 5321 §6.3).
    pub fn hops(&self) -> usize {
        self.hops
    }

    /// A line that is no field belongs to the body: the blank line before it is missing.
    fn end_here(&mut self) {
        self.bytes.splice(self.line..self.line, *b"\r\n");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A `Received` field.
    Received,
    /// Another field, or a line that goes on with the one before it.
    Field,
    /// Neither.
    Other,
}

fn kind_of(line: &[u8], is_first: bool) -> Kind {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return if is_first { Kind::Other } else { Kind::Field };
    }
    match header::scan(line, 1).as_deref() {
        Ok([field]) if field.is("Received") => Kind::Received,
        Ok([_]) => Kind::Field,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fed in pieces of this size, as a wire does: what is not used comes again.
    fn undotted(input: &[u8], piece: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut undotter, mut out) = (Undotter::new(), Vec::new());
        let (mut held, mut come) = (Vec::new(), 0);
        loop {
            let taken = undotter.take(&held, |run| out.extend_from_slice(run));
            held.drain(..taken.used);
            if taken.ended {
                held.extend_from_slice(&input[come..]);
                return (out, Some(held));
            }
            if come == input.len() {
                return (out, None);
            }
            let next = input.len().min(come + piece);
            held.extend_from_slice(&input[come..next]);
            come = next;
        }
    }

    #[test]
    fn only_crlf_period_crlf_ends_a_message() {
        for (input, content, rest) in [
            ("a\r\n.\r\nQUIT", "a\r\n", Some("QUIT")),
            (".\r\n", "", Some("")),
            ("..\r\n..b\r\n.\r\n", ".\r\n.b\r\n", Some("")),
            (".a\r\n.\r\n", "a\r\n", Some("")),
            ("a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", Some("")),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n.\nb\r\n", Some("")),
            ("a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", Some("")),
            ("a\n.\nb\n..\n.b\r\n.\r\n", "a\n.\nb\n.\nb\r\n", Some("")),
            ("a\r\n.\r\r\n.\r\n", "a\r\n\r\r\n", Some("")),
            ("a\r\n\r\n.\r\n", "a\r\n\r\n", Some("")),
            ("a\r\n.", "a\r\n", None),
            ("a", "a", None),
        ] {
            for piece in 1..=input.len() {
                let wanted = (content.into(), rest.map(|rest| rest.as_bytes().to_vec()));
                assert_eq!(undotted(input.as_bytes(), piece), wanted, "{input:?} by {piece}");
            }
        }
    }

    proptest! {
        /// What a client stuffs comes out as it was.
        #[test]
        fn stuffing_is_undone(lines in prop::collection::vec("[.a\\r\\n]{0,6}", 0..8), piece in 1..20_usize) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut stuffed = Vec::new();
            let mut before = b'\n';
            for byte in content.bytes() {
                if before == b'\n' && byte == b'.' {
                    stuffed.push(b'.');
                }
                stuffed.push(byte);
                before = byte;
            }
            stuffed.extend_from_slice(b".\r\nrest");
            prop_assert_eq!(undotted(&stuffed, piece), (content.into_bytes(), Some(b"rest".to_vec())));
        }
    }

    fn head(message: &str, piece: usize) -> (String, usize) {
        let mut head = Head::default();
        let mut rest = message.as_bytes();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            match head.feed(now) {
                Fed::More => {}
                Fed::Over => {
                    let hops = head.hops();
                    let whole = [head.into_bytes(), rest.to_vec()].concat();
                    return (String::from_utf8(whole).unwrap(), hops);
                }
                Fed::TooLarge => panic!("too large"),
            }
        }
        let hops = head.hops();
        (String::from_utf8(head.finish()).unwrap(), hops)
    }

    #[test]
    fn every_message_has_a_header_block_that_ends() {
        for (message, whole, hops) in [
            ("A: b\r\n\r\nc", "A: b\r\n\r\nc", 0),
            (
                "Received: x\r\n y\r\nreceived: z\r\n\r\nReceived: w\r\n",
                "Received: x\r\n y\r\nreceived: z\r\n\r\nReceived: w\r\n",
                2,
            ),
            ("hello\r\nworld\r\n", "\r\nhello\r\nworld\r\n", 0),
            ("A: b\r\nhello\r\n", "A: b\r\n\r\nhello\r\n", 0),
            (" folded: b\r\n", "\r\n folded: b\r\n", 0),
            ("A: b\r\n", "A: b\r\n\r\n", 0),
            ("A: b", "A: b\r\n\r\n", 0),
            ("hello", "\r\nhello", 0),
            ("", "\r\n", 0),
            ("\r\nbody", "\r\nbody", 0),
            ("A: b\n\nc", "A: b\n\nc", 0),
        ] {
            for piece in 1..=message.len().max(1) {
                assert_eq!(
                    head(message, piece),
                    (whole.into(), hops),
                    "{message:?} by {piece}"
                );
            }
        }
    }

    #[test]
    fn a_header_block_without_end_is_given_up() {
        let mut head = Head::default();
        let field = b"A: b\r\n".repeat(1000);
        let fed = (0..=MAX_HEADER / field.len())
            .map(|_| head.feed(&field))
            .find(|fed| *fed != Fed::More);
        assert_eq!(fed, Some(Fed::TooLarge));
    }
}
