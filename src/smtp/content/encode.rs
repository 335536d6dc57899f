//! Encoders that stream: canonical CRLF text in, short 7-bit lines out. Nothing is held but one line.
//!
//! A line that an encoder begins by itself never starts with a hyphen, so it cannot look like a boundary.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Write};

/// Bytes of an encoded line (RFC 2045 §6.7, §6.8: at most 76).
const WIDTH: usize = 76;

/// Something that takes the text of a part. `finish` writes what is left, without a line end of its own.
pub(super) trait Encoder: Write {
    fn finish(&mut self) -> io::Result<()>;
}

macro_rules! byte_wise {
    ($name:ident) => {
        impl<W: Write> Write for $name<W> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                bytes.iter().try_for_each(|b| self.byte(*b))?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

/// Gathers a line of quoted-printable and breaks it softly where it gets too long.
struct SoftLine<W> {
    out: W,
    line: Vec<u8>,
    /// The line was begun by a soft break of ours.
    continued: bool,
}

impl<W: Write> SoftLine<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            line: Vec::with_capacity(2 * WIDTH),
            continued: false,
        }
    }

    /// Adds what may not be torn apart.
    fn unit(&mut self, unit: &[u8]) -> io::Result<()> {
        if self.line.len() + unit.len() >= WIDTH {
            self.end(b"=\r\n", true)?;
        }
        let hyphen = unit == b"-" && self.line.is_empty() && self.continued;
        self.line.extend_from_slice(if hyphen { b"=2D" } else { unit });
        Ok(())
    }

    fn escaped(&mut self, byte: u8) -> io::Result<()> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
        self.unit(&[b'=', digit(byte >> 4), digit(byte & 15)])
    }

    fn end(&mut self, line_end: &[u8], continued: bool) -> io::Result<()> {
        self.line.extend_from_slice(line_end);
        self.out.write_all(&self.line)?;
        self.line.clear();
        self.continued = continued;
        Ok(())
    }
}

/// Quoted-printable of text (RFC 2045 §6.7).
pub(super) struct QuotedPrintable<W> {
    to: SoftLine<W>,
    /// White space, which must be encoded if the line ends after it.
    space: Option<u8>,
}

impl<W: Write> QuotedPrintable<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            to: SoftLine::new(out),
            space: None,
        }
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        match b {
            b'\r' => return Ok(()), // canonical text: a line feed follows
            b'\n' => {
                if let Some(space) = self.space.take() {
                    self.to.escaped(space)?;
                }
                return self.to.end(b"\r\n", false);
            }
            _ => {}
        }
        if let Some(space) = self.space.take() {
            self.to.unit(&[space])?;
        }
        match b {
            b' ' | b'\t' => {
                self.space = Some(b);
                Ok(())
            }
            b'=' => self.to.escaped(b),
            b'!'..=b'~' => self.to.unit(&[b]),
            _ => self.to.escaped(b),
        }
    }
}

byte_wise!(QuotedPrintable);

impl<W: Write> Encoder for QuotedPrintable<W> {
    fn finish(&mut self) -> io::Result<()> {
        if let Some(space) = self.space.take() {
            self.to.escaped(space)?;
        }
        self.to.end(b"", false)
    }
}

/// Text that is quoted-printable already: long lines get soft breaks, stray 8-bit bytes are encoded.
pub(super) struct SoftBreaks<W> {
    to: SoftLine<W>,
    /// An escape that is not whole yet.
    escape: Vec<u8>,
}

impl<W: Write> SoftBreaks<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            to: SoftLine::new(out),
            escape: Vec::with_capacity(3),
        }
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        match b {
            b'\r' => Ok(()), // canonical text: a line feed follows
            b'\n' => {
                self.end_escape()?;
                self.to.end(b"\r\n", false)
            }
            128.. => {
                self.end_escape()?;
                self.to.escaped(b)
            }
            _ if b == b'=' || !self.escape.is_empty() => {
                self.escape.push(b);
                if self.escape.len() == 3 {
                    self.end_escape()
                } else {
                    Ok(())
                }
            }
            _ => self.to.unit(&[b]),
        }
    }

    fn end_escape(&mut self) -> io::Result<()> {
        let done = self.to.unit(&self.escape);
        self.escape.clear();
        done
    }
}

byte_wise!(SoftBreaks);

impl<W: Write> Encoder for SoftBreaks<W> {
    fn finish(&mut self) -> io::Result<()> {
        self.end_escape()?;
        self.to.end(b"", false)
    }
}

/// Base64 (RFC 2045 §6.8).
pub(super) struct Base64<W> {
    out: W,
    held: Vec<u8>,
    any: bool,
}

/// Bytes that make a full line.
const TRIPLES: usize = WIDTH / 4 * 3;

impl<W: Write> Base64<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            held: Vec::with_capacity(TRIPLES),
            any: false,
        }
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        if self.held.len() == TRIPLES {
            self.line()?;
        }
        self.held.push(b);
        Ok(())
    }

    fn line(&mut self) -> io::Result<()> {
        let mut line = [0; WIDTH + 2];
        let (before, text) = line.split_at_mut(2);
        before.copy_from_slice(b"\r\n");
        // TRIPLES bytes never need more than WIDTH
        let len = STANDARD
            .encode_slice(&self.held, text)
            .map_err(io::Error::other)?;
        self.held.clear();
        let from = if std::mem::replace(&mut self.any, true) {
            0
        } else {
            2
        };
        self.out.write_all(line.get(from..len + 2).unwrap_or(&[]))
    }
}

byte_wise!(Base64);

impl<W: Write> Encoder for Base64<W> {
    fn finish(&mut self) -> io::Result<()> {
        if self.held.is_empty() { Ok(()) } else { self.line() }
    }
}

/// Base64 that is there already, in lines of 76; what is not of its alphabet is ignored, as decoders must do.
pub(super) struct Refold<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Refold<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            line: Vec::with_capacity(WIDTH + 2),
        }
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        if b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=') {
            if self.line.len() == WIDTH {
                self.line.extend_from_slice(b"\r\n");
                self.finish()?;
            }
            self.line.push(b);
        }
        Ok(())
    }
}

byte_wise!(Refold);

impl<W: Write> Encoder for Refold<W> {
    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

/// Text outside all parts, which no reader shows (RFC 2046 §5.1.1): it stays legible, and only that. Long lines are
/// cut, each rest after a space; bytes over 127 become `?` where the host cannot take them.
pub(super) struct Scrub<W> {
    out: W,
    line: Vec<u8>,
    max_line: usize,
    seven_bit: bool,
}

impl<W: Write> Scrub<W> {
    pub(super) fn new(out: W, max_line: usize, seven_bit: bool) -> Self {
        Self {
            out,
            line: Vec::new(),
            max_line,
            seven_bit,
        }
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        match b {
            b'\r' => return Ok(()), // canonical text: a line feed follows
            b'\n' => {
                self.line.extend_from_slice(b"\r\n");
                return self.finish();
            }
            _ => {}
        }
        if self.line.len() >= self.max_line {
            self.line.extend_from_slice(b"\r\n");
            self.finish()?;
            self.line.push(b' ');
        }
        self.line.push(if self.seven_bit && b > 127 { b'?' } else { b });
        Ok(())
    }
}

byte_wise!(Scrub);

impl<W: Write> Encoder for Scrub<W> {
    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'o, E: Encoder + 'o>(make: impl Fn(&'o mut Vec<u8>) -> E, out: &'o mut Vec<u8>, text: &[u8]) {
        let mut encoder = make(out);
        text.chunks(7).for_each(|part| encoder.write_all(part).unwrap());
        encoder.finish().unwrap();
    }

    macro_rules! encoded {
        ($make:expr, $text:expr) => {{
            let mut out = Vec::new();
            run($make, &mut out, $text);
            String::from_utf8(out).unwrap()
        }};
    }

    #[test]
    fn quoted_printable_hides_what_a_host_could_change() {
        assert_eq!(
            encoded!(QuotedPrintable::new, "a=b \r\n\t\r\né \0-".as_bytes()),
            "a=3Db=20\r\n=09\r\n=C3=A9 =00-"
        );
        let long = encoded!(QuotedPrintable::new, &[b'-'; 100]);
        assert_eq!(long, format!("{}=\r\n=2D{}", "-".repeat(75), "-".repeat(24)));
        assert_eq!(
            encoded!(QuotedPrintable::new, b"ends with space "),
            "ends with space=20"
        );
    }

    #[test]
    fn soft_breaks_leave_escapes_whole() {
        let text = format!("{}=C3=A9=\r\n-x = \r\n\u{e9}=", "a".repeat(73));
        assert_eq!(
            encoded!(SoftBreaks::new, text.as_bytes()),
            format!("{}=\r\n=C3=A9=\r\n-x = \r\n=C3=A9=", "a".repeat(73))
        );
    }

    #[test]
    fn base64_is_folded_and_refolded() {
        let bytes: Vec<u8> = (0..=255).collect();
        let folded = encoded!(Base64::new, &bytes);
        assert!(folded.lines().all(|line| line.len() <= 76) && !folded.ends_with('\n'));
        assert_eq!(folded.replace("\r\n", ""), STANDARD.encode(&bytes));
        let messy = folded.replace("\r\n", "\u{e9} -\r\n!");
        assert_eq!(encoded!(Refold::new, messy.as_bytes()), folded);
        assert_eq!(encoded!(Base64::new, b""), "");
        assert_eq!(encoded!(Base64::new, &[0; 57]).len(), 76);
    }

    #[test]
    fn scrubbed_text_cannot_become_a_boundary() {
        let scrub = |out| Scrub::new(out, 10, true);
        assert_eq!(
            encoded!(scrub, "0123456789--b\r\né\r\n".as_bytes()),
            "0123456789\r\n --b\r\n??\r\n"
        );
    }
}
