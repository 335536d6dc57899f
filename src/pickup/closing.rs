//! The closing boundary of a multipart message (RFC 2046 §5.1.1): its absence shows a writer that failed half-way.

use memchr::memmem::Finder;

/// What to look for at the beginning of lines.
#[derive(Debug)]
pub(super) struct Closing {
    /// `--boundary--`
    delimiter: Finder<'static>,
}

impl Closing {
    /// White space that may follow the delimiter on its line, as far as it is looked at.
    const PADDING: usize = 64;

    pub(super) fn new(boundary: &str) -> Self {
        Self {
            delimiter: Finder::new(format!("--{boundary}--").as_bytes()).into_owned(),
        }
    }

    /// So many bytes of a line tell whether it is the closing boundary.
    pub(super) fn line_head(&self) -> usize {
        self.delimiter.needle().len() + Self::PADDING
    }

    /// Whether one of these lines may be it.
    pub(super) fn may_be_in(&self, lines: &[u8]) -> bool {
        self.delimiter.find(lines).is_some()
    }

    /// Whether this is the line; `line` is all of it, or its first [`Self::line_head`] bytes.
    pub(super) fn is_line(&self, line: &[u8]) -> bool {
        line.strip_prefix(self.delimiter.needle())
            .is_some_and(|rest| rest.len() < Self::PADDING && rest.trim_ascii().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_delimiter_closes() {
        let closing = Closing::new("a b");
        for line in ["--a b--", "--a b-- \t"] {
            assert!(closing.is_line(line.as_bytes()), "{line}");
        }
        for line in [
            "--a b",
            "--a b-",
            " --a b--",
            "--a b--c",
            "--a c--",
            "",
            "--a b--more--",
        ] {
            assert!(!closing.is_line(line.as_bytes()), "{line}");
        }
    }
}
