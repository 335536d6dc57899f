//! What a message file says, read once and judged: envelope, layout of the bytes, verdicts.

use crate::mail::Envelope;
use std::ops::Range;

/// A message file, understood.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who it is from and for. Never without a recipient.
    pub envelope: Envelope,
    /// Where the sender comes from (for `check`, LTR and `.BDR`).
    pub sender_origin: Origin,
    /// Where each recipient comes from, in the order of `envelope.recipients`.
    pub recipient_origins: Vec<Origin>,
    /// The bytes and how they are to be sent.
    pub layout: Layout,
    /// Value of the `Message-ID` field without angle brackets, if there is one.
    pub internet_message_id: Option<String>,
    /// Number of `Received` fields.
    pub hops: usize,
    /// Things worth telling that do not stop the message, e.g. `line 3: "NOTIFY=SOMETIMES" is not known; ignored`.
    pub remarks: Vec<String>,
}

/// Which line and field an address was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Field name as written (`X-Receiver`, `Cc`), or the setting (`pickup.default_sender`).
    pub field: String,
    /// Line of the file, from 1; 0 when it is not from the file.
    pub line: usize,
}

/// Where things stand in the *decoded* text (UTF-8 BOM removed, UTF-16 transcoded), in byte offsets.
#[derive(Debug, Clone)]
pub struct Layout {
    /// How the file's bytes become text.
    pub encoding: Encoding,
    /// The leading block (empty when there is none).
    pub leading: Range<u64>,
    /// The header block without its blank line. Fields to leave out while sending (Bcc) are in `omit`.
    pub header: Range<u64>,
    /// What is never sent: whole fields, folds and line ends included, and non-breaking spaces around field names;
    /// ascending, inside `header`.
    pub omit: Vec<Range<u64>>,
    /// The body, after the blank line and before an end marker.
    pub body: Range<u64>,
    /// The verdict on leading periods.
    pub dots: Dots,
    /// The verdict came with the file, on an `x-dots` line.
    pub dots_said: bool,
    /// It was said by `x-complete` that the message is whole.
    pub complete_said: bool,
    /// Headers to add because they are missing.
    pub missing: Missing,
    /// A byte over 127 in the header block (RFC 6532), outside `omit`.
    pub eight_bit_header: bool,
    /// A byte over 127 in the body.
    pub eight_bit_body: bool,
    /// The longest line in bytes without its line end, header and body, where one is longer than 512: shorter lines
    /// of the body are not measured.
    pub longest_line: u64,
    /// Bytes of header (without `omit`), empty line and body with CRLF line ends, dots as meant, nothing added: for
    /// SIZE. A bare CR in the body counts as a line end.
    pub wire_size: u64,
}

/// How the file's bytes are to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes as they are.
    Plain,
    /// As they are, after a BOM of three bytes.
    Utf8Bom,
    /// Transcoded to UTF-8.
    Utf16Le,
    /// Transcoded to UTF-8.
    Utf16Be,
}

/// Header fields that the file lacks (RFC 5322 §3.6; contract §4, stamping).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// `Date`
    pub date: bool,
    /// `Message-ID`
    pub message_id: bool,
    /// `From`
    pub from: bool,
}

/// How lines of the body that begin with a period are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dots {
    /// One period is removed from each line that begins with one.
    pub stuffed: bool,
    /// The last line, a lone period, was an end marker and is not part of the body.
    pub end_marker: bool,
    /// Whether any body line (the marker aside) begins with a period, also one that begins only when it is sent, after
    /// a bare CR: who reads our Drop file must not judge it anew.
    pub present: bool,
}

impl Dots {
    /// As logged: `none`, `literal`, `stuffed`, each with ` + end marker` if there was one.
    pub fn as_str(self) -> &'static str {
        match (self.present, self.stuffed, self.end_marker) {
            (false, _, false) => "none",
            (false, _, true) => "end marker",
            (true, false, false) => "literal",
            (true, false, true) => "literal + end marker",
            (true, true, false) => "stuffed",
            (true, true, true) => "stuffed + end marker",
        }
    }
}

/// Whether the text ends where its writer meant it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// As far as the text shows.
    Complete,
    /// Nothing in it.
    Empty,
    /// The blank line after the header block has not come yet (a file that ends inside its header block).
    InsideHeader,
    /// A multipart message without its closing boundary.
    NoClosingBoundary,
}

/// Bad input: ends in Badmail, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Short name of the rule for `.BDP` and the log: `no-sender`, `no-recipient`, `header-line`, `charset`,
    /// `too-large`, `incomplete`, `header-too-large`, `too-many-recipients`.
    pub rule: &'static str,
    /// Line of the file, from 1, if one is to blame.
    pub line: Option<usize>,
    /// The offending text, escaped and cut to 200 characters, if there is one.
    pub text: Option<String>,
    /// One sentence: what went wrong.
    pub what: String,
    /// One sentence: what to change.
    pub advice: String,
}
