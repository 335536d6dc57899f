//! What became of a recipient: the verdict, with the words of its report in it.

use super::plain::is_printable;
use std::fmt;

/// Three values, and nothing between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A host or a folder took it and answers for it now.
    Delivered,
    /// Not now; tried again on the schedule.
    Deferred,
    /// Never; the sender is told.
    Failed,
}

/// The verdict for one recipient and why, in a form that goes unchanged into log, ENV, transcript, DSN and `.BDR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What follows from it.
    pub verdict: Verdict,
    /// RFC 3463 status.
    pub status: EnhancedStatus,
    /// One line: the remote host's reply (`550 5.1.1 no such user`, lines joined by a space), or our own sentence.
    pub text: String,
    /// The host that spoke or that we tried, `name[address]:port`; `None` when no host was involved.
    pub host: Option<String>,
    /// Whether `text` is a reply of `host` (then it is a `Diagnostic-Code: smtp`) or words of ours.
    pub remote: bool,
}

impl Outcome {
    /// An outcome in words of ours.
    pub fn ours(verdict: Verdict, status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self {
            verdict,
            status,
            text: one_line(text.into()),
            host: None,
            remote: false,
        }
    }

    /// Deferred, in words of ours.
    pub fn deferred(status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self::ours(Verdict::Deferred, status, text)
    }

    /// Failed, in words of ours.
    pub fn failed(status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self::ours(Verdict::Failed, status, text)
    }

    /// What a host answered.
    pub fn reply(verdict: Verdict, status: EnhancedStatus, text: impl Into<String>, host: &str) -> Self {
        Self {
            verdict,
            status,
            text: one_line(text.into()),
            host: Some(host.to_owned()),
            remote: true,
        }
    }

    /// The same outcome, with the host that was tried.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }
}

/// Control characters would break the line formats that outcomes stand in.
fn one_line(text: String) -> String {
    if !is_printable(text.as_bytes()) && text.chars().any(char::is_control) {
        text.split(|c: char| c.is_control())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        text
    }
}

/// `class.subject.detail` of RFC 3463; the last two may have three digits (`5.7.606`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0–999.
    pub subject: u16,
    /// 0–999.
    pub detail: u16,
}

impl EnhancedStatus {
    /// From its three numbers.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// Reads a whole `5.1.1`, nothing before or after it.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |t: &str| -> Option<u16> {
            let digits = (1..=3).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse().ok()).flatten()
        };
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
            return None;
        }
        Some(Self {
            class: class.parse().ok()?,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_status_keeps_three_digits() {
        assert_eq!(
            EnhancedStatus::parse("5.7.606").unwrap(),
            EnhancedStatus::new(5, 7, 606)
        );
        for wrong in ["5.7", "5.7.1.1", "3.1.1", "5..1", "5.1.1111", "5.1.x", "5.1.1 "] {
            assert_eq!(EnhancedStatus::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_outcome_is_one_line() {
        assert_eq!(
            Outcome::failed(EnhancedStatus::new(5, 0, 0), "a\r\nb\u{7}c").text,
            "a b c"
        );
    }
}
