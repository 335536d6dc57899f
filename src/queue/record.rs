//! The envelope record: per recipient what became of it, how often it was tried, when it is due again.

use crate::clock::Millis;
use crate::mail::{BodyType, Envelope, MessageId, Outcome, Recipient, Ret, Verdict};

/// Everything the message file cannot say. Its text form is the ENV file ([`super::env`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is; the life says which claim wrote it.
    pub id: MessageId,
    /// Name in Pickup, escaped; empty for our own DSNs.
    pub file: String,
    /// When it became ours.
    pub arrived: Millis,
    /// `None` is the null sender.
    pub sender: Option<crate::mail::Address>,
    /// RET
    pub ret: Option<Ret>,
    /// ENVID, xtext
    pub envid: Option<String>,
    /// BODY, as the writer said
    pub body: Option<BodyType>,
    /// Modification time of the message file in nanoseconds; a different one is an operator's `touch`.
    pub file_time: i128,
    /// Attempts that ended in a panic of ours or in a takeover: the second sends the message to Badmail.
    pub crashes: u32,
    /// In the order of the file.
    pub recipients: Vec<RecipientRecord>,
}

/// One recipient of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRecord {
    /// Address and DSN parameters.
    pub recipient: Recipient,
    /// Where it stands.
    pub state: State,
    /// What the sender has been, or must be, told of its end.
    pub report: ReportState,
    /// Whether the sender has been, or must be, told that it takes longer.
    pub delay: Delay,
    /// Attempts so far.
    pub tries: u32,
    /// When the next attempt is due; 0: at once.
    pub next: Millis,
    /// The last outcome and its time; `None` before the first attempt.
    pub last: Option<Given>,
}

/// An outcome and when it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The outcome.
    pub outcome: Outcome,
    /// When.
    pub at: Millis,
}

/// Where a recipient stands. There is no state of a whole message: one can be in Drop and in Queue at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not done: tried when due.
    Open,
    /// Somebody else answers for it.
    Delivered,
    /// Given up.
    Failed,
}

/// What the sender is told of the end of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportState {
    /// Nothing. A failed recipient that nobody is told about goes to Badmail.
    None,
    /// A DSN is due and not yet in Queue.
    Owed(Owed),
    /// The DSN is a message of its own now.
    Done,
}

/// What the sender is told of a delay: once for each recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// Nothing yet.
    Untold,
    /// A DSN is due and not yet in Queue.
    Owed,
    /// The DSN is a message of its own now.
    Told,
}

/// Which DSN is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owed {
    /// `Action: failed`
    Failure,
    /// `Action: delivered`
    Success,
    /// `Action: relayed`: the next host does not do DSN
    Relay,
    /// `Action: delayed`; stands in [`Delay`], beside what is said of the end
    Delay,
}

impl Record {
    /// The record of a message nobody has been told anything about.
    pub fn new(id: MessageId, file: String, arrived: Millis, file_time: i128, envelope: Envelope) -> Self {
        let recipients = envelope
            .recipients
            .into_iter()
            .map(RecipientRecord::new)
            .collect();
        Self {
            id,
            file,
            arrived,
            sender: envelope.sender,
            ret: envelope.ret,
            envid: envelope.envid,
            body: envelope.body,
            file_time,
            crashes: 0,
            recipients,
        }
    }

    /// Whether a recipient is still to be served.
    pub fn is_open(&self) -> bool {
        self.recipients.iter().any(|r| r.state == State::Open)
    }

    /// When the earliest open recipient is due; at once while a report is owed; `None` when nothing is to be done.
    pub fn due(&self) -> Option<Millis> {
        if self.owes() {
            return Some(0);
        }
        self.recipients
            .iter()
            .filter(|r| r.state == State::Open)
            .map(|r| r.next)
            .min()
    }

    /// Takes note of an outcome. `offered_dsn`: the host that took it promised to report a success itself.
    pub fn note(&mut self, index: usize, outcome: Outcome, now: Millis, local: bool, offered_dsn: bool) {
        let sender_known = self.sender.is_some();
        let Some(entry) = self.recipients.get_mut(index) else {
            return;
        };
        if entry.state != State::Open {
            return; // a final fate is never revised
        }
        match outcome.verdict {
            Verdict::Deferred => entry.tries = entry.tries.saturating_add(1),
            Verdict::Delivered => {
                entry.state = State::Delivered;
                if sender_known && entry.recipient.wants_success() && !offered_dsn {
                    entry.report = ReportState::Owed(if local { Owed::Success } else { Owed::Relay });
                }
            }
            Verdict::Failed => {
                entry.state = State::Failed;
                if sender_known && entry.recipient.wants_failure() {
                    entry.report = ReportState::Owed(Owed::Failure);
                }
            }
        }
        entry.last = Some(Given { outcome, at: now });
    }

    /// Whether any DSN is due and not yet in Queue.
    pub fn owes(&self) -> bool {
        self.recipients
            .iter()
            .any(|r| matches!(r.report, ReportState::Owed(_)) || r.delay == Delay::Owed)
    }

    /// Takes over from an earlier record of the same message that a DSN which is due here was reported; whether
    /// anything was.
    pub fn believe_reported(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (entry, other) in self.recipients.iter_mut().zip(&other.recipients) {
            if entry.recipient != other.recipient {
                continue;
            }
            if matches!(entry.report, ReportState::Owed(_)) && other.report == ReportState::Done {
                entry.report = ReportState::Done;
                changed = true;
            }
            if entry.delay == Delay::Owed && other.delay == Delay::Told {
                entry.delay = Delay::Told;
                changed = true;
            }
        }
        changed
    }

    /// The recipients for whom a DSN of this kind is due.
    pub fn owed(&self, owed: Owed) -> Vec<usize> {
        self.indices(|r| match owed {
            Owed::Delay => r.delay == Delay::Owed,
            _ => r.report == ReportState::Owed(owed),
        })
    }

    /// The DSN of this kind for these recipients is a message of its own now.
    pub fn note_reported(&mut self, owed: Owed, recipients: &[usize]) {
        for &index in recipients {
            if let Some(entry) = self.recipients.get_mut(index) {
                match owed {
                    Owed::Delay => entry.delay = Delay::Told,
                    _ => entry.report = ReportState::Done,
                }
            }
        }
    }

    /// The failed recipients that nobody is told about.
    pub fn unreturned(&self) -> Vec<usize> {
        self.indices(|r| r.state == State::Failed && r.report == ReportState::None)
    }

    fn indices(&self, wanted: impl Fn(&RecipientRecord) -> bool) -> Vec<usize> {
        self.recipients
            .iter()
            .enumerate()
            .filter(|(_, r)| wanted(r))
            .map(|(i, _)| i)
            .collect()
    }
}

impl RecipientRecord {
    /// Before the first attempt.
    pub fn new(recipient: Recipient) -> Self {
        Self {
            recipient,
            state: State::Open,
            report: ReportState::None,
            delay: Delay::Untold,
            tries: 0,
            next: 0,
            last: None,
        }
    }
}
