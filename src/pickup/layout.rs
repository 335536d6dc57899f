//! What the header block says of the message, and how it is to be sent: what is left out, what is missing.

use super::submission::Missing;
use crate::mail::header::{Field, lines, without_line_end};
use crate::mail::structured::{self, ContentType};
use std::ops::Range;

/// The facts of a header block without its leading block.
#[derive(Debug, Default)]
pub(super) struct HeaderFacts {
    /// File offsets; ascending, never overlapping.
    pub omit: Vec<Range<u64>>,
    pub missing: Missing,
    /// A byte over 127 in what is sent.
    pub eight_bit: bool,
    /// The longest line of what is sent.
    pub longest: u64,
    /// Bytes that are sent, with CRLF.
    pub wire: u64,
    pub internet_message_id: Option<String>,
    pub hops: usize,
    /// Of the first `Content-Type`.
    pub content_type: Option<ContentType>,
}

/// `fields` are those after the leading block; `block`, as it is sent, begins at file offset `base`.
pub(super) fn header_facts(fields: &[Field<'_>], block: &[u8], base: u64) -> HeaderFacts {
    let has = |name: &str| fields.iter().any(|field| field.is(name));
    let value_of = |name: &str| fields.iter().find(|f| f.is(name)).map(|f| f.value_in(block));
    let mut facts = HeaderFacts {
        missing: Missing {
            date: !has("Date"),
            message_id: !has("Message-ID"),
            from: !has("From"),
        },
        internet_message_id: value_of("Message-ID").and_then(structured::message_id),
        hops: fields.iter().filter(|field| field.is("Received")).count(),
        content_type: value_of("Content-Type").and_then(structured::content_type),
        ..HeaderFacts::default()
    };
    for field in fields {
        if field.is("Bcc") || field.is("Resent-Bcc") {
            facts.omit_range(field.whole.clone(), base);
        } else {
            facts.take_sent(field, block, base);
        }
    }
    facts
}

impl HeaderFacts {
    fn omit_range(&mut self, range: Range<usize>, base: u64) {
        self.omit.push(base + range.start as u64..base + range.end as u64);
    }

    fn take_sent(&mut self, field: &Field<'_>, block: &[u8], base: u64) {
        for line in lines(block.get(field.whole.clone()).unwrap_or_default()) {
            let len = without_line_end(line).len() as u64;
            self.longest = self.longest.max(len);
            self.wire += len + 2;
        }
        let mut kept_from = field.whole.start;
        for gap in field.forgiven(block) {
            self.wire -= gap.len() as u64;
            self.eight_bit |= !block.get(kept_from..gap.start).unwrap_or_default().is_ascii();
            kept_from = gap.end;
            self.omit_range(gap, base);
        }
        self.eight_bit |= !block
            .get(kept_from..field.whole.end)
            .unwrap_or_default()
            .is_ascii();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header;

    fn facts(block: &str) -> HeaderFacts {
        header_facts(&header::scan(block.as_bytes(), 1).unwrap(), block.as_bytes(), 100)
    }

    #[test]
    fn bcc_is_left_out_wherever_it_stands() {
        let block = "BCC: ä@b\n\tc@d\nFrom: a@b\r\nResent-Bcc:\r\nX-Bcc: e@f\nbcc :g@h";
        let facts = facts(block);
        let omitted: String = facts
            .omit
            .iter()
            .map(|r| &block[r.start as usize - 100..r.end as usize - 100])
            .collect();
        assert_eq!(omitted, "BCC: ä@b\n\tc@d\nResent-Bcc:\r\nbcc :g@h");
        assert!(!facts.eight_bit);
        assert_eq!((facts.longest, facts.wire), (10, 9 + 2 + 10 + 2));
    }

    #[test]
    fn non_breaking_spaces_are_left_out_and_do_not_count() {
        let facts = facts("\u{a0}From\u{a0}: a@b\r\nTo:\u{a0}c@d");
        assert_eq!(facts.omit, [100..102, 106..108, 118..120]);
        assert!(!facts.eight_bit);
        assert_eq!(facts.wire, "From: a@b\r\nTo:c@d\r\n".len() as u64);
        assert!(!facts.missing.from);
    }

    #[test]
    fn what_is_missing_and_what_is_there() {
        let none = facts("Subject: grüße\r\n");
        assert_eq!(
            none.missing,
            Missing {
                date: true,
                message_id: true,
                from: true
            }
        );
        assert!(none.eight_bit);
        let all = facts(
            "Received: x\nReceived: y\nDATE: z\nmessage-id: <a@b>\nFrom: c\nContent-Type: multipart/mixed; boundary=q\n",
        );
        assert_eq!(all.missing, Missing::default());
        assert_eq!((all.hops, all.internet_message_id.as_deref()), (2, Some("a@b")));
        assert_eq!(all.content_type.unwrap().boundary.as_deref(), Some("q"));
    }
}
