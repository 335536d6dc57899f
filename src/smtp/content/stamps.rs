//! The fields that are put on top of a message while it is sent.
//!
//! Reads and writes: nothing; the same message gets the same bytes at every attempt and on every node.

use crate::mail::{Address, MessageId};
use crate::pickup::submission::Missing;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;

/// Whole fields, each with its CRLF. `date`, `message_id` and `from` are there where the message lacks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps {
    /// `Received`, may be folded.
    pub received: String,
    /// `Return-Path`, for final delivery only: it stands above `received`.
    pub return_path: Option<String>,
    /// `Date`
    pub date: Option<String>,
    /// `Message-ID`
    pub message_id: Option<String>,
    /// `From`
    pub from: Option<String>,
}

/// The stamps of the message `id` that this host took out of its Pickup folder.
///
/// `sender` is the one of the envelope; a message from the null sender that lacks a `From` is from `postmaster`.
/// The life in `id` does not show: after a takeover the message is still the same one.
pub fn stamps(
    id: MessageId,
    hostname: &str,
    arrived: Timestamp,
    sender: Option<&Address>,
    postmaster: &Address,
    missing: Missing,
) -> Stamps {
    let host = host_name(hostname);
    let id = id.ulid;
    let date = rfc5322_date(arrived);
    let author = || sender.filter(|sender| sender.is_routable()).unwrap_or(postmaster);
    Stamps {
        // bounce parsers look for "mail pickup service"
        received: format!(
            "Received: from mail pickup service by {host} with mailroot id {id};\r\n\t{date}\r\n"
        ),
        return_path: None,
        date: missing.date.then(|| format!("Date: {date}\r\n")),
        message_id: missing
            .message_id
            .then(|| format!("Message-ID: <{id}@{host}>\r\n")),
        from: missing
            .from
            .then(|| format!("From: {}\r\n", seven_bit_if_possible(author()))),
    }
}

impl Stamps {
    /// The same for final delivery (RFC 5321 §4.4): the reverse path stands on top.
    #[must_use]
    pub fn with_return_path(self, sender: Option<&Address>) -> Self {
        let sender = sender.map(seven_bit_if_possible).unwrap_or_default();
        Self {
            return_path: Some(format!("Return-Path: <{sender}>\r\n")),
            ..self
        }
    }

    /// In the order in which they are sent.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        [
            self.return_path.as_deref(),
            Some(self.received.as_str()),
            self.date.as_deref(),
            self.message_id.as_deref(),
            self.from.as_deref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// `Mon, 23 Nov 2026 21:04:05 +0000`
fn rfc5322_date(at: Timestamp) -> String {
    // the printer refuses years that a Timestamp can hold and the format cannot
    DateTimePrinter::new()
        .zoned_to_string(&at.to_zoned(TimeZone::UTC))
        .unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned())
}

/// An IDN domain as A-labels. A local part outside ASCII stays: only hosts with SMTPUTF8 get such a message at all.
fn seven_bit_if_possible(address: &Address) -> String {
    if address.is_ascii() {
        return address.to_string();
    }
    match idna::domain_to_ascii(address.domain()) {
        Ok(domain) => format!("{}@{domain}", address.local_part()),
        _ => address.to_string(),
    }
}

/// What may stand in `Received` and on the right of a Message-ID, whatever the machine is called.
fn host_name(hostname: &str) -> String {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if !hostname.is_empty() && hostname.bytes().all(is_plain) {
        return hostname.to_owned();
    }
    let ascii = idna::domain_to_ascii(hostname).unwrap_or_default();
    let mut name: String = ascii
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .collect();
    if name.is_empty() {
        name.push_str("localhost");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: MessageId, host: &str, sender: Option<&str>) -> Stamps {
        let parse = |text| Address::parse(text, "x").unwrap();
        let postmaster = parse("postmaster@h.example");
        stamps(
            id,
            host,
            Timestamp::from_second(1_795_467_845).unwrap(),
            sender.map(parse).as_ref(),
            &postmaster,
            ALL,
        )
    }

    const ALL: Missing = Missing {
        date: true,
        message_id: true,
        from: true,
    };

    #[test]
    fn what_the_message_has_is_not_stamped() {
        let sender = Address::parse("app@example.com", "x").unwrap();
        let none = Missing::default();
        let own = stamps(
            MessageId::generate(),
            "h.example",
            Timestamp::UNIX_EPOCH,
            None,
            &sender,
            none,
        );
        assert_eq!(own.all().collect::<Vec<_>>(), [own.received.as_str()]);
    }

    #[test]
    fn fields_are_whole_and_the_same_at_every_attempt() {
        let id = MessageId {
            ulid: "01J9ZK3V5T00000000000000ZZ".parse().unwrap(),
            life: 0,
        };
        let first = of(id, "h.example", Some("app@example.com"));
        assert_eq!(first, of(id.next_life(), "h.example", Some("app@example.com")));
        assert_eq!(
            first.received,
            "Received: from mail pickup service by h.example with mailroot id 01J9ZK3V5T00000000000000ZZ;\r\n\
             \tMon, 23 Nov 2026 21:04:05 +0000\r\n"
        );
        assert_eq!(
            first.date.as_deref(),
            Some("Date: Mon, 23 Nov 2026 21:04:05 +0000\r\n")
        );
        assert_eq!(
            first.message_id.as_deref(),
            Some("Message-ID: <01J9ZK3V5T00000000000000ZZ@h.example>\r\n")
        );
        assert_eq!(first.from.as_deref(), Some("From: app@example.com\r\n"));
        assert_eq!(first.return_path, None);
        let sender = Address::parse("app@example.com", "x").unwrap();
        let dropped = first.clone().with_return_path(Some(&sender));
        assert_eq!(
            dropped.return_path.as_deref(),
            Some("Return-Path: <app@example.com>\r\n")
        );
        assert_eq!(
            first.with_return_path(None).return_path.as_deref(),
            Some("Return-Path: <>\r\n")
        );
    }

    #[test]
    fn nobody_can_put_a_line_of_his_own_into_them() {
        let id = MessageId::generate();
        let odd = of(id, "a b\r\nBcc: x>", None);
        assert_eq!(odd.received.matches("\r\n").count(), 2, "{odd:?}");
        assert_eq!(
            odd.message_id.as_ref().unwrap().matches("\r\n").count(),
            1,
            "{odd:?}"
        );
        assert_eq!(odd.from.as_deref(), Some("From: postmaster@h.example\r\n"));
        assert!(of(id, "", None).message_id.unwrap().ends_with("@localhost>\r\n"));
        assert_eq!(
            of(id, "h", Some("dora@bücher.example")).from.as_deref(),
            Some("From: dora@xn--bcher-kva.example\r\n")
        );
    }
}
