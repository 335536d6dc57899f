//! 8-bit text in address fields (From, To …) for hosts that take 7 bits only.
//!
//! Display names and comments become encoded-words, domains A-labels (RFC 5890). A local part outside ASCII has no
//! 7-bit form (RFC 6857 §3.1.8): it becomes an encoded-word too, so that a reader can at least see what it was.

use super::words::{Words, is_space, unfold};

/// Writes the value of an address field.
pub(super) fn encode(words: &mut Words, value: &[u8]) {
    let mut rest = value;
    let mut comments = 0usize;
    while let Some(first) = rest.first() {
        let len = match first {
            b'"' if comments == 0 => quoted_string(words, rest),
            b'<' if comments == 0 => angle_address(words, rest),
            b'(' | b')' => {
                words.raw(&[*first]);
                comments = if *first == b'(' {
                    comments + 1
                } else {
                    comments.saturating_sub(1)
                };
                1
            }
            b',' | b';' | b':' if comments == 0 => {
                words.raw(&[*first]);
                1
            }
            _ => plain(words, rest, comments > 0),
        };
        rest = rest.get(len..).unwrap_or(&[]);
    }
}

/// Each of these writes what stands at the front of `text` and tells how long that was, at least 1.
fn quoted_string(words: &mut Words, text: &[u8]) -> usize {
    let mut inner = Vec::new();
    let mut len = 1;
    while let Some(b) = text.get(len) {
        len += 1;
        match b {
            b'"' => break,
            b'\\' => {
                inner.extend(text.get(len));
                len += 1;
            }
            b => inner.push(*b),
        }
    }
    let len = len.min(text.len());
    if inner.is_ascii() {
        words.raw(text.get(..len).unwrap_or(text));
    } else {
        let mut unfolded = Vec::with_capacity(inner.len());
        unfold(&inner, &mut unfolded);
        words.word(&unfolded);
    }
    len
}

fn angle_address(words: &mut Words, text: &[u8]) -> usize {
    let len = memchr::memchr(b'>', text).map_or(text.len(), |end| end + 1);
    let whole = text.get(..len).unwrap_or(text);
    if whole.is_ascii() {
        words.raw(whole);
    } else {
        let inner = whole.strip_prefix(b"<").unwrap_or(whole);
        words.raw(b"<");
        mailbox(words, inner.strip_suffix(b">").unwrap_or(inner));
        words.raw(b">");
    }
    len
}

/// Words up to the next special; inside a comment only parentheses are.
fn plain(words: &mut Words, text: &[u8], in_comment: bool) -> usize {
    let mut escaped = false;
    let special = |b: &u8| {
        let literal = std::mem::take(&mut escaped);
        escaped = *b == b'\\' && !literal;
        !literal && (matches!(b, b'(' | b')') || !in_comment && matches!(b, b'"' | b'<' | b',' | b';' | b':'))
    };
    let len = text.iter().position(special).unwrap_or(text.len()).max(1);
    let run = text.get(..len).unwrap_or(text);
    if in_comment || run.is_ascii() || !run.contains(&b'@') {
        words.unstructured(run);
    } else {
        let space = run.iter().take_while(|b| is_space(**b)).count();
        let (space, address) = run.split_at(space);
        words.raw(space);
        mailbox(words, address);
    }
    len
}

fn mailbox(words: &mut Words, address: &[u8]) {
    let mut unfolded = Vec::with_capacity(address.len());
    unfold(address, &mut unfolded);
    let at = memchr::memrchr(b'@', &unfolded).unwrap_or(unfolded.len());
    let (local, domain) = unfolded.split_at(at);
    let domain = domain.strip_prefix(b"@").unwrap_or(domain).trim_ascii();
    let a_labels = std::str::from_utf8(domain)
        .ok()
        .filter(|domain| domain.len() <= 255)
        .and_then(|domain| idna::domain_to_ascii(domain).ok());
    match a_labels {
        Some(domain) if local.is_ascii() => words.raw(&[local, b"@", domain.as_bytes()].concat()),
        Some(domain) if !local.is_empty() => {
            words.inline_word(local);
            words.raw(b"@");
            words.raw(domain.as_bytes());
        }
        _ => words.word(&unfolded),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;

    fn encoded(value: &str) -> String {
        let field = words::encode(format!("To:{value}\r\n").as_bytes(), false);
        String::from_utf8(field)
            .unwrap()
            .trim_end()
            .strip_prefix("To:")
            .unwrap()
            .replace("\r\n", "")
    }

    #[test]
    fn names_comments_and_domains() {
        for (value, expected) in [
            (
                " Jörg Müller <j@b.example>",
                " =?utf-8?Q?J=C3=B6rg_M=C3=BCller?= <j@b.example>",
            ),
            (
                " \"Müller, \\\"J\\\"\"<j@b>, a@b",
                " =?utf-8?Q?M=C3=BCller=2C_=22J=22?= <j@b>, a@b",
            ),
            (
                " \"a, (b\" <a@b>, é <c@d>",
                " \"a, (b\" <a@b>, =?utf-8?Q?=C3=A9?= <c@d>",
            ),
            (
                " a@b (Ärger, \\( (ö)) , c@d",
                " a@b (=?utf-8?Q?=C3=84rger=2C?= \\( (=?utf-8?Q?=C3=B6?=)) , c@d",
            ),
            (" <a@bücher.example>", " <a@xn--bcher-kva.example>"),
            (" a@bücher.example, x", " a@xn--bcher-kva.example, x"),
            (
                " <é@bücher.example>",
                " <=?utf-8?Q?=C3=A9?=@xn--bcher-kva.example>",
            ),
            (" \"é\" ö <a@b>", " =?utf-8?Q?=C3=A9?= =?utf-8?Q?_=C3=B6?= <a@b>"),
            (" grüppe: a@b;", " =?utf-8?Q?gr=C3=BCppe?= : a@b;"),
        ] {
            assert_eq!(encoded(value), expected, "{value}");
        }
    }

    #[test]
    fn broken_values_end() {
        for value in [
            "\"é", "<é", "(é", "\\", "é\\", "\"é\\", ")))é", "<é@", "@é", "é@é@é",
        ] {
            assert!(encoded(value).is_ascii(), "{value}");
        }
    }
}
