//! Delivery status notifications: the facts about some recipients of a message → one RFC 3464 message.
//!
//! Pure: reads [`About`], writes bytes. It knows no folder, no queue and no clock; who is told, when, and under which
//! name the report goes into the queue is the engine's business.
//!
//! Three parts, as RFC 6522 wants them: `words` for people, `status` for programs, `returned` of the original.
//! All lines end in CRLF and are at most 998 bytes long; all parts are 7bit, quoted-printable or, when the original
//! holds 8-bit text, 8bit. The work is linear in the number of recipients.

use crate::mail::{Address, MessageId, Outcome, Recipient, Ret, plain};
use mail_builder::MessageBuilder;
use mail_builder::headers::{content_type::ContentType, raw::Raw};
use mail_builder::mime::MimePart;

mod returned;
mod status;
mod words;

/// What the report tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// These recipients will not get the message.
    Failure,
    /// They have not got it yet; it is still being tried.
    Delay,
    /// It was delivered.
    Success,
    /// It was handed to a host that makes no reports of its own.
    Relay,
}

impl Kind {
    /// The word in the subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "Failure",
            Self::Delay => "Delay",
            Self::Success => "Success",
            Self::Relay => "Relay",
        }
    }

    /// The `Action` of RFC 3464 §2.3.3.
    fn action(self) -> &'static str {
        match self {
            Self::Failure => "failed",
            Self::Delay => "delayed",
            Self::Success => "delivered",
            Self::Relay => "relayed",
        }
    }
}

/// Everything that a report says. All recipients share the kind; each has its own outcome.
#[derive(Debug)]
pub struct About<'a> {
    /// Our name: `Reporting-MTA` and the right side of the Message-ID.
    pub hostname: &'a str,
    /// From.
    pub postmaster: &'a Address,
    /// To: the sender of the original.
    pub to: &'a Address,
    /// The report's own ID; its Message-ID is made of it, so that the same report has the same one.
    pub dsn_id: MessageId,
    /// The ID of the message that is reported.
    pub parent_id: MessageId,
    /// The name that its file had in Pickup.
    pub pickup_file: &'a str,
    /// ENVID of the original, in xtext as it came.
    pub envid: Option<&'a str>,
    /// RET of the original.
    pub ret: Option<Ret>,
    /// When we took the original.
    pub arrived: jiff::Timestamp,
    /// The time of the report and of the last attempt.
    pub now: jiff::Timestamp,
    /// Until when it will be tried (delay only).
    pub will_retry_until: Option<jiff::Timestamp>,
    /// Whom the report is about, and what became of each.
    pub recipients: Vec<(&'a Recipient, &'a Outcome)>,
    /// What was tried, as in LTR and RTR. May be long: the report shows its end.
    pub transcript: &'a str,
    /// The header block as it goes out, with CRLF.
    pub original_header: &'a [u8],
    /// The whole message as it goes out; `None` when it is too large to be returned.
    pub original_whole: Option<&'a [u8]>,
    /// The subject, decoded.
    pub subject: Option<String>,
}

/// Whether the sender wants to hear this of this recipient (NOTIFY, RFC 3461 §4.1): failures and delays unless it said
/// otherwise, successes only when it asked, nothing under NEVER.
pub fn due(kind: Kind, recipient: &Recipient) -> bool {
    match kind {
        Kind::Failure => recipient.wants_failure(),
        Kind::Delay => recipient.wants_delay(),
        Kind::Success | Kind::Relay => recipient.wants_success(),
    }
}

/// The report, an RFC 5322 message with CRLF line ends. The envelope (null sender, [`About::to`]) is not in it.
pub fn dsn(kind: Kind, about: &About<'_>) -> Vec<u8> {
    let returned = returned::part(kind, about);
    let text = words::text(kind, about, returned.shown);
    let status = status::fields(kind, about);

    // Without a boundary of ours, mail-builder would make a random one: a report that is made again would differ.
    let boundary = free_boundary(about.dsn_id, &[text.as_bytes(), &status, &returned.bytes]);
    let encoding = if returned.eight_bit { "8bit" } else { "7bit" };
    let body = MimePart::new(
        ContentType::new("multipart/report")
            .attribute("report-type", "delivery-status")
            .attribute("boundary", boundary),
        vec![
            MimePart::new("text/plain", text),
            MimePart::new("message/delivery-status", status).transfer_encoding("7bit"),
            MimePart::new(returned.content_type, returned.bytes.as_ref()).transfer_encoding(encoding),
        ],
    )
    // RFC 2045 §6.4: a multipart is 8bit when one of its parts is
    .transfer_encoding(encoding);

    let mut message = MessageBuilder::new()
        .from(about.postmaster.as_str())
        .to(about.to.as_str())
        .subject(format!("Delivery Status Notification ({})", kind.as_str()))
        .header("Date", Raw::new(plain::date(about.now)))
        .message_id(format!("{}@{}", about.dsn_id.ulid, about.hostname))
        .header("Auto-Submitted", Raw::new("auto-replied"));
    if let Some(id) = returned::message_id(about.original_header) {
        message = message.in_reply_to(id.clone()).references(id);
    }
    let mut bytes = Vec::new();
    message.body(body).serialize(&mut bytes);
    bytes
}

/// A boundary that stands in none of the parts. The first candidate is as unique as the report's ID; a second one is
/// needed only for a message that quotes this very report.
fn free_boundary(id: MessageId, parts: &[&[u8]]) -> String {
    let mut boundary = format!("=_DSN_{}", id.ulid);
    let mut n = 0_u32;
    while parts
        .iter()
        .any(|part| memchr::memmem::find(part, boundary.as_bytes()).is_some())
    {
        n = n.saturating_add(1);
        boundary = format!("=_{n}_DSN_{}", id.ulid);
    }
    boundary
}

#[cfg(test)]
mod tests;
