//! `Badmail/`: what could be neither delivered nor returned, three files for each message.
//!
//! | file | what it is | who reads it |
//! |---|---|---|
//! | `ID.BAD` | The message, a valid Pickup file: its leading block names exactly the recipients that did not get it. A file that could not be understood is here byte for byte as it was written. | mail programs; `mv Badmail/ID.BAD Pickup/` sends it again |
//! | `ID.BDR` | The reason: what went wrong in one sentence, where, what to change, how to send again, and both transcripts in full. Plain text, CRLF. | people |
//! | `ID.BDP` | The properties: `key: value` lines, CRLF. | programs |
//!
//! The order in which they are put is `.BDR`, `.BDP`, `.BAD`: a `.BAD` without its reason is never seen, and whoever
//! watches for `.BAD` finds the other two. Nothing here is ever changed or read back by us.
//!
//! This module makes the texts of `.BDR` and `.BDP` from the facts ([`Case`]). Pure: no file, no clock.
//!
//! # Keys of `.BDP`
//!
//! One pair per line; `\`, and every control character, in a value is escaped as in Rust (`\\`, `\n`, `\u{7}`).
//! Readers must ignore keys that they do not know.
//!
//! | key | value |
//! |---|---|
//! | `version` | `1` |
//! | `id` | ID of the message, the stem of the three files |
//! | `rule` | short name of the reason: `no-sender`, `no-recipient`, `header-line`, `charset`, `too-large`, `header-too-large`, `incomplete`; `null-sender`, `notify-never`, `dsn-undeliverable`, `expired`, `hop-count`, `env-damaged`, `crashed-twice` |
//! | `iis-code` | the code that IIS gave for this, where it had one |
//! | `what` | the sentence of the `.BDR` |
//! | `file` | its name in Pickup |
//! | `line`, `text` | the line to blame and what stands in it, if there is one |
//! | `message-id` | its Message-ID field, if it has one |
//! | `arrived`, `given-up` | RFC 3339, UTC |
//! | `attempts` | how often delivery was tried |
//! | `sender` | the address; `<>` for the null sender; empty when unknown |
//! | `recipients` | how many did not get it |
//! | `recipient` | one of them; repeated for each, in the order of the file |
//! | `status`, `host`, `reply` | of the `recipient` line before them: RFC 3463 status, the host that spoke or was tried, its words or ours |

mod advice;
mod words;

pub use words::{bdp, bdr};

use crate::mail::{MessageId, Outcome};
use crate::pickup::Malformed;
use jiff::Timestamp;
use std::time::Duration;

/// Everything that `.BDR` and `.BDP` say about a message.
#[derive(Debug)]
pub struct Case<'a> {
    /// The stem of the three files.
    pub id: MessageId,
    /// The name that its file had in Pickup.
    pub pickup_file: &'a str,
    /// Why it is here.
    pub reason: Reason<'a>,
    /// `None` is the null sender; `Some("")` is unknown.
    pub sender: Option<&'a str>,
    /// Who did not get it, and what became of each, if anything did.
    pub recipients: Vec<(String, Option<&'a Outcome>)>,
    /// When it became ours.
    pub arrived: Timestamp,
    /// When it was given up.
    pub now: Timestamp,
    /// How often delivery was tried.
    pub attempts: u32,
    /// Its `Message-ID` field without angle brackets.
    pub message_id: Option<&'a str>,
    /// The transcript of what happened here.
    pub ltr: &'a str,
    /// The transcript of the remote attempts.
    pub rtr: &'a str,
}

/// Why a message went to Badmail.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// The file could not be understood.
    Malformed(&'a Malformed),
    /// It failed, and its sender is null: there is nobody to tell.
    NullSender,
    /// It failed, and its sender wanted no report (NOTIFY=NEVER).
    ReportRefused,
    /// It is a report of ours, and could not be delivered.
    DsnUndeliverable,
    /// Its time was over, and nobody could be told.
    Expired {
        /// `delivery.expire` or `drop.expire`.
        after: Duration,
    },
    /// It passed too many hosts, and nobody could be told.
    HopCount {
        /// `Received` fields found.
        hops: usize,
        /// `messages.max_hops`
        limit: usize,
    },
    /// Its ENV is there and is not by our hand.
    EnvDamaged {
        /// What is wrong with it, one clause, e.g. `line 4 has no colon`.
        why: &'a str,
    },
    /// Handling it broke a session twice.
    TwiceCrashed {
        /// The words of the last panic, if they are known.
        why: &'a str,
    },
}

impl Reason<'_> {
    /// The short name for `.BDP`, log and counters.
    pub fn rule(&self) -> &str {
        match self {
            Self::Malformed(malformed) => malformed.rule,
            Self::NullSender => "null-sender",
            Self::ReportRefused => "notify-never",
            Self::DsnUndeliverable => "dsn-undeliverable",
            Self::Expired { .. } => "expired",
            Self::HopCount { .. } => "hop-count",
            Self::EnvDamaged { .. } => "env-damaged",
            Self::TwiceCrashed { .. } => "crashed-twice",
        }
    }

    /// The code that administrators of IIS know, where it had one.
    fn iis_code(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(_) => Some("0xC00402CE"),
            Self::DsnUndeliverable => Some("0xC00402C7"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
