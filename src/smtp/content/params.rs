//! Parameters of Content-Type and Content-Disposition: `; name=value`, and their 7-bit form (RFC 2231).

use super::words::{Words, is_space, unfold};
use std::collections::HashSet;

/// Bytes of a value in one section; longer ones are continued (`name*1*=…`).
const SECTION: usize = 54;

/// The text between semicolons that are not quoted.
pub(super) fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.iter().position(|b| {
            let literal = std::mem::take(&mut escaped);
            match b {
                b'\\' => escaped = quoted && !literal,
                b'"' if !literal => quoted = !quoted,
                _ => {}
            }
            *b == b';' && !quoted
        });
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// A quoted-string without its quotes and quoted pairs; anything else as it is.
pub(super) fn unquote(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return value.to_vec();
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'"' => break,
            b'\\' => text.extend(bytes.next()),
            b => text.push(*b),
        }
    }
    text
}

/// Writes the value of such a field; parameters outside ASCII in the form of RFC 2231.
pub(super) fn encode(words: &mut Words, value: &[u8]) {
    let extended: HashSet<Vec<u8>> = split(value)
        .filter_map(name)
        .filter_map(|name| Some(name.strip_suffix(b"*")?.to_vec()))
        .collect();
    for (i, param) in split(value).enumerate() {
        if i > 0 {
            words.raw(b";");
        }
        let equals = memchr::memchr(b'=', param);
        match (name(param), equals) {
            _ if param.is_ascii() => words.raw(param),
            (Some(name), Some(equals)) if i > 0 && name.is_ascii() => {
                let plain_copy = extended.contains(&name);
                encode_one(words, param, equals, plain_copy);
            }
            _ => words.unstructured(param),
        }
    }
}

/// In lower case.
fn name(param: &[u8]) -> Option<Vec<u8>> {
    let equals = memchr::memchr(b'=', param)?;
    param
        .get(..equals)
        .map(|name| name.trim_ascii().to_ascii_lowercase())
}

/// `plain_copy`: the parameter is there a second time, in extended form, which readers prefer.
fn encode_one(words: &mut Words, param: &[u8], equals: usize, plain_copy: bool) {
    let (name, value) = param.split_at(equals);
    let name = name.trim_ascii();
    let value = value.strip_prefix(b"=").unwrap_or(value);
    if name.ends_with(b"*") {
        words.raw(b"\r\n ");
        words.raw(name);
        words.raw(b"=");
        let mut unfolded = Vec::new();
        unfold(value, &mut unfolded);
        for b in unfolded.trim_ascii() {
            if b.is_ascii() {
                words.raw(&[*b])
            } else {
                words.raw(format!("%{b:02X}").as_bytes())
            }
        }
    } else if plain_copy {
        let visible: Vec<u8> = param
            .iter()
            .map(|b| if b.is_ascii() { *b } else { b'_' })
            .collect();
        words.raw(&visible);
    } else {
        let mut text = Vec::new();
        unfold(&unquote(value.trim_ascii_start().trim_ascii_end()), &mut text);
        extended_value(words, name, &text);
    }
}

fn extended_value(words: &mut Words, name: &[u8], text: &[u8]) {
    let mut sections = vec![format!("{}''", words.charset())];
    for &b in text {
        // not inside a character: some readers decode each section by itself
        let inside = b & 0xC0 == 0x80;
        if sections
            .last()
            .is_some_and(|section| section.len() >= if inside { SECTION + 9 } else { SECTION })
        {
            sections.push(String::new());
        }
        let Some(section) = sections.last_mut() else {
            return;
        };
        if is_attribute_char(b) {
            section.push(char::from(b));
        } else {
            section.push_str(&format!("%{b:02X}"));
        }
    }
    let single = sections.len() == 1;
    for (i, section) in sections.iter().enumerate() {
        words.raw(if i == 0 { b"\r\n " } else { b";\r\n " });
        words.raw(name);
        words.raw(
            if single {
                "*=".to_owned()
            } else {
                format!("*{i}*=")
            }
            .as_bytes(),
        );
        words.raw(section.as_bytes());
    }
}

/// RFC 2231 §7: what needs no percent sign.
fn is_attribute_char(b: u8) -> bool {
    b.is_ascii_graphic() && !is_space(b) && !br#"*'%()<>@,;:\"/[]?="#.contains(&b)
}

#[cfg(test)]
mod tests {
    use super::super::words;

    fn encoded(field: &[u8]) -> String {
        let out = String::from_utf8(words::encode(&[field, b"\r\n"].concat(), false)).unwrap();
        assert!(out.split("\r\n").all(|line| line.len() <= 78), "{out}");
        out.trim_end().replace("\r\n", "")
    }

    #[test]
    fn file_names_travel_in_seven_bits() {
        assert_eq!(
            encoded("Content-Disposition: attachment; filename=\"Bär; x.pdf\"; size=1".as_bytes()),
            "Content-Disposition: attachment; filename*=utf-8''B%C3%A4r%3B%20x.pdf; size=1"
        );
        assert_eq!(
            encoded(b"Content-Type: image/png; name=\xe4"),
            "Content-Type: image/png; name*=unknown-8bit''%E4"
        );
        assert_eq!(
            encoded("Content-Type: image/png; name=ä; name*=utf-8''ä".as_bytes()),
            "Content-Type: image/png; name=__; name*=utf-8''%C3%A4"
        );
        let long = encoded(format!("Content-Type: a/b; name=\"{}\"", "ä".repeat(20)).as_bytes());
        assert_eq!(
            long,
            format!(
                "Content-Type: a/b; name*0*=utf-8''{}; name*1*={}; name*2*={}",
                "%C3%A4".repeat(8),
                "%C3%A4".repeat(9),
                "%C3%A4".repeat(3)
            )
        );
    }

    #[test]
    fn odd_values_end() {
        for text in [
            "é/é",
            "a/b; é=é; é",
            "a/b; n=\"é",
            "a/b; =é",
            "a/b; n*=é; n*=é",
            ";;;é",
            "a/b; n=\"\\",
        ] {
            assert!(
                encoded(format!("Content-Type: {text}").as_bytes()).is_ascii(),
                "{text}"
            );
        }
    }
}
