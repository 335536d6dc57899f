//! The target for what goes over the wire: line ends, periods, line lengths, bits, and what must not leave the tree.

use super::letters::{ALL_DOTS, ShortReads, chosen, rules, same, stamps_of, written};
use crate::mail::header;
use crate::pickup::{Layout, read};
use crate::smtp::content::{Abilities, Content, Stamps};

const MODERN: Abilities = can(true, true);
const EIGHT_BIT: Abilities = can(true, false);
const UTF8_HEADERS: Abilities = can(false, true);
const SEVEN_BIT: Abilities = can(false, false);

const fn can(eight_bit: bool, utf8_headers: bool) -> Abilities {
    Abilities {
        eight_bit,
        utf8_headers,
        max_line: 998,
    }
}

pub fn content(data: &[u8]) {
    for &dots in chosen(&ALL_DOTS, data, 0) {
        let reading = read(&data, &rules(dots)).unwrap();
        let Ok(submission) = reading.submission else {
            return;
        };
        let text = reading.transcoded.as_deref().unwrap_or(data);
        let stamps = stamps_of(&submission.envelope, &submission.layout);
        for &can in chosen(
            &[MODERN, EIGHT_BIT, UTF8_HEADERS, SEVEN_BIT, Abilities::DROP],
            data,
            1,
        ) {
            one(text, &submission.layout, &stamps, can);
        }
    }
}

fn one(text: &[u8], layout: &Layout, stamps: &Stamps, can: Abilities) {
    let plan = Content::plan(&text, layout, stamps, can).unwrap();
    let plain = written(&text, layout, stamps, can);
    let mut data = Vec::new();
    plan.write_data(&mut data).unwrap();
    line_ends(&plain);
    line_ends(&data);
    assert!(plain.ends_with(b"\r\n") && data.ends_with(b"\r\n"));
    for line in data.split_inclusive(|b| *b == b'\n') {
        assert!(
            !line.starts_with(b".") || line.starts_with(b".."),
            "{}",
            data.escape_ascii()
        );
    }
    assert_eq!(unstuffed(&data), plain, "{}", data.escape_ascii());
    let longest = plain
        .split(|b| *b == b'\n')
        .map(|line| line.len().saturating_sub(1))
        .max();
    assert!(
        longest.unwrap_or(0) <= can.max_line,
        "a line of {longest:?} bytes"
    );
    let end = plain.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 2;
    let (head, body) = plain.split_at(end);
    if !can.eight_bit {
        // with SMTPUTF8 the header fields of parts may stay as they are as well
        let seven_bit = can.utf8_headers || (head.is_ascii() && body.is_ascii());
        assert!(seven_bit, "{}", plain.escape_ascii());
    } else {
        assert!(plan.needs_eight_bit() || plain.is_ascii());
    }
    let again = written(&ShortReads(text, 3), layout, stamps, can);
    same(&plain, &again);
    header_fields(text, layout, stamps, head);
    sizes(text, layout, stamps, can, &plan, &plain);
    if can == Abilities::DROP {
        let expected = expected_body(
            &text[layout.body.start as usize..layout.body.end as usize],
            layout,
        );
        same(&body[2..], &expected);
    }
}

fn line_ends(text: &[u8]) {
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    let count = |byte| text.iter().filter(|b| **b == byte).count();
    assert_eq!(
        (count(b'\r'), count(b'\n')),
        (pairs, pairs),
        "{}",
        text.escape_ascii()
    );
}

/// What a host makes of DATA (RFC 5321 §4.5.2).
fn unstuffed(data: &[u8]) -> Vec<u8> {
    let lines = data.split_inclusive(|b| *b == b'\n');
    let bare = lines.map(|line| line.strip_prefix(b".").unwrap_or(line));
    bare.flatten().copied().collect()
}

/// The fields that are sent are the stamps and those of the message, without Bcc and the leading block, in their
/// order. Fields of MIME may come in addition where something was re-encoded.
fn header_fields(text: &[u8], layout: &Layout, stamps: &Stamps, head: &[u8]) {
    const MIME: [&[u8]; 3] = [b"mime-version", b"content-type", b"content-transfer-encoding"];
    let names = |block: &[u8]| -> Vec<Vec<u8>> {
        let fields = header::scan(block, 1).unwrap_or_else(|e| panic!("{e:?}\n{}", block.escape_ascii()));
        fields
            .iter()
            .map(|field| field.name.to_ascii_lowercase())
            .collect()
    };
    let given = &text[layout.header.start as usize..layout.header.end as usize];
    let given = names(given);
    if given.iter().any(|name| name.len() > 900) {
        return; // a name alone is longer than a line: it is cut, and what it says then is no matter
    }
    let mut expected: Vec<Vec<u8>> = vec![b"received".to_vec()];
    let missing = [
        (layout.missing.date, &b"date"[..]),
        (layout.missing.message_id, b"message-id"),
        (layout.missing.from, b"from"),
    ];
    expected.extend(
        missing
            .iter()
            .filter(|(due, _)| *due)
            .map(|(_, name)| name.to_vec()),
    );
    expected.extend(
        given
            .into_iter()
            .filter(|name| name != b"bcc" && name != b"resent-bcc"),
    );
    let of_mime = |name: &Vec<u8>| MIME.contains(&name.as_slice());
    expected.retain(|name| !of_mime(name));
    let mut sent = names(head);
    sent.retain(|name| !of_mime(name));
    assert_eq!(sent, expected, "{}", head.escape_ascii());
    assert!(head.starts_with(stamps.received.as_bytes()));
}

/// The size is exact, but for carriage returns that stand alone.
fn sizes(text: &[u8], layout: &Layout, stamps: &Stamps, can: Abilities, plan: &Content<'_>, plain: &[u8]) {
    let sent = &text[layout.header.start as usize..];
    let lone =
        sent.iter().filter(|b| **b == b'\r').count() > sent.windows(2).filter(|w| w == b"\r\n").count();
    if !lone {
        assert_eq!(
            plan.size(),
            plain.len() as u64,
            "{can:?} {stamps:?}\n{}",
            plain.escape_ascii()
        );
    }
    assert!(plan.size() >= plain.len() as u64);
}

/// By the words of the contract, in its own way: lines end at LF, a period goes where the layout says so, a bare CR
/// ends a line as well.
fn expected_body(body: &[u8], layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    for line in body.split_inclusive(|b| *b == b'\n') {
        let line = if layout.dots.stuffed {
            line.strip_prefix(b".").unwrap_or(line)
        } else {
            line
        };
        let bare = line
            .strip_suffix(b"\n")
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let ends = bare.is_some();
        let parts: Vec<&[u8]> = bare.unwrap_or(line).split(|b| *b == b'\r').collect();
        for (nth, part) in parts.iter().enumerate() {
            out.extend_from_slice(part);
            // the last line may end without a line end; one that holds nothing is none
            if ends || nth + 1 < parts.len() || !part.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out
}
