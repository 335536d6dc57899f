//! Where the header block ends: reads a file up to its first empty line, and not much further.

use super::text::read_some;
use crate::mail::ReadAt;
use std::borrow::Cow;
use std::io;

/// The header block, leading block included, may have this many bytes: it is held in memory.
pub const MAX_HEADER: usize = 16 * 1024 * 1024;
/// How much is read at a time. Most messages are one block.
pub(super) const BLOCK: usize = 64 * 1024;

/// The beginning of a file, up to the end of its header block or beyond.
#[derive(Debug)]
pub(super) struct Head<'s> {
    /// The file's bytes from offset 0 on.
    pub bytes: Cow<'s, [u8]>,
    /// Where the header block ends: before the empty line, or at the end of the file.
    pub header_end: usize,
    /// Where the body begins: after the empty line.
    pub body_start: usize,
    /// Whether the empty line is there.
    pub ended: bool,
}

/// The first block of a file; of one in memory, all of it.
pub(super) fn first_block(source: &dyn ReadAt) -> io::Result<Cow<'_, [u8]>> {
    if let Some(bytes) = source.bytes() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = Cow::Owned(Vec::new());
    grow(source, &mut bytes)?;
    Ok(bytes)
}

/// Goes on reading after `bytes`, the beginning of the file, until the empty line; text begins at `start`. `None`
/// when there is more than [`MAX_HEADER`] before it.
pub(super) fn head<'s>(
    source: &dyn ReadAt,
    mut bytes: Cow<'s, [u8]>,
    start: usize,
) -> io::Result<Option<Head<'s>>> {
    let mut line_start = start.min(bytes.len());
    loop {
        if let Some((header_end, body_start)) = find_empty_line(&bytes, &mut line_start) {
            if header_end.saturating_sub(start) > MAX_HEADER {
                return Ok(None); // in memory it is searched as a whole
            }
            return Ok(Some(Head {
                bytes,
                header_end,
                body_start,
                ended: true,
            }));
        }
        if bytes.len() - start.min(bytes.len()) > MAX_HEADER {
            return Ok(None);
        }
        if !grow(source, &mut bytes)? {
            let end = bytes.len();
            return Ok(Some(Head {
                bytes,
                header_end: end,
                body_start: end,
                ended: false,
            }));
        }
    }
}

/// Looks at the lines from `line_start` on and moves it to the last one that is not whole yet.
fn find_empty_line(bytes: &[u8], line_start: &mut usize) -> Option<(usize, usize)> {
    loop {
        let rest = bytes.get(*line_start..)?;
        let line_end = memchr::memchr(b'\n', rest)?;
        if line_end == 0 || rest.starts_with(b"\r\n") {
            return Some((*line_start, *line_start + line_end + 1));
        }
        *line_start += line_end + 1;
    }
}

/// Appends one more block; `false` at the end of the file.
fn grow(source: &dyn ReadAt, bytes: &mut Cow<'_, [u8]>) -> io::Result<bool> {
    let at = bytes.len();
    let rest = source.len().saturating_sub(at as u64);
    if rest == 0 {
        return Ok(false);
    }
    let bytes = bytes.to_mut();
    let want = usize::try_from(rest).unwrap_or(BLOCK).min(BLOCK);
    bytes.resize(at + want, 0);
    let mut filled = at;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match read_some(source, room, filled as u64)? {
            0 => break,
            len => filled += len,
        }
    }
    bytes.truncate(filled);
    Ok(filled > at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read as from a disk.
    struct Blocks<'a>(&'a [u8]);

    impl ReadAt for Blocks<'_> {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buf, offset)
        }

        fn len(&self) -> u64 {
            ReadAt::len(self.0)
        }
    }

    fn split(text: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let parts = |source: &dyn ReadAt| {
            let head = head(source, first_block(source).unwrap(), 0).unwrap().unwrap();
            (
                head.bytes[..head.header_end].to_vec(),
                text[head.body_start..].to_vec(),
                head.ended,
            )
        };
        let of_blocks = parts(&Blocks(text));
        assert_eq!(of_blocks, parts(&text));
        of_blocks
    }

    #[test]
    fn at_the_first_empty_line() {
        for (text, header, body, ended) in [
            ("A: b\r\n\r\nc\r\n\r\nd", "A: b\r\n", "c\r\n\r\nd", true),
            ("A: b\n\nc", "A: b\n", "c", true),
            ("A: b\n\r\nc", "A: b\n", "c", true),
            ("\r\nc", "", "c", true),
            ("\n", "", "", true),
            ("A: b\r\n", "A: b\r\n", "", false),
            ("A: b", "A: b", "", false),
            ("A: b\n \n\n", "A: b\n \n", "", true),
            ("A: b\r\n\r", "A: b\r\n\r", "", false),
            ("", "", "", false),
        ] {
            let want = (header.as_bytes().to_vec(), body.as_bytes().to_vec(), ended);
            assert_eq!(split(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn found_wherever_the_blocks_divide() {
        for shift in 0..6 {
            let name = "x".repeat(BLOCK - 3 + shift);
            let text = format!("{name}:\r\n\r\nbody");
            let (header, body, ended) = split(text.as_bytes());
            assert_eq!(
                (header.len(), body.as_slice(), ended),
                (name.len() + 3, &b"body"[..], true)
            );
        }
    }

    #[test]
    fn a_header_without_end_is_given_up() {
        let text = b"A: b\n".repeat(MAX_HEADER / 5 + BLOCK);
        for source in [&Blocks(&text) as &dyn ReadAt, &text] {
            assert!(head(source, first_block(source).unwrap(), 0).unwrap().is_none());
        }
    }
}
