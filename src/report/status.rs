//! The part for programs: `message/delivery-status` (RFC 3464 §2, RFC 6533 §4 for addresses outside ASCII).

use super::{About, Kind};
use crate::mail::{Address, Outcome, Recipient, plain};

/// RFC 5322 §2.1.1 without the line end; a margin for the fold's space.
const MAX_LINE: usize = 990;
/// Bytes of a reply that are passed on. Replies in the field have up to a few hundred.
const MAX_DIAGNOSTIC: usize = 2000;

/// The per-message fields and one group per recipient, 7bit, CRLF.
pub fn fields(kind: Kind, about: &About<'_>) -> Vec<u8> {
    let mut out = Fields(Vec::with_capacity(256 * (about.recipients.len() + 1)));
    if let Some(envid) = about.envid {
        let plain = unxtext(envid).unwrap_or_else(|| envid.to_owned());
        out.field("Original-Envelope-Id", &plain);
    }
    out.field("Reporting-MTA", &format!("dns;{}", about.hostname));
    let arrived = plain::date(about.arrived);
    out.field("Arrival-Date", &arrived);

    let attempted = plain::date(about.now);
    let until = about
        .will_retry_until
        .filter(|_| kind == Kind::Delay)
        .map(plain::date);
    for (recipient, outcome) in &about.recipients {
        out.0.extend_from_slice(b"\r\n");
        out.recipient(kind, recipient, outcome);
        out.field("Last-Attempt-Date", &attempted);
        if let Some(until) = &until {
            out.field("Will-Retry-Until", until);
        }
    }
    out.0
}

struct Fields(Vec<u8>);

impl Fields {
    fn recipient(&mut self, kind: Kind, recipient: &Recipient, outcome: &Outcome) {
        if let Some(original) = recipient.orcpt.as_deref().and_then(original_recipient) {
            self.field("Original-Recipient", &original);
        }
        self.field("Final-Recipient", &final_recipient(&recipient.address));
        self.field("Action", kind.action());
        self.field("Status", &outcome.status.to_string());
        if let Some(host) = &outcome.host {
            self.field("Remote-MTA", &format!("dns;{}", host_name(host)));
        }
        if outcome.remote {
            let reply = plain::cut(&outcome.text, MAX_DIAGNOSTIC);
            self.field("Diagnostic-Code", &format!("smtp;{reply}"));
        }
    }

    /// One field. What is not printable ASCII becomes `?`: programs read this part, people read the first. Folded only
    /// where a line would be too long: many programs that read reports take a field for a line.
    fn field(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        let mut room = MAX_LINE.saturating_sub(name.len() + 2);
        let ascii: Vec<u8> = value.chars().map(ascii_or_mark).collect();
        let mut rest = ascii.as_slice();
        while rest.len() > room {
            let (line, after) = rest.split_at(room);
            let end = memchr::memrchr(b' ', line).filter(|at| *at > 0).unwrap_or(room);
            self.0.extend_from_slice(line.get(..end).unwrap_or(line));
            self.0.extend_from_slice(b"\r\n ");
            rest = rest.get(end..).unwrap_or(after);
            rest = rest.strip_prefix(b" ").unwrap_or(rest);
            room = MAX_LINE.saturating_sub(1);
        }
        self.0.extend_from_slice(rest);
        self.0.extend_from_slice(b"\r\n");
    }
}

fn ascii_or_mark(c: char) -> u8 {
    match u8::try_from(c) {
        Ok(b) if b == b' ' || b.is_ascii_graphic() => b,
        _ => b'?',
    }
}

/// `rfc822;addr`, or `utf-8;addr` in the 7-bit form of RFC 6533 §3.
fn final_recipient(address: &Address) -> String {
    if address.is_ascii() {
        format!("rfc822;{address}")
    } else {
        format!("utf-8;{}", utf8_xtext(address.as_str()))
    }
}

/// `addr-type;address` from ORCPT: the xtext undone for the types that use it (RFC 3464 §2.3.1). `None` when it is not
/// of that form.
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    if kind.is_empty() || address.is_empty() || !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return None;
    }
    if kind.eq_ignore_ascii_case("utf-8") {
        let seven_bit = if address.is_ascii() {
            address.to_owned()
        } else {
            utf8_xtext(address)
        };
        return Some(format!("utf-8;{seven_bit}"));
    }
    Some(format!(
        "{kind};{}",
        unxtext(address).unwrap_or_else(|| address.to_owned())
    ))
}

/// `utf-8-addr-xtext` of RFC 6533 §3: everything but printable ASCII, and `\`, `+`, `=`, as `\x{HEX}`.
fn utf8_xtext(address: &str) -> String {
    let mut text = String::with_capacity(address.len() * 2);
    for c in address.chars() {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            text.push(c);
        } else {
            text.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
        }
    }
    text
}

/// Undoes xtext (RFC 3461 §4: `+2B` is `+`). `None` when it is not xtext, or when it hides what cannot stand in a field.
fn unxtext(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let byte = match b {
            b'+' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                high * 16 + low
            }
            other => other,
        };
        if byte != b' ' && !byte.is_ascii_graphic() {
            return None;
        }
        plain.push(char::from(byte));
    }
    Some(plain)
}

/// An upper-case hexadecimal digit, as xtext has them.
fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The name in `name[address]:port`, or the address literal when there is no name.
fn host_name(host: &str) -> &str {
    match host.split_once('[') {
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        Some(("", _)) => host.split_inclusive(']').next().unwrap_or(host),
        Some((name, _)) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_undone_only_when_it_is_xtext() {
        assert_eq!(unxtext("a+2Bb+20c+3D").as_deref(), Some("a+b c="));
        for wrong in ["+0D+0A", "+2b", "+2", "+", "+FF", "dörte"] {
            assert_eq!(unxtext(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn original_recipients_keep_their_type() {
        assert_eq!(
            original_recipient("rfc822;a+2Bb@c").as_deref(),
            Some("rfc822;a+b@c")
        );
        assert_eq!(
            original_recipient("utf-8;d\\x{F6}@c").as_deref(),
            Some("utf-8;d\\x{F6}@c")
        );
        assert_eq!(
            original_recipient("UTF-8;dö+@c").as_deref(),
            Some("utf-8;d\\x{F6}\\x{2B}@c")
        );
        for wrong in ["a@b", ";a@b", "rfc822;", "x y;a@b"] {
            assert_eq!(original_recipient(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn host_names_lose_address_and_port() {
        for (host, name) in [
            ("mx.example.net[192.0.2.1]:25", "mx.example.net"),
            ("mx.example.net[2001:db8::1]:25", "mx.example.net"),
            ("[192.0.2.1]:2525", "[192.0.2.1]"),
            ("[2001:db8::1]:25", "[2001:db8::1]"),
            ("mx.example.net:25", "mx.example.net"),
            ("mx.example.net", "mx.example.net"),
        ] {
            assert_eq!(host_name(host), name);
        }
    }

    #[test]
    fn long_values_are_folded_and_lose_nothing() {
        let mut words = Fields(Vec::new());
        words.field("Diagnostic-Code", &"word ".repeat(600));
        let mut solid = Fields(Vec::new());
        solid.field("X", &"y".repeat(3000));
        for (out, kept) in [(words.0, "word"), (solid.0, "y")] {
            let text = String::from_utf8(out).unwrap();
            assert!(text.split("\r\n").all(|line| line.len() <= 998));
            assert!(
                text.split("\r\n")
                    .skip(1)
                    .all(|line| line.is_empty() || line.starts_with(' '))
            );
            assert!(text.matches(kept).count() == if kept == "y" { 3000 } else { 600 });
        }
    }
}
