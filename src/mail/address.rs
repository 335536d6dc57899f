//! Mailbox addresses as they stand in SMTP commands (RFC 5321 §4.1.2, RFC 6531).

use std::fmt;
use std::hash::{Hash, Hasher};

/// `local-part@domain`, checked to be safe between `<` and `>` of an SMTP command.
///
/// The local part is in the form the wire wants (quoted where it must be) and is compared byte by byte; the domain
/// is kept as written and compared without regard to ASCII case. Non-ASCII text is allowed on both sides
/// (SMTPUTF8); control characters, unquoted spaces and angle brackets are not.
#[derive(Clone)]
pub struct Address {
    text: Box<str>,
    /// Byte offset of the `@` that divides the two; `None` for an [`Address::unroutable`].
    at: Option<u32>,
}

/// Why a text is not an address, in words that stand in reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    /// One clause without a full stop, e.g. `it holds a space outside quotes`.
    pub why: &'static str,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

/// RFC 5321 §4.5.3.1.3 allows 256 octets for a path; we are as generous as the hosts in the field are.
const MAX_ADDRESS: usize = 512;
/// RFC 1035 §2.3.4.
const MAX_DOMAIN: usize = 255;

impl Address {
    /// Reads a bare `local@domain`; a text without a domain gets `default_domain`.
    pub fn parse(text: &str, default_domain: &str) -> Result<Self, AddressError> {
        let err = |why| Err(AddressError { why });
        if text.is_empty() {
            return err("it is empty");
        }
        if text.len() > MAX_ADDRESS {
            return err("it is longer than 512 bytes");
        }
        if text.chars().any(char::is_control) {
            return err("it holds a control character");
        }
        let local_end = local_part_end(text)?;
        let (local, rest) = text.split_at(local_end);
        if local.is_empty() {
            return err("nothing stands before the @");
        }
        let domain = match rest.strip_prefix('@') {
            Some("") => return err("nothing follows the @"),
            Some(domain) => domain,
            None if rest.is_empty() => default_domain,
            None => return err("its local part holds a character that must be quoted"),
        };
        check_domain(domain)?;
        // Also with the domain that was not written: what is kept of it is read by this again.
        if local.len() + 1 + domain.len() > MAX_ADDRESS {
            return err("it is longer than 512 bytes");
        }
        Ok(Self {
            text: format!("{local}@{domain}").into(),
            at: u32::try_from(local_end).ok(),
        })
    }

    /// A text that is not an address, kept so that reports can name it. It has no domain and can only fail.
    pub fn unroutable(text: &str) -> Self {
        // what ENV keeps of it is read by this again: the ends go until none of them is left to go
        let is_space = |c: char| c.is_whitespace() || c.is_control();
        let text = text.trim_start_matches(|c| c == '<' || is_space(c));
        let shown: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_ADDRESS)
            .collect();
        Self {
            text: shown.trim_end_matches(|c| c == '>' || is_space(c)).into(),
            at: None,
        }
    }

    /// Whether this can be routed at all (`false` only for [`Address::unroutable`]).
    pub fn is_routable(&self) -> bool {
        self.at.is_some()
    }

    /// The whole address without angle brackets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, in wire form.
    pub fn local_part(&self) -> &str {
        self.text.get(..self.split()).unwrap_or(&self.text)
    }

    /// What stands after the `@`, as written; empty for an unroutable text.
    pub fn domain(&self) -> &str {
        self.text.get(self.split().saturating_add(1)..).unwrap_or("")
    }

    /// Whether every byte is ASCII, so that the address needs no SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The same local part at another domain; used for masquerade and for IDN A-labels.
    pub fn at_domain(&self, domain: &str) -> Result<Self, AddressError> {
        Self::parse(&format!("{}@{domain}", self.local_part()), domain)
    }

    fn split(&self) -> usize {
        self.at.map_or(self.text.len(), |at| at as usize)
    }
}

/// Where the local part ends: at the dividing `@`, or at the end of the text.
fn local_part_end(text: &str) -> Result<usize, AddressError> {
    let err = |why| Err(AddressError { why });
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'"') {
        let mut i = 1;
        loop {
            match bytes.get(i) {
                Some(b'\\') => i += 2,
                Some(b'"') => return Ok(i + 1),
                Some(_) => i += 1,
                None => return err("a quote is opened and not closed"),
            }
        }
    }
    for (i, c) in text.char_indices() {
        match c {
            '@' => return Ok(i),
            // of any kind: readers take a non-breaking one away
            c if c.is_whitespace() => return err("it holds a space outside quotes"),
            '<' | '>' | '(' | ')' | ',' | ';' | ':' | '\\' | '"' | '[' | ']' => {
                return err("its local part holds a character that must be quoted");
            }
            _ => {}
        }
    }
    Ok(bytes.len())
}

/// A host name (U-labels allowed) or an address literal in brackets.
fn check_domain(domain: &str) -> Result<(), AddressError> {
    let err = |why| Err(AddressError { why });
    if domain.len() > MAX_DOMAIN {
        return err("its domain is longer than 255 bytes");
    }
    if let Some(literal) = domain.strip_prefix('[') {
        let inner = literal.strip_suffix(']').unwrap_or("");
        let ip = inner
            .get(..5)
            .filter(|tag| tag.eq_ignore_ascii_case("IPv6:"))
            .and_then(|_| inner.get(5..));
        return match ip {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
            None if inner.parse::<std::net::Ipv4Addr>().is_ok() => Ok(()),
            _ => err("its address literal is neither [1.2.3.4] nor [IPv6:…]"),
        };
    }
    for label in domain.split('.') {
        if label.is_empty() {
            return err("its domain has an empty label (two dots, or a dot at an end)");
        }
        if label.is_ascii() && label.len() > 63 {
            return err("its domain has a label longer than 63 bytes");
        }
        if !label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii() && !c.is_whitespace())
        {
            return err("its domain holds a character that no host name has");
        }
    }
    Ok(())
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
            && self.local_part() == other.local_part()
            && self.domain().eq_ignore_ascii_case(other.domain())
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local_part().hash(state);
        for b in self.domain().bytes() {
            state.write_u8(b.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(text, "default.example")
    }

    #[test]
    fn accepts_what_hosts_in_the_field_use() {
        for (text, local, domain) in [
            ("a@b.example", "a", "b.example"),
            ("a..b@c.example", "a..b", "c.example"),
            (".a.@c", ".a.", "c"),
            ("_dmarc@_x.example", "_dmarc", "_x.example"),
            ("\"q s@x\"@d.example", "\"q s@x\"", "d.example"),
            ("\"a\\\"b\"@d.example", "\"a\\\"b\"", "d.example"),
            ("c@[127.0.0.1]", "c", "[127.0.0.1]"),
            ("c@[IPv6:::1]", "c", "[IPv6:::1]"),
            ("Sender", "Sender", "default.example"),
            ("dörte@bücher.example", "dörte", "bücher.example"),
        ] {
            let address = parse(text).unwrap();
            assert_eq!(
                (address.local_part(), address.domain()),
                (local, domain),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_could_break_a_command() {
        for text in [
            "",
            "@b",
            "a@",
            "a b@c",
            "a@b c",
            "a>b@c",
            "a@b>",
            "a@b\r\nRCPT",
            "\"a@b",
            "a@b@c",
            "a@b..c",
            "a@.b",
            "a@[300.1.1.1]",
            "a@[::1]",
            "a@b.",
            "<a@b>",
            "a,b@c",
            "\u{a0}a@b",
            "a\u{2003}b@c",
            "a@b\u{a0}",
            "a@b\u{2028}c",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&format!("{}@b", "x".repeat(600))).is_err());
    }

    #[test]
    fn the_bound_counts_the_domain_that_is_added() {
        let local = |len: usize| "x".repeat(len - "@default.example".len());
        let longest = parse(&local(MAX_ADDRESS)).unwrap();
        assert_eq!(parse(longest.as_str()).unwrap(), longest);
        assert!(parse(&local(MAX_ADDRESS + 1)).is_err());
    }

    #[test]
    fn domains_compare_without_case_and_local_parts_with_it() {
        assert_eq!(parse("a@B.example").unwrap(), parse("a@b.EXAMPLE").unwrap());
        assert_ne!(parse("A@b.example").unwrap(), parse("a@b.example").unwrap());
    }

    #[test]
    fn an_unroutable_text_has_no_domain() {
        let bad = Address::unroutable("a b\r\n@c");
        assert_eq!(
            (bad.as_str(), bad.domain(), bad.is_routable()),
            ("a b  @c", "", false)
        );
    }

    #[test]
    fn an_unroutable_text_reads_back_as_it_was_written() {
        let cut = format!("{}  x", "a".repeat(MAX_ADDRESS - 2));
        for text in [
            "<< a >>",
            " < <a> > ",
            "\u{7}<\r\na\u{85}",
            "<>",
            "a\u{a0}>",
            &cut,
        ] {
            let bad = Address::unroutable(text);
            assert_eq!(Address::unroutable(bad.as_str()), bad, "{text:?}");
        }
        assert_eq!(Address::unroutable("<< a >>").as_str(), "a");
    }
}
