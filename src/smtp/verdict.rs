//! What a reply, or the lack of one, means for a recipient (RFC 5321 §4.2.1, RFC 3463).
//!
//! Pure: reply → [`Outcome`].

use super::reply::Reply;
use super::wire::Broken;
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// What the reply answers. It chooses the subject of a status that the host left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection, EHLO, HELO: about the host's system, x.3.0.
    Opening,
    /// MAIL: about the sender's address, x.1.0.
    Mail,
    /// RCPT: about the recipient's address, x.1.0.
    Recipient,
    /// DATA, BDAT, the end of the message: no more is known, x.0.0.
    Content,
}

/// The outcome that follows from a reply. Only what answers the content can deliver.
pub(super) fn judge(stage: Stage, reply: &Reply, host: &str) -> Outcome {
    let verdict = match reply.class() {
        2 if stage == Stage::Content => Verdict::Delivered,
        5 if !is_about_us(stage, reply) => Verdict::Failed,
        _ => Verdict::Deferred,
    };
    Outcome::reply(verdict, status(stage, reply, verdict), reply.one_line(), host)
}

/// A 5xx that blames the session or our settings and not the message: it must not return anybody's mail.
///
/// 530, 534, 535, 538 want authentication or encryption (RFC 4954, RFC 3207); 503 says that the commands came in a
/// wrong order; nothing said while the connection is opened is about a message.
fn is_about_us(stage: Stage, reply: &Reply) -> bool {
    stage == Stage::Opening || matches!(reply.code, 503 | 530 | 534 | 535 | 538) || is_too_many(reply)
}

/// `452 4.5.3`, or what hosts say in its place, to one recipient more than they take in one transaction.
///
/// 452 without a status counts; with another one (4.2.2 mailbox full, 4.3.1 disk full) it is what that says. 552 is
/// how RFC 821 had it (RFC 5321 §4.5.3.1.10); it must carry x.5.3, for it is also the code of a full mailbox.
pub(super) fn is_too_many(reply: &Reply) -> bool {
    match reply.enhanced() {
        Some(status) => (status.subject, status.detail) == (5, 3) && reply.code != 421 && reply.class() >= 4,
        None => reply.code == 452,
    }
}

fn status(stage: Stage, reply: &Reply, verdict: Verdict) -> EnhancedStatus {
    let class = match verdict {
        Verdict::Delivered => 2,
        Verdict::Deferred => 4,
        Verdict::Failed => 5,
    };
    if let Some(said) = reply.enhanced() {
        return EnhancedStatus::new(class, said.subject, said.detail);
    }
    let (subject, detail) = match (reply.code, stage) {
        (200..400, Stage::Content) if verdict == Verdict::Delivered => (0, 0),
        // A reply that answers something else than was asked.
        (200..400, _) => (5, 0),
        (421, _) => (3, 2),
        (530 | 534 | 535 | 538, _) => (7, 0),
        (503, _) => (5, 1),
        (_, Stage::Opening) => (3, 0),
        (_, Stage::Mail | Stage::Recipient) => (1, 0),
        (_, Stage::Content) => (0, 0),
    };
    EnhancedStatus::new(class, subject, detail)
}

/// The outcome when the conversation broke while `waiting_for` (`the reply to MAIL`) was due.
pub(super) fn judge_broken(broken: &Broken, waiting_for: &str, host: &str) -> Outcome {
    let status = match broken {
        Broken::Nonsense { .. } => EnhancedStatus::new(4, 5, 0),
        Broken::Closed | Broken::TimedOut(_) | Broken::Error(_) => EnhancedStatus::new(4, 4, 2),
    };
    Outcome::deferred(status, format!("{} while {waiting_for} was due", broken.words())).at(host)
}

#[cfg(test)]
mod tests {
    use super::super::reply::Decoder;
    use super::*;

    fn reply(text: &str) -> Reply {
        let mut decoder = Decoder::default();
        let line = format!("{text}\r\n");
        decoder.feed(line.as_bytes()).unwrap().1.unwrap()
    }

    #[test]
    fn verdict_and_status_of_each_kind_of_reply() {
        use Stage::*;
        for (stage, text, verdict, status) in [
            (Content, "250 2.0.0 queued", Verdict::Delivered, "2.0.0"),
            (Content, "250 queued", Verdict::Delivered, "2.0.0"),
            (Content, "554 no", Verdict::Failed, "5.0.0"),
            (Content, "354 go on", Verdict::Deferred, "4.5.0"),
            (Recipient, "550 5.7.606 no", Verdict::Failed, "5.7.606"),
            (Recipient, "550 no", Verdict::Failed, "5.1.0"),
            (Recipient, "450 later", Verdict::Deferred, "4.1.0"),
            (Recipient, "421 bye", Verdict::Deferred, "4.3.2"),
            (Recipient, "552 5.5.3 too many", Verdict::Deferred, "4.5.3"),
            (Recipient, "552 5.2.2 full", Verdict::Failed, "5.2.2"),
            (Mail, "530 5.7.0 STARTTLS first", Verdict::Deferred, "4.7.0"),
            (Mail, "530 log in", Verdict::Deferred, "4.7.0"),
            (Mail, "503 wrong order", Verdict::Deferred, "4.5.1"),
            (Mail, "354 what", Verdict::Deferred, "4.5.0"),
            (Opening, "554 5.7.1 go away", Verdict::Deferred, "4.7.1"),
            (Opening, "554 go away", Verdict::Deferred, "4.3.0"),
        ] {
            let outcome = judge(stage, &reply(text), "host");
            assert_eq!(
                (outcome.verdict, outcome.status.to_string().as_str()),
                (verdict, status),
                "{text}"
            );
            assert!(outcome.remote && outcome.text == text);
        }
    }

    #[test]
    fn too_many_recipients_is_told_from_full_disks_and_mailboxes() {
        for yes in ["452 too many", "452 4.5.3 x", "451 4.5.3 x", "552 5.5.3 x"] {
            assert!(is_too_many(&reply(yes)), "{yes}");
        }
        for no in [
            "452 4.2.2 x",
            "452 4.3.1 x",
            "552 x",
            "421 4.5.3 x",
            "250 2.5.3 x",
        ] {
            assert!(!is_too_many(&reply(no)), "{no}");
        }
    }
}
