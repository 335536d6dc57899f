//! `mailroot check FILE…`: what Pickup would make of a message file, line by line. Sends nothing, changes nothing.

use crate::cli::{Exit, Page, Parts, Read};
use crate::config::{Config, Loaded, units};
use crate::mail::{Address, Envelope, Recipient};
use crate::mailroot::shown;
use crate::pickup::{Completeness, Malformed, Origin, Submission, submission::Encoding};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What would become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Taken,
    /// Left alone, or in Badmail.
    NotTaken,
    /// Cannot be read at all.
    Unreadable,
}

pub(super) fn files(
    files: &[PathBuf],
    loaded: &Loaded,
    parts: &dyn Parts,
    out: &mut Page<'_>,
    err: &mut Page<'_>,
) -> Exit {
    match &loaded.file {
        Some(file) => out.line(&format!("with the settings of {}", file.display())),
        None => out.line("with default settings"),
    }
    let route = parts.router(&loaded.config);
    let mut worst = Fate::Taken;
    for file in files {
        out.line("");
        let fate = match one(file, &loaded.config, parts, &*route, out) {
            Ok(fate) => fate,
            Err(error) => {
                err.line(&format!("mailroot: cannot read {}: {error}", name_of(file)));
                Fate::Unreadable
            }
        };
        worst = worst.max(fate);
    }
    match worst {
        Fate::Taken => Exit::Ok,
        Fate::NotTaken => Exit::BadData,
        Fate::Unreadable => Exit::NoInput,
    }
}

fn one(
    file: &Path,
    config: &Config,
    parts: &dyn Parts,
    route: &dyn Fn(&Address) -> String,
    out: &mut Page<'_>,
) -> io::Result<Fate> {
    let name = name_of(file);
    let link = file.symlink_metadata()?;
    let meta = file.metadata()?;
    // Opening anything else could wait for ever, or do something.
    if !meta.is_file() {
        out.line(&format!("{name}: would be left alone: it is not a regular file"));
        return Ok(Fate::NotTaken);
    }
    let left_alone = reason_to_leave(file, &link, config, parts);
    if meta.len() == 0 {
        out.line(&format!("{name}: would be left alone: it is empty"));
        return Ok(Fate::NotTaken);
    }
    let read = parts.read(File::open(file)?, config)?;
    let fate = match (&left_alone, &read) {
        (Some(why), _) => {
            out.line(&format!("{name}: would be left alone: {why}"));
            Fate::NotTaken
        }
        (None, read) => verdict(&name, &meta, read, config, out),
    };
    match &read.submission {
        Ok(submission) => print(submission, config, route, out),
        Err(malformed) => print_malformed(malformed, out),
    }
    Ok(fate)
}

/// What keeps Pickup from looking into a file at all.
fn reason_to_leave(file: &Path, link: &Metadata, config: &Config, parts: &dyn Parts) -> Option<String> {
    if link.is_symlink() {
        return Some("in Pickup, symbolic links are not followed; move or copy the file itself".into());
    }
    if link.nlink() > 1 {
        return Some(format!(
            "it has {} names (hard links); it waits until it has one",
            link.nlink()
        ));
    }
    let is_ignored = parts.is_ignored(file.file_name()?, config);
    is_ignored.then(|| "its name says that it is not finished (pickup.ignore); rename it".into())
}

/// The headline.
fn verdict(name: &str, meta: &Metadata, read: &Read, config: &Config, out: &mut Page<'_>) -> Fate {
    let size = units::show_size(meta.len());
    let (line, fate) = match (read.completeness, &read.submission) {
        (Completeness::Empty, _) => ("would be left alone: nothing is in it".to_owned(), Fate::NotTaken),
        (Completeness::InsideHeader, _) => (
            "would wait: it ends inside its header; a blank line must follow the last header field"
                .to_owned(),
            Fate::NotTaken,
        ),
        (
            Completeness::NoClosingBoundary,
            Ok(_)
            | Err(Malformed {
                rule: "incomplete", ..
            }),
        ) => (
            format!(
                "would wait {}, then go to Badmail: it ends before the closing boundary of its multipart body",
                units::show_duration(config.pickup.incomplete_grace)
            ),
            Fate::NotTaken,
        ),
        (_, Err(malformed)) => (format!("would go to Badmail: {}", malformed.what), Fate::NotTaken),
        (_, Ok(_)) => ("would be taken".to_owned(), Fate::Taken),
    };
    out.line(&format!("{name} ({size}): {line}"));
    fate
}

fn print(submission: &Submission, config: &Config, route: &dyn Fn(&Address) -> String, out: &mut Page<'_>) {
    let Submission { envelope, layout, .. } = submission;
    let sender = envelope
        .sender
        .as_ref()
        .map_or("<> (nobody is told when delivery fails)", Address::as_str);
    row(
        out,
        "sender",
        &format!(
            "{sender}{}{}",
            sender_words(envelope),
            origin(&submission.sender_origin)
        ),
    );
    let mut origins = submission.recipient_origins.iter();
    for recipient in &envelope.recipients {
        let from = origins.next().map(origin).unwrap_or_default();
        let way = if recipient.address.is_routable() {
            route(&recipient.address)
        } else {
            "fails at once: that is not an address (5.1.3)".to_owned()
        };
        row(
            out,
            "recipient",
            &format!(
                "{}{}{from} => {way}",
                recipient.address,
                recipient_words(recipient)
            ),
        );
    }
    let said = if layout.dots_said { " (said by x-dots)" } else { "" };
    row(out, "dots", &format!("{}{said}", layout.dots.as_str()));
    row(
        out,
        "size",
        &format!(
            "{} on the wire, before stamps",
            units::show_size(layout.wire_size)
        ),
    );
    if let Some(encoding) = encoding(layout.encoding) {
        row(out, "encoding", encoding);
    }
    let missing = layout.missing;
    let added = [
        (missing.date, "Date"),
        (missing.message_id, "Message-ID"),
        (missing.from, "From"),
    ];
    let added: Vec<&str> = added
        .iter()
        .filter(|(yes, _)| *yes)
        .map(|(_, name)| *name)
        .collect();
    if !added.is_empty() {
        row(out, "adds", &format!("{} (the file has none)", added.join(", ")));
    }
    if submission.hops > config.messages.max_hops {
        let what = format!(
            "{} Received lines, more than messages.max_hops ({}): returned as looping",
            submission.hops, config.messages.max_hops
        );
        row(out, "problem", &what);
    }
    for remark in &submission.remarks {
        row(out, "note", remark);
    }
}

fn print_malformed(malformed: &Malformed, out: &mut Page<'_>) {
    row(out, "rule", malformed.rule);
    if let Some(line) = malformed.line {
        let text = malformed
            .text
            .as_ref()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        row(out, "line", &format!("{line}{text}"));
    } else if let Some(text) = &malformed.text {
        row(out, "text", text);
    }
    row(out, "change", &malformed.advice);
}

fn row(out: &mut Page<'_>, word: &str, what: &str) {
    out.line(&format!("  {word:<10} {what}"));
}

fn origin(origin: &Origin) -> String {
    match origin.line {
        0 => format!("  (from the setting {})", origin.field),
        line => format!("  (from {}, line {line})", origin.field),
    }
}

fn sender_words(envelope: &Envelope) -> String {
    let mut words = String::new();
    if let Some(ret) = envelope.ret {
        words.push_str(&format!(" RET={}", ret.as_str()));
    }
    if let Some(envid) = &envelope.envid {
        words.push_str(&format!(" ENVID={envid}"));
    }
    words
}

fn recipient_words(recipient: &Recipient) -> String {
    let mut words = String::new();
    if let Some(notify) = recipient.notify {
        words.push_str(&format!(" NOTIFY={notify}"));
    }
    if let Some(orcpt) = &recipient.orcpt {
        words.push_str(&format!(" ORCPT={orcpt}"));
    }
    words
}

fn encoding(encoding: Encoding) -> Option<&'static str> {
    match encoding {
        Encoding::Plain => None,
        Encoding::Utf8Bom => Some("UTF-8 with a byte order mark, which is removed"),
        Encoding::Utf16Le | Encoding::Utf16Be => Some("UTF-16, which is sent as UTF-8"),
    }
}

fn name_of(file: &Path) -> String {
    shown(file.as_os_str())
}

#[cfg(test)]
mod tests;
