//! What single header values mean, read by mail-parser; this module alone names that crate.
//!
//! Only one field at a time is handed over, and only up to [`LONGEST`] bytes, so that its parser never sees a body
//! (a full parse of nested messages overflows the stack) nor a value that could hold it up. Addresses are not read
//! here: it drops quotes and escapes of local parts ([`super::mailbox`] keeps them).

use super::header;
use mail_parser::{HeaderName, HeaderValue, MessageParser, MimeHeaders as _};
use std::sync::LazyLock;

/// Values longer than this are not looked into.
pub const LONGEST: usize = 16 * 1024;

static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_content_type(HeaderName::ContentType)
        .header_id(HeaderName::MessageId)
        .header_text(HeaderName::Subject)
        .default_header_ignore()
});

/// What a `Content-Type` value says of the whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// `multipart/*`
    pub is_multipart: bool,
    /// Its `boundary`, RFC 2231 forms understood.
    pub boundary: Option<String>,
    /// Its `charset`, as written.
    pub charset: Option<String>,
}

/// Reads the value of a `Content-Type` field; `None` when it has no type.
pub fn content_type(value: &[u8]) -> Option<ContentType> {
    if let Some(plain) = plain_type(value) {
        return Some(plain);
    }
    let field = as_field("Content-Type", value)?;
    let message = PARSER.parse_headers(&field)?;
    let found = message.content_type()?;
    let attribute = |name| found.attribute(name).map(str::to_owned);
    Some(ContentType {
        is_multipart: found.ctype().eq_ignore_ascii_case("multipart"),
        // RFC 2231 can write any character; a boundary stands on one line.
        boundary: attribute("boundary").filter(|b| !b.is_empty() && !b.contains(['\r', '\n'])),
        charset: attribute("charset"),
    })
}

/// The first id of a `Message-ID` value, without brackets; `None` when there is none that can be shown.
pub fn message_id(value: &[u8]) -> Option<String> {
    if let Some(id) = plain_id(value) {
        return Some(id.to_owned());
    }
    let field = as_field("Message-ID", value)?;
    let message = PARSER.parse_headers(&field)?;
    let id = match message.header(HeaderName::MessageId)? {
        HeaderValue::Text(id) => id.trim(),
        HeaderValue::TextList(ids) => ids.first()?.trim(),
        _ => return None,
    };
    (!id.is_empty() && !id.chars().any(char::is_control)).then(|| id.to_owned())
}

/// `text/plain; charset=utf-8`: of the forms in which most programs write it, without a parser.
fn plain_type(value: &[u8]) -> Option<ContentType> {
    let value = std::str::from_utf8(header::without_line_end(value))
        .ok()?
        .trim_matches(' ');
    let (kind, charset) = match value.split_once("; charset=") {
        Some((kind, charset)) => (kind, Some(charset)),
        None => (value, None),
    };
    let (top, sub) = kind.split_once('/')?;
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_plain = is_token(top) && is_token(sub) && charset.is_none_or(is_token);
    (is_plain && !top.eq_ignore_ascii_case("multipart")).then(|| ContentType {
        is_multipart: false,
        boundary: None,
        charset: charset.map(str::to_owned),
    })
}

/// `<id>` of letters, digits and a few marks, as most programs write it.
fn plain_id(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(header::without_line_end(value))
        .ok()?
        .trim_matches(' ');
    let id = value.strip_prefix('<')?.strip_suffix('>')?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'.' | b'-' | b'_' | b'+' | b'$');
    (!id.is_empty() && id.len() < LONGEST / 2 && id.bytes().all(is_plain)).then_some(id)
}

/// A text value for people, e.g. `Subject`: RFC 2047 words decoded, one line.
pub fn text(value: &[u8]) -> String {
    let decoded = as_field("Subject", value)
        .and_then(|field| Some(PARSER.parse_headers(&field)?.subject()?.to_owned()))
        .unwrap_or_else(|| header::unfold(value.get(..LONGEST).unwrap_or(value)));
    decoded
        .split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// One field and the end of the header block; a CR without LF would make the parser take what follows for the value.
fn as_field(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    if value.len() > LONGEST {
        return None;
    }
    let value = header::without_line_end(value);
    Some([name.as_bytes(), b": ", value, b"\r\n\r\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_comes_to_the_same(
            kind in "(text|TEXT|image|message|Multipart|a-b)/[a-z0-9-]{1,8}", charset in "(; charset=[a-zA-Z0-9-]{1,12})?",
            id in "[a-zA-Z0-9@._+$-]{1,40}", end in "(\r\n|\n|)",
        ) {
            let parsed = |name, value: &str| PARSER.parse_headers(&as_field(name, value.as_bytes()).unwrap()).unwrap().into_owned();
            let value = format!(" {kind}{charset}{end}");
            if let Some(plain) = plain_type(value.as_bytes()) {
                let message = parsed("Content-Type", &value);
                let by_parser = message.content_type().unwrap();
                prop_assert!(!by_parser.ctype().eq_ignore_ascii_case("multipart"));
                prop_assert_eq!(plain.charset.as_deref(), by_parser.attribute("charset"));
            } else {
                prop_assert!(kind.starts_with("Multipart"));
            }
            let value = format!(" <{id}>{end}");
            let message = parsed("Message-ID", &value);
            prop_assert_eq!(plain_id(value.as_bytes()), message.message_id());
        }
    }

    fn boundary(value: &str) -> Option<String> {
        content_type(value.as_bytes()).and_then(|t| t.boundary)
    }

    #[test]
    fn boundaries_of_real_writers() {
        for (value, want) in [
            (
                "multipart/mixed;\r\n boundary=--boundary_0_8bfe2afa-370d",
                "--boundary_0_8bfe2afa-370d",
            ),
            ("multipart/mixed; boundary=\"=_a b(c)\"", "=_a b(c)"),
            (
                "Multipart/Alternative; BOUNDARY=\"----=_NextPart_000\"; charset=x",
                "----=_NextPart_000",
            ),
            ("multipart/mixed; boundary*0=\"ab\"; boundary*1=\"cd\"", "abcd"),
            ("multipart/mixed; charset=\"a;boundary=no\"; boundary=yes", "yes"),
            ("multipart/mixed; (boundary=no) boundary=yes", "yes"),
            ("multipart/mixed; boundary='a'", "'a'"),
        ] {
            let found = content_type(value.as_bytes()).unwrap();
            assert!(found.is_multipart, "{value}");
            assert_eq!(found.boundary.as_deref(), Some(want), "{value}");
        }
        assert_eq!(boundary("multipart/mixed"), None);
        assert_eq!(boundary("multipart/mixed; boundary=\"\""), None);
        assert_eq!(
            boundary("multipart/mixed; boundary*=utf-8''a%0Ab"),
            None,
            "no line is that"
        );
        assert!(!content_type(b"text/plain; boundary=x").unwrap().is_multipart);
        assert_eq!(content_type(b""), None);
    }

    #[test]
    fn charsets() {
        let of = |value: &str| content_type(value.as_bytes()).and_then(|t| t.charset);
        assert_eq!(
            of("text/plain;\r\n\tcharset=\"iso-8859-1\"").as_deref(),
            Some("iso-8859-1")
        );
        assert_eq!(of("text/plain"), None);
    }

    #[test]
    fn message_ids() {
        assert_eq!(message_id(b" <a.b@c>").as_deref(), Some("a.b@c"));
        assert_eq!(message_id(b"\r\n <a@b>\r\n <c@d>").as_deref(), Some("a@b"));
        assert_eq!(message_id(b" bare@c ").as_deref(), Some("bare@c"));
        assert_eq!(message_id(b" "), None);
        assert_eq!(message_id(b"<a\x07b>"), None);
    }

    #[test]
    fn texts() {
        assert_eq!(text(b" =?utf-8?Q?Gr=C3=BC=C3=9Fe?= an\r\n alle"), "Grüße an alle");
        assert_eq!(text(b" a\rb\x00c"), "a b c");
        assert_eq!(text(b""), "");
        assert_eq!(text(&b"x".repeat(LONGEST + 1)).len(), LONGEST);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value: Vec<u8>) {
            content_type(&value);
            message_id(&value);
            text(&value);
        }
    }
}
