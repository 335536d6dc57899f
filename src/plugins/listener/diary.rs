//! What of a session goes into the W3C log: a line for each command and its reply, and one for its end.
//!
//! As IIS wrote them: DATA with the ID and the size of the message, and QUIT at the end of every session, also of one that
//! broke off, with status 240 and the session's milliseconds. Words that are no command of SMTP are `xxxx`, and of AUTH
//! only the mechanism stands there: a client that is out of step could say its password. Thread: the session's.

use super::auth;
use super::wire::Line;
use crate::w3c::{self, Exchange, Inbound};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Words that are written as they are; ours and those of other servers.
const VERBS: &[&str] = &[
    "HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT",
    "STARTTLS", "AUTH", "ETRN", "ATRN", "TURN", "SEND", "SOML", "SAML",
];

/// See above. Without a log it does nothing.
pub(super) struct Diary(Option<Pages>);

struct Pages {
    log: Inbound,
    began: Instant,
    heard: Option<Heard>,
    /// Bytes of the last reply and of the last command.
    last: (u64, u64),
}

/// A command that has no reply yet.
struct Heard {
    verb: &'static str,
    rest: String,
    bytes: u64,
    at: Instant,
}

impl Diary {
    pub fn of(client: SocketAddr, server: SocketAddr) -> Self {
        let pages = |log| Pages {
            log,
            began: Instant::now(),
            heard: None,
            last: (0, 0),
        };
        Self(w3c::inbound(client, server).map(pages))
    }

    /// A line of the client.
    pub fn heard(&mut self, line: &Line) {
        let Some(pages) = &mut self.0 else {
            return;
        };
        let text = match line {
            Line::Whole(line) => String::from_utf8_lossy(line),
            Line::TooLong | Line::Broken => "".into(),
        };
        let (verb, rest) = split(&text);
        pages.heard = Some(Heard {
            verb,
            rest,
            bytes: text.len() as u64,
            at: Instant::now(),
        });
    }

    /// What is being replied to is a message.
    pub fn message(&mut self, id: &str, size: u64) {
        if let Some(heard) = self.0.as_mut().and_then(|pages| pages.heard.as_mut()) {
            id.clone_into(&mut heard.rest);
            heard.bytes = size;
        }
    }

    /// A reply of so many bytes.
    pub fn said(&mut self, code: u16, bytes: usize, helo: &str) {
        let Some(pages) = &mut self.0 else {
            return;
        };
        pages.last.0 = bytes as u64;
        let Some(heard) = pages.heard.take() else {
            return;
        };
        pages.last.1 = heard.bytes;
        if heard.verb != "QUIT" {
            pages.log.line(&Exchange {
                helo,
                method: heard.verb,
                query: &heard.rest,
                status: code,
                win32: 0,
                sent: pages.last.0,
                received: heard.bytes,
                taken: heard.at.elapsed(),
            });
        }
    }

    /// The end.
    pub fn ended(&self, helo: &str) {
        if let Some(pages) = &self.0 {
            pages.log.line(&Exchange {
                helo,
                method: "QUIT",
                query: helo,
                status: 240,
                win32: u64::try_from(pages.began.elapsed().as_millis()).unwrap_or(0),
                sent: pages.last.0,
                received: pages.last.1,
                taken: Duration::ZERO,
            });
        }
    }
}

/// The verb, and what follows it with the space in between; nothing that may be a secret.
fn split(text: &str) -> (&'static str, String) {
    let text = text.trim_end();
    let end = text.find(' ').unwrap_or(text.len());
    let (verb, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let Some(verb) = VERBS.iter().find(|known| known.eq_ignore_ascii_case(verb)) else {
        return ("xxxx", String::new());
    };
    let rest = match *verb {
        "AUTH" => {
            let mechanism = rest.split_ascii_whitespace().next().unwrap_or_default();
            let known = auth::MECHANISMS
                .split(' ')
                .find(|known| known.eq_ignore_ascii_case(mechanism));
            known.map_or_else(String::new, |known| format!(" {known}"))
        }
        _ => rest.to_owned(),
    };
    (verb, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_gets_in() {
        for (text, verb, rest) in [
            ("mail FROM:<a@b.test>", "MAIL", " FROM:<a@b.test>"),
            ("QUIT", "QUIT", ""),
            ("auth plain AGFwcABzZWNyZXQ=", "AUTH", " PLAIN"),
            ("AUTH AGFwcABzZWNyZXQ=", "AUTH", ""),
            ("AUTH  LOGIN c2VjcmV0", "AUTH", " LOGIN"),
            ("AUTH\tLOGIN c2VjcmV0", "xxxx", ""),
            ("c2VjcmV0", "xxxx", ""),
            ("secret password", "xxxx", ""),
            ("", "xxxx", ""),
        ] {
            assert_eq!(split(text), (verb, rest.to_owned()), "{text:?}");
        }
    }
}
