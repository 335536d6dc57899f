//! The ESMTP parameters on `x-sender` and `x-receiver` lines (RFC 3461 §4, RFC 6152).
//!
//! What is not known or not valid is left out with a remark, never passed on: it would be refused by a host, and
//! the message with it.

use super::{ReceiverLine, SenderLine};
use crate::mail::header::shown;
use crate::mail::remarks::Remarks;
use crate::mail::{BodyType, Notify, Ret};

/// RFC 3461 §4.4 and §4.2.
const LONGEST_ENVID: usize = 100;
const LONGEST_ORCPT: usize = 500;

/// RET, ENVID and BODY. The first of two equal keys counts.
pub(super) fn of_sender(words: &[u8], line: usize, sender: &mut SenderLine, remarks: &mut Remarks) {
    each(words, line, remarks, |key, value| {
        if key.eq_ignore_ascii_case("RET") {
            keep_first(&mut sender.ret, Ret::parse(value))
        } else if key.eq_ignore_ascii_case("ENVID") {
            keep_first(&mut sender.envid, is_envid(value).then(|| value.to_owned()))
        } else if key.eq_ignore_ascii_case("BODY") {
            keep_first(&mut sender.body, BodyType::parse(value))
        } else {
            Taken::NotKnown
        }
    });
}

/// NOTIFY and ORCPT. The first of two equal keys counts.
pub(super) fn of_receiver(words: &[u8], line: usize, receiver: &mut ReceiverLine, remarks: &mut Remarks) {
    each(words, line, remarks, |key, value| {
        if key.eq_ignore_ascii_case("NOTIFY") {
            keep_first(&mut receiver.notify, Notify::parse(value))
        } else if key.eq_ignore_ascii_case("ORCPT") {
            keep_first(&mut receiver.orcpt, is_orcpt(value).then(|| value.to_owned()))
        } else {
            Taken::NotKnown
        }
    });
}

/// Whether this may stand behind `ENVID=` in a command.
pub fn is_envid(text: &str) -> bool {
    is_xtext(text) && text.len() <= LONGEST_ENVID
}

/// Whether this may stand behind `ORCPT=` in a command.
pub fn is_orcpt(text: &str) -> bool {
    let Some((kind, address)) = text.split_once(';') else {
        return false;
    };
    let is_type = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_type && is_xtext(address) && text.len() <= LONGEST_ORCPT
}

enum Taken {
    Yes,
    Twice,
    NotUnderstood,
    NotKnown,
}

fn keep_first<T>(slot: &mut Option<T>, value: Option<T>) -> Taken {
    match (&slot, value) {
        (_, None) => Taken::NotUnderstood,
        (Some(_), Some(_)) => Taken::Twice,
        (None, value) => {
            *slot = value;
            Taken::Yes
        }
    }
}

fn each(words: &[u8], line: usize, remarks: &mut Remarks, mut take: impl FnMut(&str, &str) -> Taken) {
    for word in words
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        let text = String::from_utf8_lossy(word);
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        let problem = match take(key, value) {
            Taken::Yes => continue,
            Taken::Twice => "comes twice; the first counts",
            Taken::NotUnderstood => "is not understood; ignored",
            Taken::NotKnown => "is not known; ignored",
        };
        remarks.add(|| format!("line {line}: {} {problem}", shown(word)));
    }
}

/// RFC 3461 §4: printable ASCII without space, `=` and `+`, except as `+` and two hex digits.
fn is_xtext(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'+' => (0..2).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit())),
            b'=' => false,
            _ => matches!(byte, 33..=126),
        };
        if !fine {
            return false;
        }
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_holds_nothing_that_a_command_could_trip_over() {
        for good in ["12345ABCD", "a+2Bb", "a@b<c>", "+3D"] {
            assert!(is_envid(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a=b",
            "a+",
            "a+2",
            "a+zz",
            "a\r\nRCPT",
            "ä",
            &"x".repeat(101),
        ] {
            assert!(!is_envid(bad), "{bad}");
        }
        for good in ["rfc822;bob@example.net", "utf-8;x"] {
            assert!(is_orcpt(good), "{good}");
        }
        for bad in [
            "bob@example.net",
            ";bob",
            "rfc822;",
            "rfc 822;a",
            "rfc822;a b",
            "rfc822;a=b",
        ] {
            assert!(!is_orcpt(bad), "{bad}");
        }
    }
}
