//! Inputs that make a quadratic step, or a buffer that grows with the body, show. What they may cost is processor time
//! and generous for a debug build; a quadratic step misses it by orders of magnitude.

use super::*;
use crate::config::DotsSetting;
use crate::mail::ReadAt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MOST: Duration = Duration::from_secs(30);

fn timed(source: &dyn ReadAt) -> Reading {
    let rules = ReadRules {
        default_domain: "default.example".to_owned(),
        default_sender: String::new(),
        dots: DotsSetting::Auto,
        max_size: 0,
    };
    let (reading, effort) = crate::effort::of(|| read(source, &rules).unwrap());
    assert!(effort < MOST, "took {effort:?}");
    reading
}

fn recipients(text: &str) -> usize {
    let found = timed(&text.as_bytes()).submission.unwrap();
    assert_eq!(found.recipient_origins.len(), found.envelope.recipients.len());
    found.envelope.recipients.len()
}

#[test]
fn a_hundred_thousand_recipients_in_one_header() {
    let list: Vec<String> = (0..100_000)
        .map(|n| format!("\"User, {n}\" <user{n}@example.net>"))
        .collect();
    assert_eq!(
        recipients(&format!("From: a@b\r\nTo: {}\r\n\r\n", list.join(",\r\n "))),
        100_000
    );
    assert_eq!(
        recipients(&format!("From: a@b\r\nTo: {}\r\n\r\n", list.join(", "))),
        100_000
    );
    let same = "bob@example.net, ".repeat(100_000);
    assert_eq!(recipients(&format!("From: a@b\r\nTo: {same}\r\n\r\n")), 1);
}

#[test]
fn a_hundred_thousand_receiver_lines() {
    let lines: String = (0..100_000)
        .map(|n| format!("x-receiver: <user{n}@example.net> NOTIFY=NEVER UNKNOWN=1\r\n"))
        .collect();
    assert_eq!(
        recipients(&format!("x-sender: a@b\r\n{lines}Subject: x\r\n\r\n")),
        100_000
    );
}

#[test]
fn a_hundred_thousand_recipients_that_are_none() {
    let list = "no address, ".repeat(100_000);
    let found = timed(&format!("From: a@b\nTo: {list}\n\n").into_bytes())
        .submission
        .unwrap_err();
    assert_eq!(found.rule, "no-recipient");
    assert!(
        found.what.contains("and 99990 more") && found.what.len() < 4000,
        "{}",
        found.what
    );
}

#[test]
fn too_many_recipients_are_refused_in_words() {
    let list: String = (0..=250_000).map(|n| format!("u{n}@x,")).collect();
    let found = timed(&format!("From: a@b\nTo: {list}\n\n").into_bytes())
        .submission
        .unwrap_err();
    assert_eq!(found.rule, "too-many-recipients");
}

#[test]
fn a_header_line_of_a_mebibyte() {
    for filler in [
        "x", "x ", "<", "\"", "(", ",", "=?", ":", ".", "\\", "\u{a0}", "a=b;",
    ] {
        let filler = filler.repeat((1 << 20) / filler.len());
        for name in [
            "Subject",
            "From",
            "Cc",
            "Content-Type",
            "Message-ID",
            "Sender",
            filler.as_str(),
        ] {
            let text = format!("{name}: {filler}\nFrom: a@b\nTo: c@d\n\nHello\n");
            let reading = timed(&text.as_bytes());
            assert_eq!(reading.completeness, Completeness::Complete);
        }
    }
}

#[test]
fn a_header_without_end_is_refused() {
    let text = "Subject: x\n y\n".repeat(MAX_HEADER / 14 + 10_000);
    let found = timed(&text.as_bytes()).submission.unwrap_err();
    assert_eq!(found.rule, "header-too-large");
    let found = timed(&("a:\n".repeat(600_000) + "\n").as_bytes())
        .submission
        .unwrap_err();
    assert_eq!(found.rule, "header-too-large");
}

#[test]
fn ten_thousand_parts() {
    let head = "From: a@b\r\nTo: c@d\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n";
    let parts: String = (0..10_000)
        .map(|n| format!("--b\r\nContent-Type: text/plain\r\n\r\n{n}\r\n"))
        .collect();
    let nested: String = (0..10_000)
        .map(|n| {
            format!(
                "--b{n}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n",
                n + 1
            )
        })
        .collect();
    for body in [parts, nested] {
        let open = timed(&format!("{head}{body}").into_bytes());
        assert_eq!(open.completeness, Completeness::NoClosingBoundary);
        let closed = timed(&format!("{head}{body}--b--\r\n").into_bytes());
        assert_eq!(closed.completeness, Completeness::Complete);
    }
}

/// A message of any size that is nowhere in memory: a header, then one line over and over.
struct Synthetic {
    header: &'static [u8],
    line: Vec<u8>,
    len: u64,
    largest_read: AtomicUsize,
    bytes_read: AtomicUsize,
}

impl Synthetic {
    fn new(header: &'static str, line: &str, len: u64) -> Self {
        Self {
            header: header.as_bytes(),
            // long, so that it costs little to make
            line: line.repeat(4096).into_bytes(),
            len,
            largest_read: AtomicUsize::new(0),
            bytes_read: AtomicUsize::new(0),
        }
    }

    /// Reads it and checks that it was read once, in blocks: then nothing but the header block and one block of the
    /// body can have been held, since the reader keeps no other buffer.
    fn read(&self) -> Reading {
        let reading = timed(self);
        assert!(self.largest_read.load(Ordering::Relaxed) <= 64 * 1024);
        assert_eq!(self.bytes_read.load(Ordering::Relaxed) as u64, self.len);
        reading
    }
}

impl ReadAt for Synthetic {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.largest_read.fetch_max(buf.len(), Ordering::Relaxed);
        let rest = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let offset = offset as usize;
        let from_header = self.header.get(offset..).unwrap_or_default();
        let head = from_header.len().min(rest);
        buf[..head].copy_from_slice(&from_header[..head]);
        let mut phase = (offset + head - self.header.len()) % self.line.len();
        let mut done = head;
        while done < rest {
            let part = &self.line[phase..];
            let n = part.len().min(rest - done);
            buf[done..done + n].copy_from_slice(&part[..n]);
            done += n;
            phase = 0;
        }
        self.bytes_read.fetch_add(rest, Ordering::Relaxed);
        Ok(rest)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

const PLAIN: &str = "From: a@b\r\nTo: c@d\r\n\r\n";
const MULTIPART: &str = "From: a@b\r\nTo: c@d\r\nContent-Type: multipart/mixed; boundary=bound\r\n\r\n";
const SIZE: u64 = 64 * 1024 * 1024;

#[test]
fn sixty_four_mebibytes_of_lines() {
    const LINE: &str = "..QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n";
    for header in [PLAIN, MULTIPART] {
        let reading = Synthetic::new(header, LINE, SIZE).read();
        let complete = header == PLAIN;
        assert_eq!(reading.completeness == Completeness::Complete, complete);
        let layout = reading.submission.unwrap().layout;
        assert_eq!(layout.dots.as_str(), "stuffed");
        let body = SIZE - header.len() as u64;
        let lines = body.div_ceil(LINE.len() as u64);
        let cut = (lines * LINE.len() as u64) - body;
        assert!(cut > 2, "the last line has no line end");
        assert_eq!(layout.wire_size, SIZE - lines + 2);
        assert!(layout.longest_line <= 512);
    }
}

#[test]
fn sixty_four_mebibytes_without_a_line_end() {
    for (line, header) in [
        ("x", MULTIPART),
        ("\r", MULTIPART),
        ("\0", PLAIN),
        ("--bound--", MULTIPART),
        (".", PLAIN),
    ] {
        let layout = Synthetic::new(header, line, SIZE)
            .read()
            .submission
            .unwrap()
            .layout;
        assert!(layout.longest_line >= SIZE - 1 - header.len() as u64);
    }
}

#[test]
fn millions_of_periods_and_empty_lines() {
    for line in ["\n", ".\n", "..\n", "--bound--\n"] {
        let layout = Synthetic::new(MULTIPART, line, SIZE / 16)
            .read()
            .submission
            .unwrap()
            .layout;
        assert!(layout.body.end <= SIZE / 16);
    }
}
