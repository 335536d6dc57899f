//! The words of each rule by which a file cannot be understood: what went wrong, where, and what to change.

use super::submission::Malformed;
use crate::mail::header::{lines, shown, without_line_end};
use crate::mail::leading::{Bad, Place};

const HOW_A_FILE_LOOKS: &str = "A file begins with header lines such as \"From: me@example.com\" and \"To: you@example.net\", then an empty \
     line, then the text.";

fn malformed(rule: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Malformed {
    Malformed {
        rule,
        line: None,
        text: None,
        what: what.into(),
        advice: advice.into(),
    }
}

pub(super) fn empty() -> Malformed {
    malformed("incomplete", "The file is empty.", HOW_A_FILE_LOOKS)
}

pub(super) fn too_large(size: u64, max: u64) -> Malformed {
    malformed(
        "too-large",
        format!("The file has {size} bytes; messages.max_size allows {max}."),
        "Raise messages.max_size in mailroot.toml, or send less in one message.",
    )
}

pub(super) fn utf16_too_large(size: u64, max: u64) -> Malformed {
    malformed(
        "too-large",
        format!("The file is UTF-16 text of {size} bytes; at most {max} bytes of UTF-16 are converted."),
        "Write the file as UTF-8 or ASCII: that has no such limit.",
    )
}

pub(super) fn header_too_large(limit: &str) -> Malformed {
    malformed(
        "header-too-large",
        format!("The header block is larger than {limit}, or the empty line that ends it is missing."),
        "Put an empty line between the header and the text; send to fewer recipients at once.",
    )
}

pub(super) fn charset(line: Option<usize>, what: impl Into<String>) -> Malformed {
    Malformed {
        line,
        ..malformed(
            "charset",
            what,
            "Write the file as UTF-8 or ASCII; in PowerShell: Set-Content -Encoding ascii (or utf8), not > or Out-File.",
        )
    }
}

/// `block` is the header block from line `first_line` on; `line` of it is neither field nor fold.
pub(super) fn header_line(block: &[u8], first_line: usize, line: usize, text: String) -> Malformed {
    let before = (line - first_line.min(line))
        .checked_sub(1)
        .and_then(|nth| lines(block).nth(nth));
    let looks_blank = before.is_some_and(|l| without_line_end(l).trim_ascii().is_empty());
    let advice = if line == first_line {
        HOW_A_FILE_LOOKS.to_owned()
    } else if looks_blank {
        format!(
            "If line {line} begins the text, line {} must be really empty: there are spaces in it.",
            line - 1
        )
    } else {
        format!(
            "If line {line} begins the text, put an empty line before it; if it belongs to the line above, begin it \
             with a space; a header line is \"Name: value\"."
        )
    };
    Malformed {
        line: Some(line),
        what: format!(
            "Line {line} stands before the first empty line but is no header line (a name and a colon): \"{text}\"."
        ),
        text: Some(text),
        ..malformed("header-line", "", advice)
    }
}

pub(super) fn bare_cr(text: &[u8]) -> Malformed {
    Malformed {
        line: Some(1),
        text: Some(shown(text)),
        ..malformed(
            "header-line",
            "The lines of the file end in a bare CR, so all of it is one line.",
            "End the lines in CRLF or LF.",
        )
    }
}

/// `bad` is what stands where the sender should be.
pub(super) fn no_sender(bad: Option<(Place, Bad)>, starts_blank: bool) -> Malformed {
    const ADVICE: &str = "Add a line \"From: me@example.com\" to the header, \"x-sender: me@example.com\" on top of \
                          the file, or set pickup.default_sender.";
    match bad {
        Some((Place { field, line }, Bad { text, why })) => Malformed {
            line: Some(line),
            what: format!(
                "The sender in line {line} ({field}) is not an address: \"{text}\", because {why}."
            ),
            text: Some(text),
            ..malformed(
                "no-sender",
                "",
                "Write a plain address such as me@example.com there.",
            )
        },
        None if starts_blank => Malformed {
            line: Some(1),
            ..malformed(
                "no-sender",
                "The file begins with an empty line, so it has no header and no sender.",
                "Remove the empty line at the top: the first empty line ends the header.",
            )
        },
        None => malformed(
            "no-sender",
            "The file names no sender: it has no x-sender, no Sender and no From line.",
            ADVICE,
        ),
    }
}

/// `bad` are the first of the texts that stand where recipients should be, `bad_count` how many there are in all.
pub(super) fn no_recipient(bad: &[(Place, Bad)], bad_count: usize) -> Malformed {
    let Some((first_place, first_bad)) = bad.first() else {
        return malformed(
            "no-recipient",
            "The file names no recipient: it has no x-receiver line, and no address in To, Cc or Bcc.",
            "Add a line \"To: you@example.net\" to the header, or \"x-receiver: you@example.net\" on top of the file.",
        );
    };
    let told: Vec<String> = bad
        .iter()
        .map(|(Place { field, line }, Bad { text, why })| {
            format!("line {line} ({field}) \"{text}\", because {why}")
        })
        .collect();
    let rest = bad_count.saturating_sub(bad.len());
    let more = if rest > 0 {
        format!("; and {rest} more")
    } else {
        String::new()
    };
    Malformed {
        line: Some(first_place.line),
        text: Some(first_bad.text.clone()),
        ..malformed(
            "no-recipient",
            format!("None of the recipients is an address: {}{more}.", told.join("; ")),
            "Write plain addresses such as you@example.net, separated by commas.",
        )
    }
}

pub(super) fn too_many_recipients(most: usize) -> Malformed {
    malformed(
        "too-many-recipients",
        format!("The file names more than {most} recipients."),
        "Write several files with fewer recipients each.",
    )
}

pub(super) fn no_closing_boundary(boundary: &str) -> Malformed {
    Malformed {
        text: Some(shown(boundary.as_bytes())),
        ..malformed(
            "incomplete",
            format!(
                "The message ends before its closing boundary: no line \"--{}--\" was found.",
                shown(boundary.as_bytes())
            ),
            "The program that wrote the file probably failed half-way (an attachment that could not be read?); look \
             into its log and let it write the message again.",
        )
    }
}

/// `cut` when the last line has no line end; else it is a multipart without any part.
pub(super) fn header_only(cut: bool) -> Malformed {
    let what = if cut {
        "The file ends inside its header: the last line has no line end."
    } else {
        "The file ends with its header, which says that the message has several parts."
    };
    malformed(
        "incomplete",
        what,
        "Let the program write the whole message; a message without text ends in an empty line.",
    )
}
