//! Writing for a person: lines that stay lines, whoever reads them and whatever stands in them.

use std::io::Write;

/// Where a command writes. A reader that went away (`| head`) is no error of ours.
pub struct Page<'a> {
    to: &'a mut dyn Write,
}

impl<'a> Page<'a> {
    /// Writes there.
    pub fn new(to: &'a mut dyn Write) -> Self {
        Self { to }
    }

    /// One line. Control characters in it are escaped: addresses and file names come from anywhere.
    pub fn line(&mut self, text: &str) {
        let mut line = String::with_capacity(text.len() + 1);
        for c in text.chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        line.push('\n');
        let _ = self.to.write_all(line.as_bytes());
    }

    /// Several lines of ours as they are.
    pub fn text(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }
}
