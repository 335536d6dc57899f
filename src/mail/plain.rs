//! Plain text for people: lines that end in CRLF, paragraphs that are wrapped, dates, escapes.
//!
//! Everything that stands in a report or in a `.BDR` goes through a [`Page`], so that no file name, address or
//! reply can break a line, forge one, or make one endless.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Columns. mail-builder leaves ASCII lines of up to 75 as they are and encodes longer ones.
const WIDTH: usize = 75;

/// A text under construction.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One line; control characters in it are escaped, nothing is wrapped.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(&escaped(text));
        self.text.push_str("\r\n");
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.text.push_str("\r\n");
    }

    /// `indent` before each line, wrapped between words. A word longer than a line stays whole.
    pub fn para(&mut self, indent: &str, text: &str) {
        self.hanging(indent, indent, text);
    }

    /// `label` and a wrapped value whose further lines stand below the first.
    pub fn item(&mut self, label: &str, value: &str) {
        let first = format!("{label:<14}");
        let rest = " ".repeat(first.chars().count());
        self.hanging(&first, &rest, value);
    }

    /// A text of many lines, e.g. a transcript: each line wrapped by itself, further lines two columns deeper.
    pub fn block(&mut self, indent: &str, text: &str) {
        let deeper = format!("{indent}  ");
        for line in text.lines() {
            self.hanging(indent, &deeper, line.trim_end());
        }
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.text
    }

    fn hanging(&mut self, first: &str, rest: &str, text: &str) {
        let text = escaped(text);
        let mut lead = first;
        let mut words = text.split(' ').peekable();
        loop {
            let mut line = String::from(lead);
            let mut columns = lead.chars().count();
            let mut empty = true;
            while let Some(word) = words.peek() {
                let length = word.chars().count();
                if !empty && columns + 1 + length > WIDTH {
                    break;
                }
                if !empty {
                    line.push(' ');
                    columns += 1;
                }
                line.push_str(word);
                columns += length;
                empty = false;
                words.next();
            }
            self.text.push_str(line.trim_end());
            self.text.push_str("\r\n");
            if words.peek().is_none() {
                return;
            }
            lead = rest;
        }
    }
}

/// Whether all of it is printable ASCII, as nearly everything is: nothing in it has to be escaped.
pub fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text with control characters as Rust writes them (`\n`, `\u{7}`), so that it stays on its line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if is_printable(text.as_bytes()) || !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// At most `max` characters, with `…` in place of the rest.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or(text))),
    }
}

/// RFC 5322 §3.3, in UTC: `Mon, 23 Nov 2026 08:05:00 +0000`.
pub fn date(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A length of time in the two largest units that it has: `2 days`, `1 hour 30 minutes`.
pub fn span(length: std::time::Duration) -> String {
    let seconds = length.as_secs();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let mut text = String::new();
    for (n, unit) in parts.iter().filter(|(n, _)| *n > 0).take(2) {
        let plural = if *n == 1 { "" } else { "s" };
        let space = if text.is_empty() { "" } else { " " };
        // writing to a String cannot fail
        let _ = write!(text, "{space}{n} {unit}{plural}");
    }
    if text.is_empty() {
        text.push_str("0 seconds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn paragraphs_are_wrapped_and_long_words_stay_whole() {
        let mut page = Page::new();
        page.para(
            "  ",
            &format!("{} {} end", "word ".repeat(20).trim(), "x".repeat(90)),
        );
        let text = page.into_string();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("  word word"));
        assert!(
            lines
                .iter()
                .all(|l| l.len() <= WIDTH || l.trim() == "x".repeat(90)),
            "{text}"
        );
        assert_eq!(text.matches("word").count(), 20);
        assert!(text.ends_with("\r\n  end\r\n"));
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let mut page = Page::new();
        page.line("a\r\nb");
        page.item("Name:", "c\nd\u{7}\u{85}");
        page.block("> ", "one\r\n.\r\ntwo\rthree");
        assert_eq!(
            page.into_string(),
            "a\\r\\nb\r\nName:         c\\nd\\u{7}\\u{85}\r\n> one\r\n> .\r\n> two\\rthree\r\n"
        );
    }

    #[test]
    fn dates_and_spans() {
        let at = jiff::Timestamp::from_second(1_795_420_800).unwrap();
        assert_eq!(date(at), "Mon, 23 Nov 2026 08:00:00 +0000");
        assert_eq!(span(Duration::from_secs(172_800)), "2 days");
        assert_eq!(span(Duration::from_secs(5400)), "1 hour 30 minutes");
        assert_eq!(span(Duration::from_secs(90_061)), "1 day 1 hour");
        assert_eq!(span(Duration::from_millis(3)), "0 seconds");
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(cut("dörte", 2), "dö…");
        assert_eq!(cut("dö", 2), "dö");
    }
}
