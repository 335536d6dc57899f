//! The part for people: what happened, to whom, what the mail server said, what to do.
//!
//! The first sentence and the class sentences are those of the IIS SMTP service: bounce readers look for them, and
//! for recipients on lines of their own, seven columns in. Everything else is ours.

use super::returned::{self, Shown};
use super::{About, Kind};
use crate::mail::{EnhancedStatus, Outcome, advice, plain, plain::Page};
use std::collections::HashMap;

/// Recipients that are named here; the part for programs names all.
const MAX_NAMED: usize = 100;
/// Lines of the transcript that are shown, from its end.
const MAX_TRANSCRIPT_LINES: usize = 40;
/// Characters of a subject, a file name, a reply, a line of the transcript.
const MAX_TEXT: usize = 400;
/// The indentation that bounce readers know.
const RECIPIENT: &str = "       ";

/// All of it, with CRLF.
pub fn text(kind: Kind, about: &About<'_>, shown: Shown) -> String {
    let mut page = Page::new();
    page.line("This is an automatically generated Delivery Status Notification.");
    page.blank();
    what_happened(&mut page, kind, about);
    for group in groups(about) {
        group.write(&mut page, kind);
    }
    if let Some(more) = about.recipients.len().checked_sub(MAX_NAMED).filter(|n| *n > 0) {
        page.para("", &format!(
            "… and {more} more recipients. The second part of this report, for programs, names all of them."
        ));
        page.blank();
    }
    which_message(&mut page, about);
    if let Some(until) = about.will_retry_until.filter(|_| kind == Kind::Delay) {
        page.para(
            "",
            &format!(
                "It will be tried again until {}. If that fails, you will be told.",
                plain::date(until)
            ),
        );
        page.blank();
    }
    transcript(&mut page, about.transcript);
    what_comes_back(&mut page, shown);
    page.para(
        "",
        &format!(
            "Reported by {}. Questions go to {}.",
            about.hostname, about.postmaster
        ),
    );
    page.into_string()
}

fn what_happened(page: &mut Page, kind: Kind, about: &About<'_>) {
    match kind {
        Kind::Failure => page.line(failure_sentence(about)),
        Kind::Delay => {
            page.line("THIS IS A WARNING MESSAGE ONLY.");
            page.blank();
            page.line("YOU DO NOT NEED TO RESEND YOUR MESSAGE.");
            page.blank();
            page.line("Delivery to the following recipients has been delayed.");
        }
        Kind::Success => page.line("Your message was delivered to the following recipients."),
        Kind::Relay => {
            page.line("Your message was handed on for the following recipients.");
            page.blank();
            page.para(
                "",
                "The mail server that took it makes no reports of delivery, so this is the last you hear of it unless \
                 something goes wrong there.",
            );
        }
    }
    page.blank();
}

/// One of four sentences: loop, expired, nobody reached, or refused.
fn failure_sentence(about: &About<'_>) -> &'static str {
    let all = |test: fn(&Outcome) -> bool| about.recipients.iter().all(|(_, outcome)| test(outcome));
    if all(|o| o.status.subject == 4 && matches!(o.status.detail, 6 | 8)) {
        "Unable to deliver message to the following recipients, because the message was forwarded more than the \
         maximum allowed times. This could indicate a mail loop."
    } else if all(|o| o.status == EnhancedStatus::new(4, 4, 7)) {
        "Unable to deliver message to the following recipients before its time was over."
    } else if all(|o| o.status.subject == 4 && !o.remote) {
        "Unable to deliver message to the following recipients, due to being unable to connect successfully to the \
         destination mail server."
    } else {
        "Delivery to the following recipients failed."
    }
}

/// Recipients with the same outcome.
struct Group<'a> {
    outcome: &'a Outcome,
    addresses: Vec<&'a str>,
}

/// The first recipients, gathered by what became of them, in the order in which they come.
fn groups<'a>(about: &About<'a>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known = HashMap::new();
    for (recipient, outcome) in about.recipients.iter().take(MAX_NAMED) {
        let key = (outcome.status, outcome.text.as_str(), outcome.host.as_deref());
        let at = *known.entry(key).or_insert(groups.len());
        let address = recipient.address.as_str();
        match groups.get_mut(at) {
            Some(group) => group.addresses.push(address),
            None => groups.push(Group {
                outcome,
                addresses: vec![address],
            }),
        }
    }
    groups
}

impl Group<'_> {
    fn write(&self, page: &mut Page, kind: Kind) {
        for address in &self.addresses {
            page.line(&format!("{RECIPIENT}{address}"));
        }
        page.blank();
        self.said(page);
        if matches!(kind, Kind::Failure | Kind::Delay) {
            let advice = advice::of(self.outcome);
            page.para(
                "  ",
                &format!("What it means ({}): {}", self.outcome.status, advice.means),
            );
            if kind == Kind::Failure {
                page.para("  ", &format!("What to do: {}", advice.remedy));
            }
        }
        page.blank();
    }

    fn said(&self, page: &mut Page) {
        let text = plain::cut(&self.outcome.text, MAX_TEXT);
        match (&self.outcome.host, self.outcome.remote) {
            (Some(host), true) => {
                page.para("  ", &format!("The mail server {host} said:"));
                page.para("      ", &text);
            }
            (Some(host), false) => page.para("  ", &format!("What happened: {text} (last tried: {host})")),
            (None, _) if text.is_empty() => {}
            (None, _) => page.para("  ", &format!("What happened: {text}")),
        }
    }
}

fn which_message(page: &mut Page, about: &About<'_>) {
    page.line("The message:");
    page.blank();
    let mut item = |label: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            page.item(&format!("  {label}"), &plain::cut(value, MAX_TEXT));
        }
    };
    item("Subject:", about.subject.as_deref());
    item("Date:", returned::field(about.original_header, "date").as_deref());
    item("File:", Some(about.pickup_file));
    item(
        "Message-ID:",
        returned::message_id(about.original_header)
            .map(|id| format!("<{id}>"))
            .as_deref(),
    );
    item("Taken:", Some(&plain::date(about.arrived)));
    item(
        "ID:",
        Some(&format!(
            "{} (its name in the log of {})",
            about.parent_id, about.hostname
        )),
    );
    page.blank();
}

/// The end of the transcript: that is where the reason stands.
fn transcript(page: &mut Page, transcript: &str) {
    let transcript = transcript.trim_end();
    if transcript.is_empty() {
        return;
    }
    let mut lines: Vec<&str> = transcript.rsplit('\n').take(MAX_TRANSCRIPT_LINES + 1).collect();
    let more = lines.len() > MAX_TRANSCRIPT_LINES;
    lines.truncate(MAX_TRANSCRIPT_LINES);
    page.line(if more {
        "What was tried (the end of it):"
    } else {
        "What was tried:"
    });
    page.blank();
    for line in lines.iter().rev() {
        page.block("  ", &plain::cut(line, MAX_TEXT));
    }
    page.blank();
}

fn what_comes_back(page: &mut Page, shown: Shown) {
    page.para("", match shown {
        Shown::Whole => "Your message is attached as it was sent.",
        Shown::HeadersAsAsked => "The header fields of your message are attached.",
        Shown::HeadersOnly => {
            "The header fields of your message are attached; the whole message is too large, or its lines are too long, \
             to be returned."
        }
    });
    page.blank();
}
