//! The log lines. At info level exactly one when a message is taken and one when each recipient's fate is final.

use super::job::{Job, Settled, Taken};
use super::shared::lock;
use crate::clock;
use crate::clock::Millis;
use crate::mail::{Address, MessageId, Verdict};
use crate::mailroot::NodeName;
use crate::pickup::Submission;
use crate::queue::env;
use crate::queue::record::Record;
use std::fmt::Write as _;
use tracing::{debug, info, warn};

/// A message was taken: what it is and why we think it was whole.
pub fn taken(job: &Job, submission: &Submission, evidence: &str, size: u64) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let state = lock(&job.state);
    let record = &state.record;
    info!(
        id = %job.id,
        file = %record.file,
        message_id = job.internet_message_id(),
        from = record.sender.as_ref().map_or("<>", Address::as_str),
        recipients = record.recipients.len(),
        size,
        dots = submission.layout.dots.as_str(),
        evidence,
        "taken"
    );
}

/// A recipient's outcome: info when it is final, debug when it will be tried again.
pub fn outcome(job: &Job, record: &Record, index: usize) {
    let Some((entry, given)) = record
        .recipients
        .get(index)
        .and_then(|entry| entry.last.as_ref().map(|given| (entry, given)))
    else {
        return;
    };
    let outcome = &given.outcome;
    macro_rules! line {
        ($level:ident, $word:literal) => {
            $level!(
                id = %job.id,
                file = %record.file,
                message_id = job.internet_message_id(),
                to = %entry.recipient.address,
                status = %outcome.status,
                host = outcome.host.as_deref().unwrap_or(""),
                reply = %outcome.text,
                $word
            )
        };
    }
    match outcome.verdict {
        Verdict::Delivered => line!(info, "delivered"),
        Verdict::Failed => line!(info, "failed"),
        Verdict::Deferred => line!(debug, "deferred"),
    }
}

/// A message is back in Queue.
pub fn waiting(job: &Job, due: Millis) {
    debug!(id = %job.id, due = %env::time(due), "waiting");
}

/// A DSN was put into Queue.
pub fn report(parent: &Job, kind: &str, id: MessageId) {
    debug!(id = %parent.id, report = %id, kind, "reported to the sender");
}

/// A message went to Badmail.
pub fn buried(id: MessageId, file: &str, rule: &str) {
    warn!(target: crate::log::EACH, %id, file, rule, "to Badmail; the reason is in {}.BDR", id.ulid);
}

/// What LTR says of a message when it is first taken: how it was judged complete, where each address comes from.
pub fn first_lines(taken: &Taken, record: &Record, submission: &Submission) -> String {
    /// More recipients are counted, not listed.
    const LISTED: usize = 50;
    let mut text = format!(
        "{} taken from Pickup as {}, file {}\n",
        env::time(taken.at),
        record.id,
        record.file
    );
    let _ = writeln!(text, "  complete: {}", taken.evidence);
    let sender = record.sender.as_ref().map_or("", Address::as_str);
    let _ = writeln!(
        text,
        "  sender <{sender}> from {} (line {})",
        submission.sender_origin.field, submission.sender_origin.line
    );
    let recipients = &record.recipients;
    for (entry, origin) in recipients.iter().zip(&submission.recipient_origins).take(LISTED) {
        let _ = writeln!(
            text,
            "  recipient <{}> from {} (line {})",
            entry.recipient.address, origin.field, origin.line
        );
    }
    if recipients.len() > LISTED {
        let _ = writeln!(text, "  and {} more recipients", recipients.len() - LISTED);
    }
    let _ = writeln!(text, "  leading periods: {}", submission.layout.dots.as_str());
    for remark in &submission.remarks {
        let _ = writeln!(text, "  remark: {remark}");
    }
    text
}

/// The lines of one remote attempt for RTR.
pub fn remote_attempt(
    job: &Job,
    node: &NodeName,
    host: &str,
    rule: &str,
    tls: &str,
    dialogue: &str,
    settled: &Settled,
) -> String {
    let mut text = format!(
        "{} attempt by {node} at {host} ({rule}), {tls}\n",
        env::time(clock::now())
    );
    for line in dialogue.lines() {
        let _ = writeln!(text, "  {line}");
    }
    outcomes(&mut text, job, settled);
    text
}

/// The lines of outcomes without a host.
pub fn outcomes(text: &mut String, job: &Job, settled: &Settled) {
    let state = lock(&job.state);
    for (index, outcome) in &settled.outcomes {
        let Some(entry) = state.record.recipients.get(*index) else {
            continue;
        };
        let verdict = match outcome.verdict {
            Verdict::Delivered => "delivered",
            Verdict::Deferred => "deferred",
            Verdict::Failed => "failed",
        };
        let _ = writeln!(
            text,
            "  <{}> {verdict} {} {}",
            entry.recipient.address, outcome.status, outcome.text
        );
    }
}
