//! How a file's bytes become text: byte order marks, and UTF-16 as PowerShell and Notepad write it.

use super::malformed;
use super::submission::{Encoding, Malformed};
use crate::mail::ReadAt;
use encoding_rs::{DecoderResult, UTF_16BE, UTF_16LE};
use std::io;
use std::sync::Arc;

/// Bytes of a UTF-16 file that are converted at most: the text is held in memory, at up to 1.5 times this size.
const MAX_UTF16: u64 = 64 * 1024 * 1024;
const BLOCK: usize = 64 * 1024;

/// Judges by the first bytes of a file.
pub(super) fn encoding(start: &[u8]) -> Result<Encoding, Malformed> {
    match start {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Err(malformed::charset(
            Some(1),
            "The file is UTF-32 text, which no mail program understands.",
        )),
        [0xEF, 0xBB, 0xBF, ..] => Ok(Encoding::Utf8Bom),
        [0xFF, 0xFE, ..] => Ok(Encoding::Utf16Le),
        [0xFE, 0xFF, ..] => Ok(Encoding::Utf16Be),
        _ if is_utf16_without_bom(start) => Err(malformed::charset(
            Some(1),
            "The file is UTF-16 text without a byte order mark: every second byte is zero.",
        )),
        _ => Ok(Encoding::Plain),
    }
}

/// Header names are ASCII, so UTF-16 shows in their first few letters.
fn is_utf16_without_bom(start: &[u8]) -> bool {
    let pairs = start
        .get(..start.len().min(16))
        .unwrap_or_default()
        .chunks_exact(2);
    let zero_at = |nth: usize| {
        let mut pairs = pairs.clone();
        pairs.all(|pair| pair.iter().enumerate().all(|(i, b)| (*b == 0) == (i == nth)))
    };
    pairs.len() >= 2 && (zero_at(0) || zero_at(1))
}

/// The whole text of a UTF-16 file as UTF-8, without its byte order mark.
pub(super) fn transcode(source: &dyn ReadAt, encoding: Encoding) -> io::Result<Result<Arc<[u8]>, Malformed>> {
    if source.len() > MAX_UTF16 {
        return Ok(Err(malformed::utf16_too_large(source.len(), MAX_UTF16)));
    }
    let charset = if encoding == Encoding::Utf16Be {
        UTF_16BE
    } else {
        UTF_16LE
    };
    let mut decoder = charset.new_decoder_without_bom_handling();
    let mut text = String::new();
    let mut block = vec![0; BLOCK];
    let mut at = 2; // after the mark
    loop {
        let len = read_some(source, &mut block, at)?;
        at += len as u64;
        let bytes = block.get(..len).unwrap_or_default();
        text.reserve(
            decoder
                .max_utf8_buffer_length_without_replacement(len)
                .unwrap_or(0),
        );
        // there is room for all of it, so one call takes all of it
        let (result, _) = decoder.decode_to_string_without_replacement(bytes, &mut text, len == 0);
        if let DecoderResult::Malformed(..) = result {
            let line = 1 + memchr::memchr_iter(b'\n', text.as_bytes()).count();
            return Ok(Err(malformed::charset(
                Some(line),
                format!("The file begins as UTF-16 text, but line {line} is not valid UTF-16."),
            )));
        }
        if len == 0 {
            return Ok(Ok(text.into_bytes().into()));
        }
    }
}

/// Reads at least one byte unless the end is reached; a signal is no error.
pub(super) fn read_some(source: &dyn ReadAt, block: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match source.read_at(block, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let unit = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
        std::iter::once(0xFEFF)
            .chain(text.encode_utf16())
            .flat_map(unit)
            .collect()
    }

    #[test]
    fn marks_and_their_absence() {
        for (start, want) in [
            (&b"From: a"[..], Some(Encoding::Plain)),
            (b"", Some(Encoding::Plain)),
            (b"a", Some(Encoding::Plain)),
            (b"\xEF\xBB\xBFFrom", Some(Encoding::Utf8Bom)),
            (b"\xFF\xFEF\0", Some(Encoding::Utf16Le)),
            (b"\xFE\xFF\0F", Some(Encoding::Utf16Be)),
            (b"F\0r\0o\0m\0:\0", None),
            (b"\0F\0r\0o\0m\0:", None),
            (b"F\0ro", Some(Encoding::Plain)),
            (b"\0\0\0\0", Some(Encoding::Plain)),
            (b"\xFF\xFE\0\0F\0\0\0", None),
            (b"\0\0\xFE\xFF", None),
        ] {
            let found = encoding(start);
            assert_eq!(found.as_ref().ok().copied(), want, "{}", start.escape_ascii());
            assert!(found.map_or_else(|m| m.rule == "charset", |_| true));
        }
    }

    #[test]
    fn utf16_of_both_orders_becomes_utf8() {
        let text = "From: dörte@x.example\r\n\r\n€ 😀\r\n".repeat(20_000);
        for (big, encoding) in [(false, Encoding::Utf16Le), (true, Encoding::Utf16Be)] {
            let got = transcode(&utf16(&text, big), encoding).unwrap().unwrap();
            assert!(*got == *text.as_bytes());
        }
    }

    #[test]
    fn broken_utf16_names_its_line() {
        let mut lone = utf16("a\nb\nc", false);
        lone.extend([0x00, 0xD8, 0x20, 0x00]);
        let mut odd = utf16("a\nb\nc", false);
        odd.push(b'x');
        for bytes in [lone, odd] {
            let found = transcode(&bytes, Encoding::Utf16Le).unwrap().unwrap_err();
            assert_eq!((found.rule, found.line), ("charset", Some(3)));
        }
    }
}
