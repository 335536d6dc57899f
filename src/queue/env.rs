//! The text form of a [`Record`]: the ENV file.
//!
//! ```text
//! mailroot-env 1
//! id 01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6
//! file order 42.eml
//! arrived 2026-11-21T22:28:47.123Z
//! sender <app@example.com>
//! ret HDRS
//! envid 12345
//! mtime 1795300127123456789
//! rcpt delivered tries=0 <bob@example.net>
//! last delivered 2.0.0 2026-11-21T22:28:48.001Z remote at=mx.example.net[192.0.2.7]:25 250 2.0.0 OK queued as 4711
//! rcpt open tries=2 next=2026-11-21T22:30:50.000Z notify=FAILURE,DELAY orcpt=rfc822;carol@example.net <carol@example.net>
//! last deferred 4.4.1 2026-11-21T22:29:50.000Z at=mx.example.org[192.0.2.9]:25 connection refused
//! end
//! ```
//!
//! Text, so that a person can read it; versioned; ends with `end`, so that a torn file is never taken for a whole
//! one. One `rcpt` line per recipient, followed by its `last` line once it was tried. Unknown words are an error:
//! what we do not understand we do not guess at. The frozen examples in `spool-fixtures/formats/v1` are read for ever.

use super::record::{Delay, Given, Owed, RecipientRecord, Record, ReportState, State};
use crate::clock::Millis;
use crate::mail::{
    Address, BodyType, EnhancedStatus, Envelope, MessageId, Notify, Outcome, Recipient, Ret, Verdict,
};
use std::borrow::Cow;
use std::fmt::Write as _;

const FIRST_LINE: &str = "mailroot-env 1";
const LAST_LINE: &str = "end";

/// Why a text is not an ENV file of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnEnv {
    /// From 1.
    pub line: usize,
    /// One clause.
    pub why: String,
}

impl std::fmt::Display for NotAnEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// The text of a record.
pub fn write(record: &Record) -> String {
    let mut out = String::with_capacity(256 + record.recipients.len() * 160);
    let _ = writeln!(out, "{FIRST_LINE}\nid {}", record.id);
    if !record.file.is_empty() {
        let _ = writeln!(out, "file {}", one_line(&record.file));
    }
    let sender = record.sender.as_ref().map_or("", Address::as_str);
    let _ = writeln!(out, "arrived {}\nsender <{sender}>", time(record.arrived));
    if let Some(ret) = record.ret {
        let _ = writeln!(out, "ret {}", ret.as_str());
    }
    if let Some(envid) = &record.envid {
        let _ = writeln!(out, "envid {}", one_line(envid));
    }
    if let Some(body) = record.body {
        let _ = writeln!(out, "body {}", body.as_str());
    }
    let _ = writeln!(out, "mtime {}", record.file_time);
    if record.crashes > 0 {
        let _ = writeln!(out, "crashes {}", record.crashes);
    }
    for entry in &record.recipients {
        write_recipient(&mut out, entry);
    }
    out.push_str(LAST_LINE);
    out.push('\n');
    out
}

fn write_recipient(out: &mut String, entry: &RecipientRecord) {
    let state = match entry.state {
        State::Open => "open",
        State::Delivered => "delivered",
        State::Failed => "failed",
    };
    let _ = write!(out, "rcpt {state} tries={}", entry.tries);
    if entry.next > 0 {
        let _ = write!(out, " next={}", time(entry.next));
    }
    match entry.report {
        ReportState::None => {}
        ReportState::Owed(Owed::Failure) => out.push_str(" report=failure"),
        ReportState::Owed(Owed::Success) => out.push_str(" report=success"),
        ReportState::Owed(Owed::Relay) => out.push_str(" report=relay"),
        ReportState::Owed(Owed::Delay) => {} // never stands here
        ReportState::Done => out.push_str(" reported"),
    }
    match entry.delay {
        Delay::Untold => {}
        Delay::Owed => out.push_str(" delay-owed"),
        Delay::Told => out.push_str(" delay-told"),
    }
    if let Some(notify) = entry.recipient.notify {
        let _ = write!(out, " notify={notify}");
    }
    if let Some(orcpt) = &entry.recipient.orcpt {
        let _ = write!(out, " orcpt={}", one_word(orcpt));
    }
    let bad = if entry.recipient.address.is_routable() {
        ""
    } else {
        " unroutable"
    };
    let _ = writeln!(out, "{bad} <{}>", entry.recipient.address);
    if let Some(Given { outcome, at }) = &entry.last {
        let verdict = match outcome.verdict {
            Verdict::Delivered => "delivered",
            Verdict::Deferred => "deferred",
            Verdict::Failed => "failed",
        };
        let _ = write!(out, "last {verdict} {} {}", outcome.status, time(*at));
        if outcome.remote {
            out.push_str(" remote");
        }
        let _ = writeln!(
            out,
            " at={} {}",
            outcome.host.as_deref().map_or("-".into(), one_word),
            one_line(&outcome.text)
        );
    }
}

/// Whoever made the words, they get no second line: that could be read as another recipient, or as the end. Reading
/// holds to the same, so that a record is the same after it was written and read again.
fn one_line(text: &str) -> Cow<'_, str> {
    without(text, char::is_control, ' ')
}

/// Nor a second word, where only one is read.
fn one_word(text: &str) -> Cow<'_, str> {
    without(text, |c| c == ' ' || c.is_control(), '_')
}

fn without(text: &str, bad: impl Fn(char) -> bool, instead: char) -> Cow<'_, str> {
    if text.contains(&bad) {
        text.chars().map(|c| if bad(c) { instead } else { c }).collect()
    } else {
        Cow::Borrowed(text)
    }
}

/// Reads what [`write()`] writes.
pub fn read(text: &str) -> Result<Record, NotAnEnv> {
    let mut reader = Reader {
        lines: text.split('\n').enumerate(),
        line: 0,
    };
    if reader.next() != Some(FIRST_LINE) {
        return Err(reader.error("does not begin with \"mailroot-env 1\""));
    }
    let mut record: Option<Record> = None;
    let mut whole = false;
    while let Some(line) = reader.next() {
        if line == LAST_LINE {
            whole = true;
            break;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (&mut record, word) {
            (None, "id") => {
                let id = rest
                    .parse()
                    .map_err(|_| reader.error("the ID is not one of ours"))?;
                record = Some(Record::new(id, String::new(), 0, 0, Envelope::default()));
            }
            (None, _) => return Err(reader.error("the ID must come first")),
            (Some(record), _) => read_line(record, word, rest).map_err(|why| reader.error(&why))?,
        }
    }
    if !whole || reader.next() != Some("") || reader.next().is_some() {
        return Err(reader.error("does not end with \"end\""));
    }
    record.ok_or_else(|| reader.error("has no ID"))
}

struct Reader<'a> {
    lines: std::iter::Enumerate<std::str::Split<'a, char>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (index, line) = self.lines.next()?;
        self.line = index + 1;
        Some(line)
    }

    fn error(&self, why: &str) -> NotAnEnv {
        NotAnEnv {
            line: self.line,
            why: why.to_owned(),
        }
    }
}

fn read_line(record: &mut Record, word: &str, rest: &str) -> Result<(), String> {
    let bad = || format!("\"{word} {rest}\" is not understood");
    match word {
        "file" => record.file = one_line(rest).into_owned(),
        "arrived" => record.arrived = millis(rest).ok_or_else(bad)?,
        "sender" => record.sender = read_sender(rest).ok_or_else(bad)?,
        "ret" => record.ret = Some(Ret::parse(rest).ok_or_else(bad)?),
        "envid" => record.envid = Some(one_line(rest).into_owned()),
        "body" => record.body = Some(BodyType::parse(rest).ok_or_else(bad)?),
        "mtime" => record.file_time = rest.parse().map_err(|_| bad())?,
        "crashes" => record.crashes = rest.parse().map_err(|_| bad())?,
        "rcpt" => record.recipients.push(read_recipient(rest).ok_or_else(bad)?),
        "last" => {
            let entry = record
                .recipients
                .last_mut()
                .ok_or("\"last\" stands before the first \"rcpt\"")?;
            entry.last = Some(read_last(rest).ok_or_else(bad)?);
        }
        _ => return Err(bad()),
    }
    Ok(())
}

fn read_sender(text: &str) -> Option<Option<Address>> {
    match text.strip_prefix('<')?.strip_suffix('>')? {
        "" => Some(None),
        address => Address::parse(address, "").ok().map(Some),
    }
}

fn read_recipient(text: &str) -> Option<RecipientRecord> {
    // The address stands last and may hold spaces and brackets inside quotes; what is before it holds neither.
    let (words, address) = text.split_once(" <")?;
    let address = address.strip_suffix('>')?;
    let mut words = words.split(' ');
    let state = match words.next()? {
        "open" => State::Open,
        "delivered" => State::Delivered,
        "failed" => State::Failed,
        _ => return None,
    };
    let mut entry = RecipientRecord::new(Recipient::plain(Address::unroutable(address)));
    entry.state = state;
    let mut routable = true;
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("tries", n) => entry.tries = n.parse().ok()?,
            ("next", at) => entry.next = millis(at)?,
            ("report", "failure") => entry.report = ReportState::Owed(Owed::Failure),
            ("report", "success") => entry.report = ReportState::Owed(Owed::Success),
            ("report", "relay") => entry.report = ReportState::Owed(Owed::Relay),
            ("reported", "") => entry.report = ReportState::Done,
            ("delay-owed", "") => entry.delay = Delay::Owed,
            ("delay-told", "") => entry.delay = Delay::Told,
            ("notify", n) => entry.recipient.notify = Some(Notify::parse(n)?),
            ("orcpt", o) => entry.recipient.orcpt = Some(one_word(o).into_owned()),
            ("unroutable", "") => routable = false,
            _ => return None,
        }
    }
    if routable {
        entry.recipient.address = Address::parse(address, "").ok()?;
    }
    Some(entry)
}

fn read_last(text: &str) -> Option<Given> {
    let mut rest = text;
    let mut word = || {
        let (word, tail) = rest.split_once(' ')?;
        rest = tail;
        Some(word)
    };
    let verdict = match word()? {
        "delivered" => Verdict::Delivered,
        "deferred" => Verdict::Deferred,
        "failed" => Verdict::Failed,
        _ => return None,
    };
    let status = EnhancedStatus::parse(word()?)?;
    let at = millis(word()?)?;
    let (remote, rest) = rest
        .strip_prefix("remote ")
        .map_or((false, rest), |rest| (true, rest));
    let (host, text) = rest.strip_prefix("at=")?.split_once(' ')?;
    let host = (host != "-").then(|| one_word(host).into_owned());
    Some(Given {
        outcome: Outcome {
            verdict,
            status,
            text: one_line(text).into_owned(),
            host,
            remote,
        },
        at,
    })
}

/// `2026-11-21T22:28:47.123Z`
pub fn time(at: Millis) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// As a timestamp; times beyond the calendar become its end.
pub fn timestamp(at: Millis) -> jiff::Timestamp {
    i64::try_from(at)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

fn millis(text: &str) -> Option<Millis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// Whether `env` belongs to a message file of life `life`: the newest record that is not above it counts.
pub fn is_valid_for(env: MessageId, message: MessageId) -> bool {
    env.ulid == message.ulid && env.life <= message.life
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Record {
        let id = MessageId::generate().next_life();
        let address = |text: &str| Address::parse(text, "").unwrap();
        let mut record = Record::new(
            id,
            "order\\n 42.eml".into(),
            1_795_300_127_123,
            1_795_300_127_123_456_789,
            Envelope {
                sender: Some(address("app@example.com")),
                ret: Some(Ret::Hdrs),
                envid: Some("12+3D45".into()),
                body: Some(BodyType::EightBitMime),
                recipients: vec![
                    Recipient::plain(address("bob@example.net")),
                    Recipient {
                        address: address("\"a> <b\"@example.net"),
                        notify: Some(Notify {
                            success: true,
                            failure: true,
                            delay: false,
                        }),
                        orcpt: Some("rfc822;x+20y@example.net".into()),
                    },
                    Recipient::plain(Address::unroutable("not an address")),
                    Recipient::plain(address("dörte@bücher.example")),
                ],
            },
        );
        let status = EnhancedStatus::new(5, 1, 1);
        record.note(
            0,
            Outcome::reply(
                Verdict::Delivered,
                EnhancedStatus::new(2, 0, 0),
                "250 ok",
                "mx[1.2.3.4]:25",
            ),
            5,
            false,
            false,
        );
        record.note(
            1,
            Outcome::reply(
                Verdict::Delivered,
                EnhancedStatus::new(2, 0, 0),
                "250 ok",
                "mx[1.2.3.4]:25",
            ),
            5,
            false,
            false,
        );
        record.note(2, Outcome::failed(status, "at= is no address"), 6, false, false);
        record.note(3, Outcome::deferred(status, ""), 7, false, false);
        record.crashes = 1;
        if let Some(last) = record.recipients.last_mut() {
            last.next = 1_795_300_187_000;
            last.delay = Delay::Told;
        }
        record
    }

    #[test]
    fn reads_what_it_writes() {
        let record = example();
        let text = write(&record);
        assert_eq!(read(&text).unwrap(), record, "{text}");
    }

    #[test]
    fn a_torn_file_is_never_taken_for_a_whole_one() {
        let text = write(&example());
        for end in 0..text.len() {
            if text.is_char_boundary(end) {
                assert!(read(&text[..end]).is_err(), "cut at {end}");
            }
        }
        assert!(read(&format!("{text}x")).is_err());
        assert!(read(&text.replace("rcpt open", "rcpt opened")).is_err());
        assert!(read(&text.replace("crashes", "crushes")).is_err());
    }

    #[test]
    fn no_word_gets_a_second_line() {
        let mut record = example();
        record.file = "a\nend".into();
        record.envid = Some("1\r\nrcpt open tries=0 <evil@x.example>".into());
        record.recipients[1].recipient.orcpt = Some("rfc822;a b\nend".into());
        for entry in &mut record.recipients {
            let given = entry.last.as_mut().unwrap();
            given.outcome.host = Some("mx a\nend".into());
            given.outcome.text = "no\nrcpt open tries=0 <evil@x.example>".into();
        }
        let read = read(&write(&record)).unwrap();
        assert_eq!(read.recipients.len(), record.recipients.len());
        assert_eq!(read.file, "a end");
        assert_eq!(
            read.recipients[1].recipient.orcpt.as_deref(),
            Some("rfc822;a_b_end")
        );
        let last = read.recipients[0].last.as_ref().unwrap();
        assert_eq!(last.outcome.host.as_deref(), Some("mx_a_end"));
        assert_eq!(last.outcome.text, "no rcpt open tries=0 <evil@x.example>");

        let text = write(&record).replace("a end", "a\u{7}\0");
        let read = super::read(&text).unwrap();
        assert_eq!(super::read(&write(&read)).unwrap(), read);
    }

    #[test]
    fn what_a_former_owner_reported_is_not_reported_again() {
        let mut record = example();
        assert!(record.owes());
        let mut former = record.clone();
        assert!(!record.clone().believe_reported(&former), "it owed the same");
        for kind in [Owed::Failure, Owed::Success, Owed::Relay, Owed::Delay] {
            let about = former.owed(kind);
            former.note_reported(kind, &about);
        }
        assert!(record.believe_reported(&former));
        assert!(!record.owes());
    }

    #[test]
    fn a_final_fate_is_not_revised() {
        let mut record = example();
        record.note(
            0,
            Outcome::failed(EnhancedStatus::new(5, 0, 0), "late"),
            9,
            false,
            false,
        );
        assert_eq!(record.recipients[0].state, State::Delivered);
    }
}
