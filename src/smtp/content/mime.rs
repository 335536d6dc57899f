//! What the header block of a message or a part says about its content (RFC 2045, RFC 2046).

use super::scan::Line;

/// How much of a Content-Type field is understood; a longer one counts as absent.
const MAX_FIELD: usize = 64 * 1024;
/// RFC 2046 §5.1.1 allows 70; some writers do not care.
const MAX_BOUNDARY: usize = 512;

/// What a content is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Parts between boundaries. In a digest, parts are messages unless they say otherwise.
    Multipart { boundary: Vec<u8>, digest: bool },
    /// A message with a header of its own. It may not be encoded, but its parts may.
    Message,
    /// Read by people: quoted-printable keeps it readable.
    Text,
    /// Anything else.
    Data,
}

/// What `Content-Transfer-Encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `7bit`, absent, or a word that nobody knows.
    Plain,
    /// `8bit` or `binary`
    EightBit,
    QuotedPrintable,
    Base64,
}

/// A header block as it is read, line by line.
#[derive(Debug, Default, Clone)]
pub(super) struct Heading {
    content_type: Option<Vec<u8>>,
    encoding: Option<Vec<u8>>,
    taking: Option<Taken>,
    /// `MIME-Version` is there.
    pub(super) mime_version: bool,
    /// Holds a byte over 127.
    pub(super) eight_bit: bool,
    /// The longest line.
    pub(super) longest: u64,
    pub(super) lines: u64,
}

#[derive(Debug, Clone, Copy)]
enum Taken {
    ContentType,
    Encoding,
}

impl Heading {
    /// Takes a line in. False: it is neither a field nor a fold, so it is not part of a header block.
    pub(super) fn line(&mut self, line: &Line, text: &[u8]) -> bool {
        let fold = text.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
        let name = field_name(text);
        let mbox_line = self.lines == 0 && (text.starts_with(b"From ") || text.starts_with(b">From "));
        if name.is_none() && !fold && !mbox_line {
            return false;
        }
        self.count(line);
        if !fold {
            self.taking = name.and_then(|name| self.take(name));
        }
        let field = match self.taking {
            Some(Taken::ContentType) => &mut self.content_type,
            Some(Taken::Encoding) => &mut self.encoding,
            None => return true,
        };
        let field = field.get_or_insert_default();
        let value = text
            .get(if fold { 0 } else { name.map_or(0, <[u8]>::len) }..)
            .unwrap_or(&[]);
        let value = if fold { value } else { after_colon(value) };
        if field.len() <= MAX_FIELD {
            field.extend_from_slice(value);
        }
        true
    }

    /// Takes a line of a block that is known to be a header.
    pub(super) fn header_line(&mut self, line: &Line, text: &[u8]) {
        if !self.line(line, text) {
            self.taking = None;
            self.count(line);
        }
    }

    fn count(&mut self, line: &Line) {
        self.lines += 1;
        self.eight_bit |= line.eight_bit;
        self.longest = self.longest.max(line.len);
    }

    /// Of a field that comes twice, the first counts.
    fn take(&mut self, name: &[u8]) -> Option<Taken> {
        if name.eq_ignore_ascii_case(b"Content-Type") && self.content_type.is_none() {
            Some(Taken::ContentType)
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") && self.encoding.is_none() {
            Some(Taken::Encoding)
        } else {
            self.mime_version |= name.eq_ignore_ascii_case(b"MIME-Version");
            None
        }
    }

    pub(super) fn has_content_type(&self) -> bool {
        self.content_type.is_some()
    }

    pub(super) fn encoding(&self) -> Encoding {
        let value = strip_comments(self.encoding.as_deref().unwrap_or(&[]));
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"8bit" | b"8-bit" | b"binary" => Encoding::EightBit,
            b"quoted-printable" => Encoding::QuotedPrintable,
            b"base64" => Encoding::Base64,
            _ => Encoding::Plain,
        }
    }

    /// `in_digest`: what has no Content-Type is a message (RFC 2046 §5.1.5).
    pub(super) fn kind(&self, in_digest: bool) -> Kind {
        let Some(value) = self
            .content_type
            .as_ref()
            .filter(|value| value.len() <= MAX_FIELD)
        else {
            return if in_digest { Kind::Message } else { Kind::Text };
        };
        let value = strip_comments(value);
        let end = memchr::memchr(b';', &value).unwrap_or(value.len());
        let (full, params) = value.split_at(end);
        let full = full.trim_ascii().to_ascii_lowercase();
        let encoded = matches!(self.encoding(), Encoding::Base64 | Encoding::QuotedPrintable);
        if full.starts_with(b"multipart/") {
            return match boundary(params) {
                Some(boundary) => Kind::Multipart {
                    boundary,
                    digest: full == b"multipart/digest",
                },
                None => Kind::Text,
            };
        }
        let message: [&[u8]; 4] = [
            b"message/rfc822",
            b"message/global",
            b"message/news",
            b"message/external-body",
        ];
        if !encoded && message.contains(&full.as_slice()) {
            return Kind::Message;
        }
        if full.starts_with(b"text/") || full.starts_with(b"message/") || !full.contains(&b'/') {
            return Kind::Text;
        }
        Kind::Data
    }
}

/// The name, if the text begins like a field (RFC 5322 §3.6.8; §4.5 allows white space before the colon).
pub(super) fn field_name(text: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', text)?;
    let name = text.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

fn after_colon(text: &[u8]) -> &[u8] {
    memchr::memchr(b':', text)
        .and_then(|colon| text.get(colon + 1..))
        .unwrap_or(&[])
}

/// Comments in parentheses go, quoted strings stay.
fn strip_comments(value: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for &b in value {
        let literal = std::mem::take(&mut escaped);
        match b {
            b'\\' if !literal => escaped = true,
            b'"' if !literal && depth == 0 => quoted = !quoted,
            b'(' if !literal && !quoted => depth += 1,
            _ => {}
        }
        if depth == 0 {
            kept.push(b);
        }
        if b == b')' && !literal && !quoted {
            depth = depth.saturating_sub(1);
        }
    }
    kept
}

/// The boundary among parameters, each with its semicolon; also cut in sections and percent-encoded (RFC 2231).
fn boundary(params: &[u8]) -> Option<Vec<u8>> {
    let mut sections: Vec<(u32, Vec<u8>)> = Vec::new();
    for (name, value) in parameters(params) {
        let name = name.to_ascii_lowercase();
        let Some(tail) = name.strip_prefix(b"boundary") else {
            continue;
        };
        let (section, encoded) = match tail.strip_suffix(b"*") {
            Some(section) => (section, true),
            None => (tail, false),
        };
        let number = match section.strip_prefix(b"*") {
            Some(digits) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())?,
            None if section.is_empty() => 0,
            None => continue,
        };
        if sections.iter().all(|(seen, _)| *seen != number) && sections.len() < 100 {
            sections.push((
                number,
                if encoded {
                    percent_decode(&value, number == 0)
                } else {
                    value
                },
            ));
        }
    }
    sections.sort_by_key(|(number, _)| *number);
    let boundary: Vec<u8> = sections.into_iter().flat_map(|(_, value)| value).collect();
    let boundary = boundary.trim_ascii_end();
    (!boundary.is_empty() && boundary.len() <= MAX_BOUNDARY).then(|| boundary.to_vec())
}

/// `;name=value`, values unquoted.
fn parameters(params: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    super::params::split(params)
        .filter_map(|param| {
            let equals = memchr::memchr(b'=', param)?;
            let (name, value) = param.split_at(equals);
            Some((
                name.trim_ascii(),
                super::params::unquote(value.get(1..)?.trim_ascii()),
            ))
        })
        .collect()
}

fn percent_decode(value: &[u8], with_charset: bool) -> Vec<u8> {
    let text = match value.splitn(3, |b| *b == b'\'').nth(2) {
        Some(text) if with_charset => text,
        _ => value,
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| *first == b'%');
        decoded.push(byte.unwrap_or(*first));
        rest = tail.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or(&[]);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(text: &str) -> Heading {
        let mut heading = Heading::default();
        for text in text.split_inclusive('\n') {
            let text = text.trim_end_matches('\n');
            let line = Line {
                start: 0,
                text_end: 0,
                end: 0,
                len: text.len() as u64,
                eight_bit: !text.is_ascii(),
            };
            assert!(heading.line(&line, text.as_bytes()), "{text}");
        }
        heading
    }

    #[test]
    fn boundaries_in_every_spelling() {
        for params in [
            "boundary=a-b",
            "boundary=\"a-b\"",
            "charset=x; BOUNDARY = \"a\\-b\" ; x=y",
            "charset=\"a;boundary=c\";\n boundary=a-b",
            "(boundary=c) boundary=a-b (a comment; boundary=d)",
            "boundary*=us-ascii''a%2Db",
            "boundary*1=-b; boundary*0=a",
            "boundary*0*=''a%2D; boundary*1=b",
            "boundary=\"a-b \"",
        ] {
            let kind = heading(&format!("Content-Type: Multipart/Mixed; {params}")).kind(false);
            assert_eq!(
                kind,
                Kind::Multipart {
                    boundary: b"a-b".to_vec(),
                    digest: false
                },
                "{params}"
            );
        }
        assert_eq!(
            heading("Content-Type: multipart/mixed; boundary=\"\"").kind(false),
            Kind::Text
        );
        assert_eq!(heading("Content-Type: multipart/mixed").kind(false), Kind::Text);
    }

    #[test]
    fn kinds_and_encodings() {
        assert_eq!(heading("Subject: x").kind(false), Kind::Text);
        assert_eq!(heading("Subject: x").kind(true), Kind::Message);
        assert_eq!(
            heading("content-type : TEXT/html;charset=x").kind(true),
            Kind::Text
        );
        assert_eq!(
            heading("Content-Type:\n image/png\nContent-Type: text/plain").kind(false),
            Kind::Data
        );
        assert_eq!(heading("Content-Type: message/rfc822").kind(false), Kind::Message);
        let wrapped = heading("Content-Type: message/rfc822\nContent-Transfer-Encoding: (no) Base64 (x)");
        assert_eq!(
            (wrapped.kind(false), wrapped.encoding()),
            (Kind::Text, Encoding::Base64)
        );
        assert_eq!(
            heading("Content-Transfer-Encoding: x-uuencode").encoding(),
            Encoding::Plain
        );
        assert_eq!(
            heading("Content-Transfer-Encoding:8BIT").encoding(),
            Encoding::EightBit
        );
        assert!(heading(">From me\nmime-version: 1.0").mime_version);
    }

    #[test]
    fn a_line_that_is_no_field_ends_the_block() {
        let line = Line {
            start: 0,
            text_end: 0,
            end: 0,
            len: 1,
            eight_bit: false,
        };
        for text in ["no colon", ": no name", "two words: x", "naïve: x", ""] {
            assert!(!Heading::default().line(&line, text.as_bytes()), "{text}");
        }
    }
}
