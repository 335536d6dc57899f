//! The log in `Logs/`, read as any program may read it: `TIME LEVEL message key=value key="a value"`.

use std::io;
use std::path::Path;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// `taken`, `delivered` …
    pub message: String,
    fields: Vec<(String, String)>,
}

impl Event {
    /// A field; empty when there is none.
    pub fn get(&self, key: &str) -> &str {
        self.fields
            .iter()
            .find(|(name, _)| name == key)
            .map_or("", |(_, value)| value)
    }

    fn parse(line: &str) -> Option<Self> {
        let (_time, rest) = line.split_once(' ')?;
        let (_level, rest) = rest.split_once(' ')?;
        let mut rest = rest.trim_start();
        let mut message = Vec::new();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let word = rest.split(' ').next().unwrap_or(rest);
            match word.split_once('=') {
                Some((key, _)) => {
                    let (value, after) = value(rest.get(key.len() + 1..)?)?;
                    fields.push((key.to_owned(), value));
                    rest = after;
                }
                None => {
                    message.push(word);
                    rest = rest.get(word.len()..)?;
                }
            }
            rest = rest.trim_start_matches(' ');
        }
        Some(Self {
            message: message.join(" "),
            fields,
        })
    }
}

/// A value, quoted or not, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut before = ' ';
    let end = quoted.find(|c| std::mem::replace(&mut before, c) != '\\' && c == '"')?;
    Some((quoted.get(..end)?.replace("\\\"", "\""), quoted.get(end + 1..)?))
}

/// All lines of all days, in order.
pub fn read(logs: &Path) -> io::Result<Vec<Event>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(logs)? {
        files.push(entry?.path());
    }
    files.sort(); // by day
    let mut events = Vec::new();
    for file in files {
        let text = std::fs::read(file)?;
        events.extend(String::from_utf8_lossy(&text).lines().filter_map(Event::parse));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = "2026-11-24T00:16:13.644Z debug deferred id=01M8 file=a.txt message_id=\"\" to=a@b.example \
                    reply=\"452 say \\\"when\\\" = later\" last=1";
        let event = Event::parse(line).unwrap();
        assert_eq!(event.message, "deferred");
        assert_eq!(event.get("to"), "a@b.example");
        assert_eq!(event.get("message_id"), "");
        assert_eq!(event.get("reply"), "452 say \"when\" = later");
        assert_eq!(event.get("last"), "1");
        assert_eq!(event.get("none"), "");
    }

    #[test]
    fn a_message_of_several_words_and_a_level_with_two_spaces() {
        let event = Event::parse("t info  to Badmail; see X.BDR id=1").unwrap();
        assert_eq!(
            (event.message.as_str(), event.get("id")),
            ("to Badmail; see X.BDR", "1")
        );
    }
}
