//! Telling it: what was put in, and what became of each file, the ways of mail one after the other.

use super::facts::{Facts, Fate, name};
use super::ground::{Ground, quoted};
use super::samples::Sample;
use crate::cli::Page;
use crate::practice::Accepted;
use crate::queue::env;
use crate::queue::record::State;
use std::path::Path;
use std::time::Duration;

/// What every terminal shows without folding.
pub const WIDTH: usize = 100;

/// What is happening here, and what was put in.
pub fn opening(out: &mut Page<'_>, ground: &Ground, samples: &[Sample], took: Duration) {
    let (files, port, seconds) = (samples.len(), ground.internet.port(), took.as_secs_f32());
    out.text(&format!(
        "mailroot demo: the real service on a new mailroot, {}\n\
         {files} files, {seconds:.1} seconds. An SMTP host on 127.0.0.1:{port} played the internet; no other was asked.\n\
         \n\
         WHAT WAS PUT INTO Pickup/  (write a file: nothing else is asked of an application)\n",
        ground.dir.display()
    ));
    for sample in samples {
        out.line(&format!("  {:<42}  {}", sample.name, sample.what));
    }
}

/// One group for each way that mail can go.
pub fn fates(out: &mut Page<'_>, facts: &Facts<'_>) {
    out.text("\nWHAT BECAME OF EACH FILE");
    let mut group = |title: &str, is_in: fn(&Fate<'_>) -> bool, tell: fn(&mut Page<'_>, &Fate<'_>)| {
        let members: Vec<_> = facts.fates.iter().filter(|fate| is_in(fate)).collect();
        if !members.is_empty() {
            out.line("");
            out.line(title);
        }
        for fate in members {
            tell(out, fate);
        }
    };
    group(
        "Sent by SMTP. This is what the host received:",
        |fate| !fate.accepted.is_empty(),
        sent,
    );
    group(
        "Put into Drop/, because the domain is ours:",
        |fate| !fate.dropped.is_empty(),
        dropped,
    );
    group(
        "Refused, and returned to the sender:",
        |fate| !fate.reports.is_empty(),
        returned,
    );
    group(
        "Not now; waits in Queue/ until it is due:",
        |fate| fate.queued.is_some(),
        waiting,
    );
    group(
        "Could not be understood; kept in Badmail/ with the reason:",
        |fate| fate.badmail.is_some(),
        badmail,
    );
}

/// What is not as it should be; nothing when all is.
pub fn differences(out: &mut Page<'_>, wrong: &[String], dir: &Path) {
    if wrong.is_empty() {
        return;
    }
    out.text("\nNOT AS IT SHOULD BE");
    for what in wrong {
        out.line(&format!("  {what}"));
    }
    out.line(&format!("  The log in {} tells more.", quoted(&dir.join("Logs"))));
}

fn sent(out: &mut Page<'_>, fate: &Fate<'_>) {
    out.line(&format!("  {}", fate.sample.name));
    let mut tell = |word: &str, what: &str| out.line(&clipped(&format!("      {word:<9} {what}")));
    for event in &fate.deferred {
        tell(
            "at first",
            &format!("<{}> {}", event.get("to"), event.get("reply")),
        );
    }
    for message in &fate.accepted {
        let to: Vec<_> = message
            .recipients
            .iter()
            .map(|to| format!("<{}>", to.address))
            .collect();
        tell("envelope", &format!("<{}> to {}", message.sender, to.join(" ")));
        tell("text", first_line(&body(&message.content)));
        remarks(fate, message)
            .iter()
            .for_each(|remark| tell("note", remark));
    }
}

/// What a reader of the envelope and of the text would wonder about.
fn remarks(fate: &Fate<'_>, message: &Accepted) -> Vec<String> {
    let mut remarks = Vec::new();
    let text = String::from_utf8_lossy(&message.content);
    let header = text.split("\r\n\r\n").next().unwrap_or("");
    for to in message
        .recipients
        .iter()
        .filter(|to| !header.contains(&to.address))
    {
        remarks.push(format!(
            "{} is a Bcc: in the envelope, not in the message",
            to.address
        ));
    }
    let ends_with_it = text.ends_with("\r\n.\r\n");
    if fate.dots().contains("end marker") && !ends_with_it {
        remarks.push("the lone \".\" was an end marker, it is not part of the message".to_owned());
    }
    let dotted = body(&message.content)
        .lines()
        .find(|line| line.starts_with('.'))
        .map(str::to_owned);
    if let Some(line) = dotted {
        remarks.push(format!(
            "the line \"{line}\" arrived with its period (judged: {})",
            fate.dots()
        ));
    }
    remarks
}

fn dropped(out: &mut Page<'_>, fate: &Fate<'_>) {
    for path in &fate.dropped {
        arrow(out, fate, path);
        let text = read(path);
        let leading = text.lines().take_while(|line| line.starts_with("x-"));
        leading.for_each(|line| show(out, line));
        show(out, &format!("... {}", first_line(&body(text.as_bytes()))));
    }
}

fn returned(out: &mut Page<'_>, fate: &Fate<'_>) {
    for path in &fate.reports {
        arrow(out, fate, path);
        let text = read(path);
        let mut parts = text.split("\r\n\r\n");
        let header = parts.next().unwrap_or("");
        let shown = ["From:", "Subject:"];
        let lines = header
            .lines()
            .filter(|line| shown.iter().any(|name| line.starts_with(name)));
        lines.for_each(|line| show(out, line));
        // the header of the first part, and the line that says what a report is
        parts
            .skip(2)
            .flat_map(str::lines)
            .take(4)
            .for_each(|line| show(out, line));
    }
}

fn waiting(out: &mut Page<'_>, fate: &Fate<'_>) {
    let Some((path, record)) = &fate.queued else {
        return;
    };
    arrow(out, fate, path);
    for to in record.recipients.iter().filter(|to| to.state == State::Open) {
        let said = to.last.as_ref().map_or("", |given| given.outcome.text.as_str());
        show(out, &format!("<{}> {said}", to.recipient.address));
        show(
            out,
            &format!("tried {} times, next at {}", to.tries, env::time(to.next)),
        );
    }
}

/// Its first sentence, and the paragraph that says what to change.
fn badmail(out: &mut Page<'_>, fate: &Fate<'_>) {
    let Some(path) = &fate.badmail else { return };
    arrow(out, fate, path);
    let text = read(path);
    wrapped(first_line(&text), WIDTH - 10)
        .iter()
        .for_each(|line| show(out, line));
    let advice = text
        .lines()
        .skip_while(|line| *line != "What to change")
        .skip(1)
        .filter(|line| !line.is_empty());
    advice
        .take_while(|line| !line.starts_with("How "))
        .for_each(|line| show(out, line));
}

/// `  FILE -> FOLDER/NAME`
fn arrow(out: &mut Page<'_>, fate: &Fate<'_>, path: &Path) {
    let folder = path.parent().map_or_else(String::new, name);
    out.line(&format!("  {} -> {folder}/{}", fate.sample.name, name(path)));
}

/// A line of a file.
fn show(out: &mut Page<'_>, line: &str) {
    out.line(&clipped(&format!("      | {line}")));
}

/// The text after the header.
fn body(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    text.split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.is_empty()).unwrap_or("")
}

fn read(path: &Path) -> String {
    std::fs::read(path).map_or_else(
        |error| error.to_string(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn clipped(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 3).chain("...".chars()).collect()
}

/// Lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let room =
            lines.last().map_or(0, |line| line.chars().count()) + word.trim_end().chars().count() <= width;
        match lines.last_mut() {
            Some(line) if room || line.is_empty() => line.push_str(word),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}
