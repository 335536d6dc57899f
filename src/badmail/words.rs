//! The two texts: `.BDR` for people, `.BDP` for programs.

use super::{Case, Reason, advice};
use crate::mail::{Outcome, plain, plain::Page};
use std::fmt::Write as _;

/// Recipients that the `.BDR` names; the `.BDP` names all.
const MAX_NAMED: usize = 100;

/// The reason, for people. The first line begins as that of IIS did, so that whoever greps for it finds it.
pub fn bdr(case: &Case<'_>) -> Vec<u8> {
    let mut page = Page::new();
    let what = advice::sentence(case);
    page.line(&format!(
        "Unable to deliver this message because the following error was encountered: \"{what}.\""
    ));
    page.blank();
    facts(&mut page, case);
    recipients(&mut page, case);
    page.line("What to change");
    page.blank();
    for remedy in advice::remedies(case) {
        page.para("    ", &remedy);
        page.blank();
    }
    how_to_send_again(&mut page, case);
    transcript(&mut page, "What happened here", case.id, "LTR", case.ltr);
    transcript(&mut page, "What the mail servers said", case.id, "RTR", case.rtr);
    page.into_string().into_bytes()
}

fn facts(page: &mut Page, case: &Case<'_>) {
    page.item("File:", case.pickup_file);
    if let Reason::Malformed(malformed) = case.reason {
        if let Some(line) = malformed.line {
            page.item("Line:", &line.to_string());
        }
        if let Some(text) = &malformed.text {
            page.item("Text:", text);
        }
    }
    page.item("Rule:", case.reason.rule());
    page.item("ID:", &case.id.to_string());
    if let Some(id) = case.message_id {
        page.item("Message-ID:", &format!("<{id}>"));
    }
    page.item("Taken:", &plain::date(case.arrived));
    page.item("Given up:", &plain::date(case.now));
    page.item("Attempts:", &case.attempts.to_string());
    page.item(
        "Sender:",
        &match case.sender {
            None => "<> (the null sender)".to_owned(),
            Some("") => "not known".to_owned(),
            Some(address) => format!("<{address}>"),
        },
    );
    page.blank();
}

fn recipients(page: &mut Page, case: &Case<'_>) {
    if case.recipients.is_empty() {
        page.line("Recipients who did not get it: none could be read from the file");
        page.blank();
        return;
    }
    page.line("Recipients who did not get it:");
    page.blank();
    let mut before: Option<&Outcome> = None;
    for (address, outcome) in case.recipients.iter().take(MAX_NAMED) {
        // many recipients with one reply: the reply once, below the last of them
        if before.is_some() && before != *outcome {
            said(page, before);
        }
        page.line(&format!("    {address}"));
        before = *outcome;
    }
    said(page, before);
    if let Some(more) = case.recipients.len().checked_sub(MAX_NAMED).filter(|n| *n > 0) {
        page.line(&format!(
            "    … and {more} more; {}.BDP names all of them",
            case.id.ulid
        ));
    }
    page.blank();
}

fn said(page: &mut Page, outcome: Option<&Outcome>) {
    let Some(outcome) = outcome else { return };
    let status = outcome.status;
    let text = match (&outcome.host, outcome.remote) {
        (Some(host), true) => format!("{host} said: {} (status {status})", outcome.text),
        (Some(host), false) => format!("{} (status {status}; last tried: {host})", outcome.text),
        (None, _) => format!("{} (status {status})", outcome.text),
    };
    page.para("        ", &text);
}

fn how_to_send_again(page: &mut Page, case: &Case<'_>) {
    page.line("How to send it again");
    page.blank();
    let id = case.id.ulid; // the three files bear no life
    match case.reason {
        Reason::Malformed(_) => {
            page.para(
                "    ",
                &format!(
                    "{id}.BAD is your file, byte for byte. Correct it with a text editor, then move it back:"
                ),
            );
        }
        _ => page.para("    ", &format!("When that is done, move {id}.BAD back:")),
    }
    page.blank();
    page.line(&format!("        mv Badmail/{id}.BAD Pickup/"));
    page.blank();
    page.para("    ", match case.reason {
        Reason::Malformed(_) => {
            "It goes to the recipients on its x-receiver lines, or, when it has none, to those of To, Cc and Bcc."
        }
        Reason::EnvDamaged { .. } | Reason::TwiceCrashed { .. } => {
            "It goes to the recipients on the x-receiver lines on top of it, also to those that may have got it already."
        }
        _ => {
            "It goes to exactly the recipients on the x-receiver lines on top of it, which are those above: nobody who has \
             got it gets it twice."
        }
    });
    page.blank();
}

fn transcript(page: &mut Page, title: &str, id: crate::mail::MessageId, extension: &str, text: &str) {
    page.line(&format!("{title} ({id}.{extension})"));
    page.blank();
    if text.trim().is_empty() {
        page.line("    nothing was written");
    } else {
        for line in text.lines() {
            page.line(&format!("    {line}"));
        }
    }
    page.blank();
}

/// The properties, for programs. Keys: see the head of [`super`].
pub fn bdp(case: &Case<'_>) -> Vec<u8> {
    let mut out = Pairs(String::with_capacity(512 + 64 * case.recipients.len()));
    out.pair("version", "1");
    out.pair("id", &case.id.to_string());
    out.pair("rule", case.reason.rule());
    if let Some(code) = case.reason.iis_code() {
        out.pair("iis-code", code);
    }
    out.pair("what", &advice::sentence(case));
    out.pair("file", case.pickup_file);
    if let Reason::Malformed(malformed) = case.reason {
        if let Some(line) = malformed.line {
            out.pair("line", &line.to_string());
        }
        if let Some(text) = &malformed.text {
            out.pair("text", text);
        }
    }
    if let Some(id) = case.message_id {
        out.pair("message-id", id);
    }
    out.pair("arrived", &case.arrived.to_string());
    out.pair("given-up", &case.now.to_string());
    out.pair("attempts", &case.attempts.to_string());
    out.pair("sender", case.sender.unwrap_or("<>"));
    out.pair("recipients", &case.recipients.len().to_string());
    for (address, outcome) in &case.recipients {
        out.pair("recipient", address);
        if let Some(outcome) = outcome {
            out.pair("status", &outcome.status.to_string());
            if let Some(host) = &outcome.host {
                out.pair("host", host);
            }
            out.pair("reply", &outcome.text);
        }
    }
    out.0.into_bytes()
}

struct Pairs(String);

impl Pairs {
    fn pair(&mut self, key: &str, value: &str) {
        self.0.push_str(key);
        self.0.push_str(": ");
        for c in value.chars() {
            if c == '\\' {
                self.0.push_str("\\\\");
            } else if c.is_control() {
                // writing to a String cannot fail
                let _ = write!(self.0, "{}", c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        self.0.push_str("\r\n");
    }
}
