//! A message file, read once from top to bottom and judged.
//!
//! Reads blocks of 64 KiB through [`ReadAt`]; keeps the header block (at most [`MAX_HEADER`]) and
//! one block of the body. Only UTF-16 files are held whole, and they are bounded. Pure otherwise; any thread.

use super::body::{BodyFacts, BodyScan};
use super::closing::Closing;
use super::envelope::{Addressed, addressed};
use super::layout::{HeaderFacts, header_facts};
use super::split::{self, Head};
use super::submission::{Completeness, Encoding, Layout, Malformed, Submission};
use super::{MAX_HEADER, malformed, text};
use crate::config::{Config, DotsSetting};
use crate::mail::ReadAt;
use crate::mail::header::{self, ScanError};
use crate::mail::leading::{self, SaidDots};
use crate::mail::remarks::Remarks;
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// The settings that decide how a file is read.
#[derive(Debug, Clone)]
pub struct ReadRules {
    /// `domains.default`: for addresses without a domain.
    pub default_domain: String,
    /// `pickup.default_sender`; empty: none.
    pub default_sender: String,
    /// `pickup.dots`
    pub dots: DotsSetting,
    /// `messages.max_size`, in bytes of the file without its leading block; 0: no limit.
    pub max_size: u64,
}

impl ReadRules {
    /// From the settings in force.
    pub fn from_config(config: &Config) -> Self {
        Self {
            default_domain: config.domains.default.clone(),
            default_sender: config.pickup.default_sender.clone(),
            dots: config.pickup.dots,
            max_size: config.messages.max_size,
        }
    }

    fn is_too_large(&self, size: u64) -> bool {
        self.max_size > 0 && size > self.max_size
    }
}

/// What was read: whether it is all there, and what it says as it stands.
#[derive(Debug)]
pub struct Reading {
    /// Whether the text ends where its writer meant it to end.
    pub completeness: Completeness,
    /// What the text says as it stands, whatever `completeness` is.
    pub submission: Result<Submission, Malformed>,
    /// What is wrong with it if no more of it comes: a multipart message without its closing boundary, a header
    /// that breaks off in a line. `None` where the text is good as it stands, also when it is a header only.
    pub incomplete: Option<Malformed>,
    /// Decoded text when the file had to be transcoded (UTF-16): offsets of [`Layout`] refer to it.
    pub transcoded: Option<Arc<[u8]>>,
}

impl Reading {
    /// The judgement when the wait for more is over (`pickup.incomplete_grace`).
    pub fn when_final(self) -> Result<Submission, Malformed> {
        match self.incomplete {
            Some(incomplete) if self.submission.is_ok() => Err(incomplete),
            _ => self.submission,
        }
    }

    fn refused(completeness: Completeness, malformed: Malformed) -> Self {
        Self {
            completeness,
            submission: Err(malformed),
            incomplete: None,
            transcoded: None,
        }
    }
}

/// Reads a whole message. An error is one of `source`, never of what it says.
pub fn read(source: &dyn ReadAt, rules: &ReadRules) -> io::Result<Reading> {
    let refused = |malformed| Ok(Reading::refused(Completeness::Complete, malformed));
    let size = source.len();
    // Whatever the leading block takes of it, which does not count.
    if rules.is_too_large(size.saturating_sub(MAX_HEADER as u64)) {
        return refused(malformed::too_large(size, rules.max_size));
    }
    let first = split::first_block(source)?;
    match text::encoding(&first) {
        Err(malformed) => refused(malformed),
        Ok(encoding @ (Encoding::Plain | Encoding::Utf8Bom)) => read_text(source, first, encoding, rules),
        Ok(encoding) => match text::transcode(source, encoding)? {
            Err(malformed) => refused(malformed),
            Ok(text) => {
                let first = split::first_block(&text)?;
                let mut reading = read_text(&text, first, encoding, rules)?;
                reading.transcoded = Some(text);
                Ok(reading)
            }
        },
    }
}

/// Reads text whose first block is `first`.
fn read_text(
    source: &dyn ReadAt,
    first: Cow<'_, [u8]>,
    encoding: Encoding,
    rules: &ReadRules,
) -> io::Result<Reading> {
    let start = if encoding == Encoding::Utf8Bom { 3 } else { 0 };
    if first.len() <= start {
        return Ok(Reading::refused(Completeness::Empty, malformed::empty()));
    }
    let Some(head) = split::head(source, first, start)? else {
        let malformed = malformed::header_too_large("16 MiB");
        return Ok(Reading::refused(Completeness::Complete, malformed));
    };
    let completeness = if head.ended {
        Completeness::Complete
    } else {
        Completeness::InsideHeader
    };
    let too_large = || {
        let malformed = malformed::too_large(source.len(), rules.max_size);
        Ok(Reading::refused(Completeness::Complete, malformed))
    };
    let header = match Header::read(&head, start, rules) {
        Ok(header) if rules.is_too_large(source.len().saturating_sub(header.leading.end)) => {
            return too_large();
        }
        Ok(header) => header,
        Err(_) if rules.is_too_large(source.len()) => return too_large(),
        Err(malformed) if malformed.rule == "header-line" && !is_last_line(&head.bytes, &malformed) => {
            // A whole line that is no header does not come right by what may follow.
            return Ok(Reading::refused(Completeness::Complete, malformed));
        }
        Err(malformed) => return Ok(Reading::refused(completeness, malformed)),
    };
    let boundary = header
        .boundary()
        .filter(|_| !header.said_complete)
        .map(str::to_owned);
    let body = read_body(source, &head, boundary.as_deref().map(Closing::new))?;
    let is_multipart = header.facts.content_type.as_ref().is_some_and(|t| t.is_multipart);
    let cut = !head.bytes.ends_with(b"\n");
    let (completeness, incomplete) = match boundary {
        _ if !head.ended => {
            let incomplete = (cut || is_multipart).then(|| malformed::header_only(cut));
            (completeness, incomplete)
        }
        Some(boundary) if !body.is_closed => (
            Completeness::NoClosingBoundary,
            Some(malformed::no_closing_boundary(&boundary)),
        ),
        _ => (completeness, None),
    };
    Ok(Reading {
        completeness,
        submission: Ok(header.submission(&head, body, encoding, rules)),
        incomplete,
        transcoded: None,
    })
}

/// Whether the line to blame is the last one and has no line end yet: its writer may be in the middle of it.
fn is_last_line(head: &[u8], malformed: &Malformed) -> bool {
    let ends = head.iter().filter(|b| **b == b'\n').count();
    malformed.line == Some(ends + 1)
}

/// One pass over what follows the header block.
fn read_body(source: &dyn ReadAt, head: &Head<'_>, closing: Option<Closing>) -> io::Result<BodyFacts> {
    let mut scan = BodyScan::new(head.body_start as u64, closing);
    scan.feed(head.bytes.get(head.body_start..).unwrap_or_default());
    let (mut at, end) = (head.bytes.len() as u64, source.len());
    let mut block = Vec::new();
    while at < end {
        block.resize(split::BLOCK, 0); // once; most messages never come here
        match text::read_some(source, &mut block, at)? {
            0 => break,
            len => {
                scan.feed(block.get(..len).unwrap_or_default());
                at += len as u64;
            }
        }
    }
    Ok(scan.finish())
}

/// The header block, understood.
struct Header {
    leading: Range<u64>,
    header: Range<u64>,
    addressed: Addressed,
    said_dots: Option<SaidDots>,
    said_complete: bool,
    facts: HeaderFacts,
    remarks: Remarks,
}

impl Header {
    fn read(head: &Head<'_>, start: usize, rules: &ReadRules) -> Result<Self, Malformed> {
        let whole = head.bytes.get(start..head.header_end).unwrap_or_default();
        if has_only_bare_cr(whole) {
            return Err(malformed::bare_cr(whole));
        }
        let mbox_line = mbox_line_len(whole);
        let block = whole.get(mbox_line..).unwrap_or_default();
        let first_line = 1 + usize::from(mbox_line > 0);
        let fields = header::scan(block, first_line).map_err(|error| match error {
            ScanError::NotAField { line, text } => malformed::header_line(block, first_line, line, text),
            ScanError::TooLarge => malformed::header_too_large(&format!("{} fields", header::MAX_FIELDS)),
        })?;
        let mut leading = leading::read(&fields, block, &rules.default_domain);
        let mut remarks = std::mem::take(&mut leading.remarks);
        if mbox_line > 0 {
            remarks.add(|| "line 1: a \"From \" line of a mailbox file; left out".to_owned());
        }
        let (said_dots, said_complete) = (leading.dots, leading.complete);
        let (above, fields) = fields.split_at(leading.fields.min(fields.len()));
        if fields.is_empty() && !above.is_empty() {
            remarks.add(|| "the header is empty: an empty line follows the leading block".to_owned());
        }
        let sent = header::as_sent(block);
        let base = (start + mbox_line) as u64;
        let leading_end = base + above.last().map_or(0, |field| field.whole.end) as u64;
        Ok(Self {
            leading: start as u64..leading_end,
            header: leading_end..head.header_end as u64,
            addressed: addressed(leading, fields, &sent, rules, &mut remarks)?,
            said_dots,
            said_complete,
            facts: header_facts(fields, &sent, base),
            remarks,
        })
    }

    /// Of a multipart message.
    fn boundary(&self) -> Option<&str> {
        let content_type = self.facts.content_type.as_ref().filter(|t| t.is_multipart)?;
        content_type.boundary.as_deref()
    }

    fn submission(
        mut self,
        head: &Head<'_>,
        body: BodyFacts,
        encoding: Encoding,
        rules: &ReadRules,
    ) -> Submission {
        self.remark_on(encoding, body.eight_bit);
        let mut judged = body.tally.judge(self.said_dots, rules.dots, body.end);
        judged.dots.present |= body.period_after_cr;
        Submission {
            envelope: self.addressed.envelope,
            sender_origin: self.addressed.sender_origin,
            recipient_origins: self.addressed.recipient_origins,
            layout: Layout {
                encoding,
                leading: self.leading,
                header: self.header,
                omit: self.facts.omit,
                body: head.body_start as u64..judged.end,
                dots: judged.dots,
                dots_said: self.said_dots.is_some(),
                complete_said: self.said_complete,
                missing: self.facts.missing,
                eight_bit_header: self.facts.eight_bit,
                eight_bit_body: body.eight_bit,
                longest_line: self.facts.longest.max(body.longest),
                wire_size: self.facts.wire + EMPTY_LINE + judged.wire + body.bare_crs,
            },
            internet_message_id: self.facts.internet_message_id,
            hops: self.facts.hops,
            remarks: self.remarks.into_vec(),
        }
    }

    fn remark_on(&mut self, encoding: Encoding, eight_bit_body: bool) {
        let content_type = self.facts.content_type.as_ref();
        if content_type.is_some_and(|t| t.is_multipart && t.boundary.is_none()) {
            self.remarks.add(|| {
                "Content-Type is multipart but has no boundary: cannot tell whether the message is whole"
                    .into()
            });
        }
        let is_transcoded = matches!(encoding, Encoding::Utf16Le | Encoding::Utf16Be);
        let charset = content_type.and_then(|t| t.charset.as_deref());
        if let Some(charset) = charset.filter(|c| !c.eq_ignore_ascii_case("utf-8"))
            && is_transcoded
            && eight_bit_body
        {
            let charset = header::shown(charset.as_bytes());
            self.remarks.add(|| {
                format!("the file is UTF-16 and its text goes out as UTF-8, but Content-Type says {charset}")
            });
        }
    }
}

/// No line end at all, but a CR inside the text (not one that a LF may still follow).
fn has_only_bare_cr(block: &[u8]) -> bool {
    let inside = block.get(..block.len().saturating_sub(1)).unwrap_or_default();
    !block.ends_with(b"\n")
        && memchr::memchr(b'\n', inside).is_none()
        && memchr::memchr(b'\r', inside).is_some()
}

/// CRLF between header and body.
const EMPTY_LINE: u64 = 2;

/// Length of a first line `From someone date`, by which mailbox files divide messages; 0 when there is none.
fn mbox_line_len(block: &[u8]) -> usize {
    let Some(line) = header::lines(block).next() else {
        return 0;
    };
    // "From : me" is a field with a forgiven space
    let is_mbox = line.starts_with(b"From ") && header::scan(line, 1).is_err();
    if is_mbox { line.len() } else { 0 }
}
