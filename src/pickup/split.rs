//! Where the header block ends: reads a file up to its first empty line, and not much further.

use super::text::read_some;
use crate::mail::ReadAt;
use std::io;

/// The header block, leading block included, may have this many bytes: it is held in memory.
pub const MAX_HEADER: usize = 16 * 1024 * 1024;
/// How much is read at a time. Most messages are one block.
pub(super) const BLOCK: usize = 64 * 1024;

/// The beginning of a file, up to the end of its header block or beyond.
#[derive(Debug)]
pub(super) struct Head {
    /// The file's bytes from offset 0 on.
    pub bytes: Vec<u8>,
    /// Where the header block ends: before the empty line, or at the end of the file.
    pub header_end: usize,
    /// Where the body begins: after the empty line.
    pub body_start: usize,
    /// Whether the empty line is there.
    pub ended: bool,
}

/// The first block of a file.
pub(super) fn first_block(source: &dyn ReadAt) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    grow(source, &mut bytes)?;
    Ok(bytes)
}

/// Goes on reading after `bytes`, the beginning of the file, until the empty line; text begins at `start`. `None`
/// when there is more than [`MAX_HEADER`] before it.
pub(super) fn head(source: &dyn ReadAt, mut bytes: Vec<u8>, start: usize) -> io::Result<Option<Head>> {
    let mut line_start = start.min(bytes.len());
    loop {
        if let Some((header_end, body_start)) = find_empty_line(&bytes, &mut line_start) {
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
fn grow(source: &dyn ReadAt, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let at = bytes.len();
    let rest = source.len().saturating_sub(at as u64);
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

    fn split(text: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let head = head(&text, first_block(&text).unwrap(), 0).unwrap().unwrap();
        (
            head.bytes[..head.header_end].to_vec(),
            head.bytes[head.body_start..].to_vec(),
            head.ended,
        )
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
        assert!(head(&text, first_block(&text).unwrap(), 0).unwrap().is_none());
    }
}
