//! The target for what a client of the listener says.

use super::letters::rules;
use crate::config::DotsSetting;
use crate::mail::leading;
use crate::pickup::{Completeness, read};
use crate::plugins::listener::doors;

/// Our own field stands between the leading block and what the client sent.
const RECEIVED: &[u8] = b"Received: from x by y; Mon, 23 Nov 2026 21:04:05 +0000\r\n";

pub fn listener(data: &[u8]) {
    let at = data
        .windows(2)
        .position(|two| two == b"\n\n")
        .unwrap_or(data.len());
    let (lines, rest) = data.split_at(at);
    let sent = rest.get(2..).unwrap_or_default();
    let whole = doors::data(sent, sent.len());
    for piece in [1, 2, 3, 7] {
        assert_eq!(
            doors::data(sent, piece),
            whole,
            "by {piece}: {}",
            sent.escape_ascii()
        );
    }
    assert_eq!(whole, expected(sent), "{}", sent.escape_ascii());
    let Some((content, _)) = whole else {
        return;
    };
    let Some(message) = doors::message(&content, content.len()) else {
        return;
    };
    for piece in [1, 2, 5] {
        assert_eq!(
            doors::message(&content, piece).as_ref(),
            Some(&message),
            "by {piece}"
        );
    }
    let Some(envelope) = doors::envelope(lines) else {
        return;
    };
    let mut file = leading::write(&envelope, Some("literal"));
    file.extend_from_slice(leading::COMPLETE);
    file.extend_from_slice(RECEIVED);
    file.extend_from_slice(&message);
    let reading = read(&file.as_slice(), &rules(DotsSetting::Auto)).unwrap();
    assert_eq!(
        reading.completeness,
        Completeness::Complete,
        "{}",
        file.escape_ascii()
    );
    let submission = reading.when_final();
    let submission = submission.unwrap_or_else(|why| panic!("{why:?}\n{}", file.escape_ascii()));
    let taken = &submission.envelope;
    assert_eq!(taken.sender, envelope.sender, "{}", file.escape_ascii());
    for recipient in &taken.recipients {
        assert!(
            envelope.recipients.contains(recipient),
            "{recipient:?}\n{}",
            file.escape_ascii()
        );
    }
    for recipient in &envelope.recipients {
        let is_taken = taken
            .recipients
            .iter()
            .any(|one| one.address == recipient.address);
        assert!(is_taken, "{recipient:?}\n{}", file.escape_ascii());
    }
    assert!(!submission.layout.dots.stuffed);
}

/// In the words of RFC 5321 §4.5.2, with lines that end in LF alone as lines: the content before the first CRLF, period, CRLF, and how much of `sent` that is.
fn expected(sent: &[u8]) -> Option<(Vec<u8>, usize)> {
    let after_command = [b"\r\n", sent].concat();
    let end = after_command.windows(5).position(|five| five == b"\r\n.\r\n")?;
    let mut content: Vec<u8> = Vec::new();
    for (nth, byte) in after_command.iter().enumerate().take(end + 2).skip(2) {
        let rest = &after_command[nth..];
        let is_alone = rest.starts_with(b".\n") || rest.starts_with(b".\r\n");
        let is_stuffing = *byte == b'.' && after_command[nth - 1] == b'\n' && !is_alone;
        if !is_stuffing {
            content.push(*byte);
        }
    }
    Some((content, end + 3))
}
