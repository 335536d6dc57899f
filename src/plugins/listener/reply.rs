//! What a client is told: code, enhanced status (RFC 3463) and words, in lines that cannot be broken.

/// One reply; `lines` stand behind code and status, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// Empty: none, as for 220, 334 and 354 and the answers to HELO and EHLO (RFC 2034 §4).
    status: &'static str,
    lines: Vec<String>,
}

impl Reply {
    pub fn new(code: u16, status: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            status,
            lines: vec![text.into()],
        }
    }

    /// Several lines without a status.
    pub fn list(code: u16, lines: Vec<String>) -> Self {
        Self {
            code,
            status: "",
            lines,
        }
    }

    /// What came is no command.
    pub fn syntax(why: &str) -> Self {
        Self::new(500, "5.5.2", format!("Syntax error: {why}"))
    }

    /// The command is known, what comes with it is not right.
    pub fn argument(why: &str) -> Self {
        Self::new(501, "5.5.4", format!("Syntax error in parameters: {why}"))
    }

    /// Drop has no room for it (IIS: a directory quota that is reached).
    pub fn full() -> Self {
        Self::new(452, "4.2.2", "Mailbox full; try again later")
    }

    /// The command comes at the wrong time.
    pub fn order(text: &str) -> Self {
        Self::new(503, "5.5.1", text)
    }

    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// The first line, for the log.
    pub fn shown(&self) -> String {
        let text = self.lines.first().map_or("", String::as_str);
        match self.status {
            "" => format!("{} {text}", self.code),
            status => format!("{} {status} {text}", self.code),
        }
    }

    /// Puts it behind `out`, in CRLF lines.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (nth, line) in self.lines.iter().enumerate() {
            let mark = if nth + 1 == self.lines.len() { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{mark}", self.code).as_bytes());
            if !self.status.is_empty() {
                out.extend_from_slice(self.status.as_bytes());
                out.push(b' ');
            }
            // Parts of it may be the client's own words.
            out.extend(line.bytes().map(|byte| if byte < b' ' { b' ' } else { byte }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_whole_lines_whatever_its_words() {
        assert_eq!(
            written(&Reply::new(250, "2.1.0", "a\r\n550 b")),
            "250 2.1.0 a  550 b\r\n"
        );
        assert_eq!(
            written(&Reply::list(250, vec!["a".into(), "b".into()])),
            "250-a\r\n250 b\r\n"
        );
        assert_eq!(written(&Reply::new(354, "", "go")), "354 go\r\n");
        assert_eq!(Reply::order("x").shown(), "503 5.5.1 x");
        assert!(!Reply::order("x").is_positive() && Reply::new(354, "", "").is_positive());
    }
}
