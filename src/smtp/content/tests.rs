//! What holds for every message, as is or re-encoded. The re-encoding itself: [`recoding`].

mod python;
mod recoding;

use super::*;
use crate::mail::MessageId;
use crate::pickup::submission::{Dots, Encoding, Missing};
use proptest::prelude::*;

/// A source that never gives more than so many bytes at once.
pub(super) struct ShortReads<'a>(pub(super) &'a [u8], pub(super) usize);

impl ReadAt for ShortReads<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = buf.len().min(self.1);
        self.0.read_at(&mut buf[..n], offset)
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

const WIRE: Abilities = Abilities {
    eight_bit: true,
    utf8_headers: true,
    max_line: 998,
};
const SEVEN_BIT: Abilities = Abilities {
    eight_bit: false,
    utf8_headers: false,
    max_line: 998,
};

fn marks() -> Stamps {
    Stamps {
        received: "Received: r\r\n\tdate\r\n".into(),
        return_path: None,
        date: None,
        message_id: None,
        from: None,
    }
}

/// What reading finds in a text that has no leading block: lines end at LF, the header at the first empty one.
fn layout(text: &[u8]) -> Layout {
    let mut offset = 0;
    let mut header_end = text.len();
    let mut body = text.len();
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line == b"\n" || line == b"\r\n" {
            header_end = offset;
            body = offset + line.len();
            break;
        }
        offset += line.len();
    }
    let bare = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line).len() as u64
    };
    let sizes = |part: &[u8]| {
        part.split_inclusive(|b| *b == b'\n')
            .map(bare)
            .collect::<Vec<_>>()
    };
    let (head, tail) = (sizes(&text[..header_end]), sizes(&text[body..]));
    let wire = |lines: &[u64]| lines.iter().map(|len| len + 2).sum::<u64>();
    Layout {
        encoding: Encoding::Plain,
        leading: 0..0,
        header: 0..header_end as u64,
        omit: Vec::new(),
        body: body as u64..text.len() as u64,
        dots: Dots {
            stuffed: false,
            end_marker: false,
            present: false,
        },
        dots_said: false,
        complete_said: false,
        missing: Missing::default(),
        eight_bit_header: !text[..header_end].is_ascii(),
        eight_bit_body: !text[body..].is_ascii(),
        longest_line: head.iter().chain(&tail).copied().max().unwrap_or(0),
        wire_size: wire(&head) + 2 + wire(&tail),
    }
}

fn plain(source: &dyn ReadAt, layout: &Layout, can: Abilities) -> Vec<u8> {
    let stamps = marks();
    let mut out = Vec::new();
    Content::plan(source, layout, &stamps, can)
        .unwrap()
        .write_plain(&mut out)
        .unwrap();
    out
}

fn data(source: &dyn ReadAt, layout: &Layout, can: Abilities) -> Vec<u8> {
    let stamps = marks();
    let mut out = Vec::new();
    Content::plan(source, layout, &stamps, can)
        .unwrap()
        .write_data(&mut out)
        .unwrap();
    out
}

/// The text below the stamp, which every message here gets.
fn sent(text: &str) -> String {
    let out = plain(&text.as_bytes(), &layout(text.as_bytes()), WIRE);
    String::from_utf8(out)
        .unwrap()
        .strip_prefix(&marks().received)
        .unwrap()
        .to_owned()
}

fn has_bare_line_end(text: &[u8]) -> bool {
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    let (cr, lf) = (
        memchr::memchr_iter(b'\r', text).count(),
        memchr::memchr_iter(b'\n', text).count(),
    );
    pairs != cr || pairs != lf
}

/// What a host makes of DATA (RFC 5321 §4.5.2).
fn unstuffed(data: &[u8]) -> Vec<u8> {
    let lines = data.split_inclusive(|b| *b == b'\n');
    lines
        .flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
        .copied()
        .collect()
}

#[test]
fn every_line_ends_with_crlf_and_nothing_else_does() {
    for (text, expected) in [
        ("A: b\nC: d\r\n\nx\r\ny\n", "A: b\r\nC: d\r\n\r\nx\r\ny\r\n"),
        ("A: b\n\nno end", "A: b\r\n\r\nno end\r\n"),
        ("A: b\n", "A: b\r\n\r\n"),
        ("A: b", "A: b\r\n\r\n"),
        ("A: b\r", "A: b\r\n\r\n"),
        ("", "\r\n"),
        ("\n", "\r\n"),
        ("A: b\n\n\n", "A: b\r\n\r\n\r\n"),
        ("A: b\rRCPT: c\r\r\n\nd", "A: b RCPT: c \r\n\r\nd\r\n"),
        (
            "A: b\n\nx\r.\ry\r\r\n\rz\r",
            "A: b\r\n\r\nx\r\n.\r\ny\r\n\r\n\r\nz\r\n",
        ),
        ("A: b\n\n\r", "A: b\r\n\r\n\r\n"),
        ("A: b\n\r", "A: b\r\n\r\n"),
        ("A: \0\n\n\0\n", "A: \0\r\n\r\n\0\r\n"),
    ] {
        assert_eq!(sent(text), expected, "{text:?}");
    }
}

#[test]
fn omitted_ranges_go_whether_fields_or_bytes_in_a_field() {
    let text = "x-sender: a@b\nBcc: c\n d\nTo\u{a0}: e\nBcc: f\n\nbody\n".as_bytes();
    let mut layout = layout(text);
    layout.header.start = 14;
    layout.omit = vec![14..24, 26..28, 32..39];
    assert_eq!(
        plain(&text, &layout, WIRE),
        b"Received: r\r\n\tdate\r\nTo: e\r\n\r\nbody\r\n"
    );
    layout.omit = std::iter::once(0..layout.header.end + 5).collect();
    assert_eq!(
        plain(&text, &layout, WIRE),
        b"Received: r\r\n\tdate\r\n\r\nbody\r\n"
    );
}

#[test]
fn stamps_stand_on_top_in_their_order() {
    let text = b"To: x\n\n".as_slice();
    let layout = layout(text);
    let mut stamps = marks();
    stamps.return_path = Some("Return-Path: <>\r\n".into());
    stamps.date = Some("Date: d\r\n".into());
    stamps.from = Some("From: f\r\n".into());
    let content = Content::plan(&text, &layout, &stamps, Abilities::DROP).unwrap();
    let mut out = Vec::new();
    content.write_plain(&mut out).unwrap();
    let expected = "Return-Path: <>\r\nReceived: r\r\n\tdate\r\nDate: d\r\nFrom: f\r\nTo: x\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(content.size(), expected.len() as u64);
}

#[test]
fn periods_go_as_they_were_judged_and_are_stuffed_for_data() {
    let text = b"A: b\n\n.\n..\n...x\n.y\n\n..".as_slice();
    let mut layout = layout(text);
    let head = b"Received: r\r\n\tdate\r\nA: b\r\n\r\n";
    let body = |out: Vec<u8>| String::from_utf8(out.strip_prefix(head).unwrap().to_vec()).unwrap();
    assert_eq!(
        body(plain(&text, &layout, WIRE)),
        ".\r\n..\r\n...x\r\n.y\r\n\r\n..\r\n"
    );
    assert_eq!(
        body(data(&text, &layout, WIRE)),
        "..\r\n...\r\n....x\r\n..y\r\n\r\n...\r\n"
    );
    layout.dots.stuffed = true;
    assert_eq!(
        body(plain(&text, &layout, WIRE)),
        "\r\n.\r\n..x\r\ny\r\n\r\n.\r\n"
    );
    assert_eq!(
        body(data(&text, &layout, WIRE)),
        "\r\n..\r\n...x\r\ny\r\n\r\n..\r\n"
    );
    let text = b"A: b\n\n.".as_slice();
    layout.body = 6..7;
    assert_eq!(body(data(&text, &layout, WIRE)), "\r\n");
    // a line that begins only because we end it was not judged: its period stays
    let text = b"A: b\n\n.x\r.y\n".as_slice();
    layout.body = 6..12;
    assert_eq!(body(plain(&text, &layout, WIRE)), "x\r\n.y\r\n");
    assert_eq!(body(data(&text, &layout, WIRE)), "x\r\n..y\r\n");
    // a header line is stuffed as well, but never unstuffed
    let text = b".A: b\n\n".as_slice();
    layout.header = 0..6;
    layout.body = 7..7;
    assert!(data(&text, &layout, WIRE).ends_with(b"\r\n..A: b\r\n\r\n"));
}

#[test]
fn eight_bit_is_asked_for_when_it_is_there_and_can_be_had() {
    let stamps = marks();
    for (text, can, due) in [
        ("A: b\n\nc\n", WIRE, false),
        ("A: b\n\né\n", WIRE, true),
        ("A: é\n\nb\n", WIRE, true),
        ("A: é\n\né\n", SEVEN_BIT, false),
    ] {
        let layout = layout(text.as_bytes());
        let source = text.as_bytes();
        assert_eq!(
            Content::plan(&source, &layout, &stamps, can)
                .unwrap()
                .needs_eight_bit(),
            due,
            "{text}"
        );
    }
}

#[test]
fn a_source_that_has_become_shorter_is_an_error() {
    let text = b"A: b\n\nbody\n".as_slice();
    let layout = layout(text);
    let short = &text[..8];
    let stamps = marks();
    let content = Content::plan(&short, &layout, &stamps, WIRE).unwrap();
    let error = content.write_data(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_small_message_is_one_write() {
    struct Writes(usize);
    impl crate::smtp::Outlet for Writes {}
    impl io::Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let text = [
        b"A: b\n\n".as_slice(),
        &b"seventy bytes and then a line feed\n".repeat(300),
    ]
    .concat();
    let layout = layout(&text);
    let stamps = marks();
    let mut writes = Writes(0);
    Content::plan(&text, &layout, &stamps, WIRE)
        .unwrap()
        .write_data(&mut writes)
        .unwrap();
    assert_eq!(writes.0, 1);
}

#[test]
fn stamps_of_a_real_message_fit_every_host() {
    let sender = crate::mail::Address::parse("dörte@bücher.example", "x").unwrap();
    let stamps = stamps(
        MessageId::generate(),
        "h.example",
        jiff::Timestamp::now(),
        Some(&sender),
        &sender,
        Missing {
            date: true,
            message_id: true,
            from: true,
        },
    );
    let text = b"A: b\r\n\r\nbody\r\n".as_slice();
    let layout = layout(text);
    let mut out = Vec::new();
    Content::plan(&text, &layout, &stamps, SEVEN_BIT)
        .unwrap()
        .write_data(&mut out)
        .unwrap();
    assert!(out.is_ascii() && out.ends_with(b"A: b\r\n\r\nbody\r\n"));
}

/// Pieces that mean something to one of the state machines.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        b"\r\n".as_slice(),
        b"\n",
        b"\r",
        b".",
        b"..",
        b"a",
        b" ",
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"=",
        b"=\r\n",
        b"--b\n",
        b"--b--\r\n",
        b"--c\n",
        b"\n--b\n\n",
        b"\nContent-Type: multipart/mixed; boundary=b\n",
        b"\nContent-Type: multipart/digest; boundary=c\n\n--c\n\n",
        b"\nContent-Type: message/rfc822\n\n",
        b"\nContent-Type: image/png; name=\"\xc3\xa9\"\n",
        b"\nContent-Transfer-Encoding: base64\n",
        b"\nContent-Transfer-Encoding: quoted-printable\n\n",
        b"\nContent-Transfer-Encoding: 8bit\n\n",
        b"\nTo: \"\xc3\xa9\" (\xc3\xa9) <\xc3\xa9@\xc3\xa9>\n",
        &[b'-'; 1200],
        &[b'x'; 999],
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_sends_a_bare_line_end_and_stuffing_can_be_undone(text in soup(), stuffed: bool) {
        let mut layout = layout(&text);
        layout.dots.stuffed = stuffed;
        for can in [WIRE, SEVEN_BIT, Abilities::DROP] {
            let whole = plain(&text, &layout, can);
            prop_assert!(!has_bare_line_end(&whole));
            prop_assert!(whole.ends_with(b"\r\n"));
            let stuffed = data(&text, &layout, can);
            prop_assert!(!stuffed.windows(5).any(|bytes| bytes == b"\r\n.\r\n"));
            prop_assert_eq!(unstuffed(&stuffed), whole);
        }
    }

    #[test]
    fn blocks_may_end_anywhere(text in soup(), stuffed: bool, size in 1_usize..17) {
        let mut layout = layout(&text);
        layout.dots.stuffed = stuffed;
        let short = ShortReads(&text, size);
        for can in [WIRE, SEVEN_BIT] {
            prop_assert_eq!(data(&short, &layout, can), data(&text, &layout, can));
            prop_assert_eq!(plain(&short, &layout, can), plain(&text, &layout, can));
        }
    }

    #[test]
    fn a_clean_message_is_its_bytes_below_the_stamps(lines in prop::collection::vec("[ -~]{0,80}", 0..30)) {
        let text = format!("A: b\r\n\r\n{}", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        let expected = marks().received + &text;
        let layout = layout(text.as_bytes());
        let source = text.as_bytes();
        let stamps = marks();
        let content = Content::plan(&source, &layout, &stamps, SEVEN_BIT).unwrap();
        let mut out = Vec::new();
        content.write_plain(&mut out).unwrap();
        prop_assert_eq!(content.size(), out.len() as u64);
        prop_assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn what_is_re_encoded_fits_its_host(text in soup(), stuffed: bool) {
        let mut layout = layout(&text);
        layout.dots.stuffed = stuffed;
        let stamps = marks();
        for can in [WIRE, SEVEN_BIT] {
            let content = Content::plan(&text, &layout, &stamps, can).unwrap();
            let mut out = Vec::new();
            content.write_plain(&mut out).unwrap();
            let longest = out.split(|b| *b == b'\n').map(|line| line.len().saturating_sub(1)).max();
            prop_assert!(longest <= Some(998));
            prop_assert!(can.eight_bit || out.is_ascii());
            prop_assert!(!content.recode || content.size() == out.len() as u64);
        }
    }

    #[test]
    fn walking_without_need_changes_nothing(text in soup(), stuffed: bool) {
        let mut layout = layout(&text);
        layout.dots.stuffed = stuffed;
        let stamps = marks();
        let mut content = Content::plan(&text, &layout, &stamps, Abilities::DROP).unwrap();
        let (mut as_is, mut walked) = (Vec::new(), Vec::new());
        content.write_data(&mut as_is).unwrap();
        content.recode = true;
        content.write_data(&mut walked).unwrap();
        prop_assert_eq!(as_is, walked);
    }
}
