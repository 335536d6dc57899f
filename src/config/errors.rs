//! What is wrong with a settings file, in words: one sentence with file and line, and the line with a caret below.
//!
//! Pure. Not here: what is a mistake (that is `section`, `parse` and `rules`).

use crate::mail::plain::{cut, escaped};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why there is no [`Config`](super::Config): every mistake found, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
}

/// More would only bury the first.
pub const MAX_PROBLEMS: usize = 20;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The settings file as it was named.
    pub file: PathBuf,
    /// From 1; `None` when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong and what to change, without a full stop.
    pub says: String,
    /// The line and a caret line below it, without a final line end.
    pub shown: Option<String>,
}

impl ConfigError {
    /// One mistake that no line is to blame for.
    pub fn whole_file(file: &Path, says: impl Into<String>) -> Self {
        let problem = Problem {
            file: file.to_owned(),
            line: None,
            says: says.into(),
            shown: None,
        };
        Self {
            problems: vec![problem],
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        write!(f, ": {}", self.says)?;
        self.shown.as_ref().map_or(Ok(()), |shown| write!(f, "\n{shown}"))
    }
}

/// More characters of a message are not shown: it can quote a value of any length.
const LONGEST: usize = 480;

/// A problem at these bytes of the text. Whatever values `says` quotes, it stays on its line.
pub(super) fn at(file: &Path, text: &str, span: &Range<usize>, says: String) -> Problem {
    let (line, shown) = show(text, span);
    Problem {
        file: file.to_owned(),
        line: Some(line),
        says: cut(&escaped(&says), LONGEST).into_owned(),
        shown: Some(shown),
    }
}

/// The line number of a byte, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// How much of a long line is shown.
const SHOWN_WIDTH: usize = 120;
/// How much of it stands before the caret then.
const SHOWN_BEFORE: usize = 40;

/// The number of the line where `span` begins, and the line with carets below the part that is meant.
fn show(text: &str, span: &Range<usize>) -> (usize, String) {
    // An error at the very end of the text is about the last line, not about the nothing behind its line end.
    let end_of_words = text.trim_end().len();
    let start = if span.start >= text.len() {
        end_of_words
    } else {
        span.start
    };
    let number = line_of(text, start);
    let line_start = text.get(..start).and_then(|t| t.rfind('\n')).map_or(0, |i| i + 1);
    let line = text
        .get(line_start..)
        .and_then(|t| t.lines().next())
        .unwrap_or("");
    let column = text.get(line_start..start).map_or(0, |t| t.chars().count());
    let length = line_start + line.len();
    let marked = text
        .get(start..span.end.min(length).max(start))
        .map_or(1, |t| t.chars().count())
        .max(1);

    let skipped = if column + marked > SHOWN_WIDTH {
        column.saturating_sub(SHOWN_BEFORE)
    } else {
        0
    };
    let window: String = redact(line)
        .chars()
        .skip(skipped)
        .take(SHOWN_WIDTH)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let carets = "^".repeat(marked.min(SHOWN_WIDTH));
    let gutter = number.to_string();
    let shown = format!(
        "  {gutter} | {window}\n  {:width$} | {:pad$}{carets}",
        "",
        "",
        width = gutter.len(),
        pad = column - skipped
    );
    (number, shown)
}

/// Someone may have written a password where only the name of a file belongs. Messages reach logs, so its
/// characters become stars (as many, so that the caret still fits).
fn redact(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(value) = secret_value(rest) {
        let (before, after) = rest.split_at(value.start);
        out.push_str(before);
        let (hidden, after) = after.split_at(value.len());
        out.extend(hidden.chars().map(|_| '*'));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The bytes between the quotes of the first `password = "…"` (or token, secret); to the end without a second quote.
fn secret_value(line: &str) -> Option<Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let words = ["password", "passwd", "token", "secret"];
    let mut candidates: Vec<usize> = words
        .iter()
        .flat_map(|word| lower.match_indices(word).map(|(at, _)| at + word.len()))
        .collect();
    candidates.sort_unstable();
    candidates.into_iter().find_map(|behind_word| {
        let rest = line
            .get(behind_word..)?
            .trim_start_matches(['"', '\'', ' ', '\t']);
        let value = rest.strip_prefix('=')?.trim_start();
        let (open, quote) = match value.chars().next()? {
            c @ ('"' | '\'') => (1, Some(c)),
            _ => (0, None),
        };
        let start = line.len() - value.len() + open;
        let inside = line.get(start..)?;
        let length = match quote {
            Some(quote) => inside.find(quote).unwrap_or(inside.len()),
            None => inside.find([',', '}']).unwrap_or(inside.len()),
        };
        (length > 0).then(|| start..start + length)
    })
}

/// The nearest of the known words, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| !matches!(c, '_' | '-'))
            .map(|c| c.to_ascii_lowercase())
            .take(64)
            .collect()
    };
    let wanted = plain(word);
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .map(|candidate| (edits(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop, change or swap with their neighbour to get from one word to the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = cell(&row, j) + usize::from(x != y);
            let mut best = change.min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(cell(&above, j - 1) + 1);
            }
            next.push(best);
        }
        above = std::mem::replace(&mut row, next);
    }
    cell(&row, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["retry", "relay", "expire", "smart_host", "max_size"];
        for (word, expected) in [
            ("retyr", Some("retry")),
            ("SmartHost", Some("smart_host")),
            ("max-size", Some("max_size")),
            ("exipre", Some("expire")),
            ("banana", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
        assert_eq!(edits("retyr", "retry"), 1);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn the_caret_stands_below_what_is_meant() {
        let text = "[a]\r\n\tkey = 12\r\n";
        let (line, shown) = show(text, &(12..14));
        assert_eq!((line, shown.as_str()), (2, "  2 |  key = 12\n    |        ^^"));
        let (line, shown) = show("a = [", &(5..5));
        assert_eq!((line, shown.as_str()), (1, "  1 | a = [\n    |      ^"));
        // What is missing at the end is missing on the last line that has words, not on the empty one behind it.
        let (line, shown) = show("a = [\n\n", &(7..7));
        assert_eq!((line, shown.as_str()), (1, "  1 | a = [\n    |      ^"));
        let long = format!("k = \"{}\" x", "y".repeat(500));
        let (_, shown) = show(&long, &(507..508));
        let (top, bottom) = shown.split_once('\n').unwrap();
        assert_eq!(top.chars().nth(bottom.chars().count() - 1), Some('x'), "{shown}");
    }

    #[test]
    fn secrets_are_not_shown() {
        for (line, expected) in [
            ("password = \"hunter2\"", "password = \"*******\""),
            (
                "auth = { user = \"a\", password = 'x y', port = 1 }",
                "auth = { user = \"a\", password = '***', port = 1 }",
            ),
            ("  \"token\"=\"abc", "  \"token\"=\"***"),
            ("a_secret = b\\c", "a_secret = ***"),
            (
                "password_file = \"smart-host.password\"",
                "password_file = \"smart-host.password\"",
            ),
            ("token = \"a\", secret = \"b\"", "token = \"*\", secret = \"*\""),
        ] {
            assert_eq!(redact(line), expected);
        }
    }
}
