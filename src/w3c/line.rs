//! One line of the log: values → the fields that are wanted, in an order that nobody else's words can break.
//!
//! As in IIS: a space becomes `+`, and `-` stands for nothing. Beyond that, whatever is neither a printable ASCII character
//! nor a letter or digit of any script is written as `%0A`, and so are `"` and a `#` in front: no value can end a line or a
//! field, begin a directive, or open a quotation in a program that reads the log. Pure.

use crate::config::W3cField as F;
use jiff::Timestamp;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Of a longer value so many characters are written, and `...`.
const LONGEST: usize = 1024;

/// What there is to say.
pub(super) struct Line<'a> {
    pub at: Timestamp,
    /// Who is at the other end.
    pub client: IpAddr,
    /// What the client calls itself; of a connection of ours, which side spoke.
    pub user: &'a str,
    /// Ours; `None` where we are the client.
    pub server: Option<IpAddr>,
    pub port: u16,
    pub method: &'a str,
    pub query: &'a str,
    /// 0 where we are the client.
    pub status: u16,
    pub win32: u64,
    pub sent: u64,
    pub received: u64,
    pub taken: Duration,
}

/// The line with these fields, and its line feed.
pub(super) fn write(line: &Line<'_>, fields: &[F], computer: &str) -> String {
    let mut out = String::with_capacity(160);
    for (nth, field) in fields.iter().enumerate() {
        if nth > 0 {
            out.push(' ');
        }
        let number = |out: &mut String, number: u64| {
            let _ = write!(out, "{number}");
        };
        match field {
            F::Date => out.push_str(&line.at.strftime("%Y-%m-%d").to_string()),
            F::Time => out.push_str(&line.at.strftime("%H:%M:%S").to_string()),
            F::ClientIp => value(&mut out, &line.client.to_canonical().to_string()),
            F::UserName => value(&mut out, line.user),
            F::SiteName => out.push_str("SMTPSVC1"),
            F::ComputerName => value(&mut out, computer),
            F::ServerIp => {
                let server = line.server.map(|ip| ip.to_canonical().to_string());
                value(&mut out, &server.unwrap_or_default());
            }
            F::ServerPort => number(&mut out, line.port.into()),
            F::Method => value(&mut out, line.method),
            F::UriQuery => value(&mut out, line.query),
            F::Status => number(&mut out, line.status.into()),
            F::Win32Status => number(&mut out, line.win32),
            F::BytesSent => number(&mut out, line.sent),
            F::BytesReceived => number(&mut out, line.received),
            F::TimeTaken => number(&mut out, u64::try_from(line.taken.as_millis()).unwrap_or(0)),
            F::Version => out.push_str("SMTP"),
            F::UriStem | F::Host | F::UserAgent | F::Cookie | F::Referer => out.push('-'),
        }
    }
    out.push('\n');
    out
}

fn value(out: &mut String, text: &str) {
    if text.is_empty() {
        return out.push('-');
    }
    for (nth, c) in text.chars().enumerate() {
        if nth == LONGEST {
            return out.push_str("...");
        }
        let is_plain = c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
        if c == ' ' {
            out.push('+');
        } else if is_plain && c != '"' && (c != '#' || nth > 0) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        value(&mut out, text);
        out
    }

    #[test]
    fn no_value_breaks_out_of_its_field() {
        for (text, wanted) in [
            ("", "-"),
            (" FROM:<a@b.test> SIZE=7", "+FROM:<a@b.test>+SIZE=7"),
            ("a\r\n2026-11-28 00:00:00", "a%0D%0A2026-11-28+00:00:00"),
            ("a\tb\0\u{7f}", "a%09b%00%7F"),
            (
                "a\u{a0}b\u{2028}c\u{85}d\u{202e}",
                "a%C2%A0b%E2%80%A8c%C2%85d%E2%80%AE",
            ),
            ("#Fields: x", "%23Fields:+x"),
            ("a#b\"c", "a#b%22c"),
            ("bücher.test", "bücher.test"),
        ] {
            assert_eq!(shown(text), wanted, "{text:?}");
        }
        let long = shown(&"x".repeat(5000));
        assert_eq!(long.len(), LONGEST + 3);
    }

    #[test]
    fn fields_come_in_the_order_that_is_wanted() {
        let line = Line {
            at: "2026-11-28T07:08:09.9Z".parse().unwrap(),
            client: "::ffff:192.0.2.7".parse().unwrap(),
            user: "app 1",
            server: Some("192.0.2.1".parse().unwrap()),
            port: 25,
            method: "MAIL",
            query: " FROM:<a@b.test>",
            status: 250,
            win32: 0,
            sent: 37,
            received: 21,
            taken: Duration::from_millis(15),
        };
        assert_eq!(
            write(&line, &F::all(), "MX1"),
            "2026-11-28 07:08:09 192.0.2.7 app+1 SMTPSVC1 MX1 192.0.2.1 25 MAIL - +FROM:<a@b.test> 250 0 37 21 15 SMTP \
             - - - -\n"
        );
        let line = Line { server: None, ..line };
        assert_eq!(
            write(&line, &[F::Method, F::ServerIp, F::Date], ""),
            "MAIL - 2026-11-28\n"
        );
    }
}
