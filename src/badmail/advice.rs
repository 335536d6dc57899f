//! What went wrong and what to change, in words, for each [`Reason`].

use super::{Case, Reason};
use crate::mail::{EnhancedStatus, Outcome, advice, plain};

/// Statuses that are explained; more than a few differ only when somebody else is to blame.
const MAX_ADVICE: usize = 5;

/// One sentence without its full stop.
pub fn sentence(case: &Case<'_>) -> String {
    let nobody = || nobody_to_tell(case);
    match case.reason {
        Reason::Malformed(malformed) => malformed.what.trim_end_matches('.').to_owned(),
        Reason::NullSender => format!(
            "{}, and nobody can be told, because its sender is the null sender <>",
            fate(case)
        ),
        Reason::ReportRefused => {
            format!(
                "{}, and its sender asked not to be told (NOTIFY=NEVER)",
                fate(case)
            )
        }
        Reason::DsnUndeliverable => {
            format!(
                "This is a report of ours on another message; {}",
                lower_first(&fate(case))
            )
        }
        Reason::Expired { after } => format!(
            "The message could not be delivered within {}, and {}",
            plain::span(after),
            nobody()
        ),
        Reason::HopCount { hops, limit } => format!(
            "The message has passed {hops} mail servers, more than the {limit} that are allowed, and {}",
            nobody()
        ),
        Reason::EnvDamaged { why } => format!(
            "The file {}.ENV, which says who has got this message, cannot be read: {}",
            case.id,
            why.trim_end_matches('.')
        ),
        Reason::TwiceCrashed { why: "" } => "Handling this message broke the program twice".to_owned(),
        Reason::TwiceCrashed { why } => {
            format!(
                "Handling this message broke the program twice: {}",
                why.trim_end_matches('.')
            )
        }
    }
}

/// Paragraphs: what to change before it is sent again.
pub fn remedies(case: &Case<'_>) -> Vec<String> {
    match case.reason {
        Reason::Malformed(malformed) => vec![malformed.advice.clone()],
        Reason::NullSender => {
            let mut all = for_outcomes(case);
            all.push(
                "To be told next time, give the message a sender: an x-sender line on top of the file, or a From field."
                    .to_owned(),
            );
            all
        }
        Reason::ReportRefused => {
            let mut all = for_outcomes(case);
            all.push("To be told next time, take NOTIFY=NEVER off the x-receiver lines.".to_owned());
            all
        }
        Reason::DsnUndeliverable => {
            let mut all = vec![
                "The report stands in the .BAD file and names the message that failed first. Make sure that the sender \
                 address that your program writes can receive mail."
                    .to_owned(),
            ];
            all.extend(for_outcomes(case));
            all
        }
        Reason::Expired { .. } => {
            let mut all = for_outcomes(case);
            all.push(
                "If the time was too short, raise expire in mailroot.toml (under delivery, or under drop for local \
                 recipients)."
                    .to_owned(),
            );
            all
        }
        Reason::HopCount { .. } => vec![
            "The Received fields on top of the .BAD file show the way that it took, the last step first: look for two \
             hosts that send to each other, and correct the forwarding there. If the way is right as it is, raise \
             messages.max_hops in mailroot.toml."
                .to_owned(),
        ],
        Reason::EnvDamaged { .. } => vec![
            "Somebody else has changed that file, or the disk has. Nobody can say which recipients have got the message, \
             so it was not sent again. The recipients below are those of the message file: take those that have it \
             off the x-receiver lines of the .BAD file (the log names each recipient that was served)."
                .to_owned(),
        ],
        Reason::TwiceCrashed { .. } => vec![
            "This is a fault of mailroot, not of yours. Please report it with these three files. The message may have \
             reached some recipients: read the transcripts below before you send it again."
                .to_owned(),
        ],
    }
}

/// What became of the message, from what became of its recipients.
fn fate(case: &Case<'_>) -> String {
    let outcomes = || case.recipients.iter().filter_map(|(_, outcome)| *outcome);
    let Some(first) = outcomes().next() else {
        return "The message could not be delivered".to_owned();
    };
    let all = |test: fn(&Outcome) -> bool| outcomes().all(test);
    if all(|o| o.status.subject == 4 && o.status.detail == 7) {
        "The message could not be delivered before its time was over".to_owned()
    } else if all(|o| o.status.subject == 4 && matches!(o.status.detail, 6 | 8)) {
        "The message went round in a circle between mail servers".to_owned()
    } else if !all(|o| o.remote) {
        "The message could not be delivered".to_owned()
    } else {
        let host = first.host.as_deref().unwrap_or("the mail server");
        if all_same_host(case) {
            format!("The mail server {host} refused the message")
        } else {
            "The mail servers of its recipients refused the message".to_owned()
        }
    }
}

fn all_same_host(case: &Case<'_>) -> bool {
    let mut hosts = case
        .recipients
        .iter()
        .filter_map(|(_, o)| o.as_ref())
        .map(|o| o.host.as_deref());
    let first = hosts.next();
    hosts.all(|host| Some(host) == first)
}

fn nobody_to_tell(case: &Case<'_>) -> &'static str {
    match case.sender {
        None => "nobody can be told, because its sender is the null sender <>",
        Some("") => "nobody can be told, because its sender is not known",
        Some(_) => "its sender asked not to be told (NOTIFY=NEVER)",
    }
}

/// The advice for each status that occurs, in the order in which they come; at most five.
fn for_outcomes(case: &Case<'_>) -> Vec<String> {
    let mut seen: Vec<EnhancedStatus> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for outcome in case.recipients.iter().filter_map(|(_, outcome)| *outcome) {
        if seen.len() == MAX_ADVICE {
            break;
        }
        if !seen.contains(&outcome.status) {
            seen.push(outcome.status);
            let advice = advice::of(outcome);
            all.push(format!("{}: {} {}", outcome.status, advice.means, advice.remedy));
        }
    }
    all
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}
