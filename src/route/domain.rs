//! The one form in which domains are compared and looked up: lower case, A-labels, no final dot.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use idna::AsciiDenyList;

/// What stands after the `@`, ready to be compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain<'a> {
    /// A name in lower-case A-labels.
    Name(Cow<'a, str>),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

/// Why a text is no domain that mail can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotADomain {
    /// An address literal whose address is none.
    Literal,
    /// An IP address without brackets.
    BareAddress,
    /// Not a name under IDNA (UTS 46): forbidden characters or a broken `xn--` label.
    Idna,
    /// Longer than the DNS allows, in all or in one label, or with an empty label.
    Length,
}

impl fmt::Display for NotADomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Literal => "its address literal is neither [1.2.3.4] nor [IPv6:…]",
            Self::BareAddress => "an IP address must stand in brackets, as in bob@[192.0.2.1]",
            Self::Idna => "its domain is not a valid internationalised name",
            Self::Length => "its domain is longer than the DNS allows or has an empty label",
        })
    }
}

/// RFC 1035 §2.3.4, as text without the final dot.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

impl<'a> Domain<'a> {
    /// Reads a domain in any letter case, with U-labels or A-labels. Copies only what has to change.
    pub fn parse(text: &'a str) -> Result<Self, NotADomain> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(NotADomain::Literal)?;
            return literal(inner).map(Self::Literal).ok_or(NotADomain::Literal);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let name = if is_plain(text) {
            Cow::Borrowed(text)
        } else {
            idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::EMPTY).map_err(|_| NotADomain::Idna)?
        };
        // UTS 46 maps some characters to a dot or to punctuation
        if !name.bytes().all(is_host_byte) {
            return Err(NotADomain::Idna);
        }
        if name.len() > MAX_NAME
            || name
                .split('.')
                .any(|label| label.is_empty() || label.len() > MAX_LABEL)
        {
            return Err(NotADomain::Length);
        }
        if name.parse::<Ipv4Addr>().is_ok() {
            return Err(NotADomain::BareAddress);
        }
        Ok(Self::Name(name))
    }

    /// The form that is compared; an address literal in its brackets.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Name(name) => Cow::Borrowed(name),
            Self::Literal(IpAddr::V4(ip)) => Cow::Owned(format!("[{ip}]")),
            Self::Literal(IpAddr::V6(ip)) => Cow::Owned(format!("[IPv6:{ip}]")),
        }
    }
}

/// Whether nothing has to be mapped: the common case, decided without a table.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| is_host_byte(b) && !b.is_ascii_uppercase()) && !text.contains("xn--")
}

/// Letters, digits, hyphen and dot; the underscore because hosts in the field have it.
pub(super) fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

fn literal(inner: &str) -> Option<IpAddr> {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner.get(5..)?.parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        for text in [
            "bücher.example",
            "BÜCHER.Example",
            "bu\u{308}cher.example",
            "xn--bcher-kva.example",
            "XN--BCHER-KVA.EXAMPLE",
            "bücher。example",
            "xn--bcher-kva.example.",
        ] {
            assert_eq!(
                Domain::parse(text).unwrap().text(),
                "xn--bcher-kva.example",
                "{text}"
            );
        }
        assert_eq!(Domain::parse("_x.A-b.Example").unwrap().text(), "_x.a-b.example");
        assert!(matches!(
            Domain::parse("plain.example"),
            Ok(Domain::Name(Cow::Borrowed("plain.example")))
        ));
        assert_eq!(Domain::parse("[IPV6:0:0::1]").unwrap().text(), "[IPv6:::1]");
        assert_eq!(Domain::parse("[192.0.2.1]").unwrap().text(), "[192.0.2.1]");
    }

    #[test]
    fn says_what_is_no_domain() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = "abc.".repeat(64) + "example";
        let idn = "ü".repeat(70) + ".example";
        for (text, why) in [
            ("xn--\u{fc}.example", NotADomain::Idna),
            ("xn--999999999.example", NotADomain::Idna),
            ("a\u{2100}b.example", NotADomain::Idna),
            ("b\u{200d}.example", NotADomain::Idna),
            ("a..example", NotADomain::Length),
            ("a。。example", NotADomain::Length),
            ("", NotADomain::Length),
            (long.as_str(), NotADomain::Length),
            (longer.as_str(), NotADomain::Length),
            (idn.as_str(), NotADomain::Length),
            ("192.0.2.1", NotADomain::BareAddress),
            ("１９２.0.2.1", NotADomain::BareAddress),
            ("[192.0.2]", NotADomain::Literal),
            ("[::1]", NotADomain::Literal),
            ("[IPv6:::1", NotADomain::Literal),
        ] {
            assert_eq!(Domain::parse(text), Err(why), "{text}");
        }
    }
}
