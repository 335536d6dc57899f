//! Mailboxes as they stand in header fields and in the leading block (RFC 5322 §3.4), as bytes.
//!
//! An address is taken exactly as written: quoted local parts stay quoted, nothing is decoded. Display names,
//! comments, group names and RFC 2047 words are stepped over, also with commas and brackets inside. Pure; one pass,
//! whatever the bytes are; not here: what makes an address valid ([`Address`]).

mod reader;

use super::{Address, AddressError};
use reader::{Mode, Reader};

/// One mailbox of a value, or what stands where a mailbox should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox<'a> {
    /// All of it, display name included.
    pub raw: &'a [u8],
    /// Line ends of the value that stand before it.
    pub lines_down: usize,
    /// The address alone: comments and spaces around it removed, quotes kept.
    spec: Vec<u8>,
    bracketed: bool,
    fault: Option<&'static str>,
}

impl Mailbox<'_> {
    /// The address; one without a domain gets `default_domain`.
    pub fn address(&self, default_domain: &str) -> Result<Address, AddressError> {
        let err = |why| Err(AddressError { why });
        if let Some(why) = self.fault {
            return err(why);
        }
        let Ok(spec) = std::str::from_utf8(&self.spec) else {
            return err("it is not UTF-8");
        };
        if !self.bracketed && spec.starts_with('"') && spec.ends_with('"') {
            return err("it is a display name without an address");
        }
        Address::parse(without_source_route(spec), default_domain)
    }

    /// `<>`: the null sender, and nobody as a recipient.
    pub fn is_null(&self) -> bool {
        self.bracketed && self.fault.is_none() && self.spec.is_empty()
    }
}

/// The mailboxes of a `To`, `From` … value in their order; groups are flattened, empty places skipped. A semicolon
/// between mailboxes is taken as a comma (Outlook users write it).
pub fn list(value: &[u8]) -> impl Iterator<Item = Mailbox<'_>> {
    let mut reader = Reader::new(value, Mode::List);
    std::iter::from_fn(move || reader.next_mailbox())
}

/// The one mailbox of an `x-sender` or `x-receiver` value, and the words that follow it; `None` when there is nothing.
pub fn leading(value: &[u8]) -> Option<(Mailbox<'_>, Vec<u8>)> {
    let mut reader = Reader::new(value, Mode::Leading);
    let mut mailbox = reader.next_mailbox()?;
    if mailbox.bracketed || mailbox.fault.is_some() {
        return Some((mailbox, value.get(reader.at..).unwrap_or_default().to_vec()));
    }
    // bare: what follows the first space is parameters, or the whole is no address
    let Some(space) = first_space(&mailbox.spec) else {
        return Some((mailbox, Vec::new()));
    };
    let words = mailbox.spec.split_off(space);
    let mut all = words
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    if !all.all(is_parameter) {
        mailbox.fault = Some("it holds a space outside quotes");
    }
    Some((mailbox, words))
}

/// RFC 5321 §4.1.2: `@a,@b:user@host` is taken as `user@host`.
fn without_source_route(spec: &str) -> &str {
    match spec.split_once(':') {
        Some((route, address)) if route.starts_with('@') => address,
        _ => spec,
    }
}

/// The first space that is not in quotes.
fn first_space(spec: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    spec.iter().position(|&b| {
        let was_escaped = std::mem::take(&mut escaped);
        match b {
            b'"' if !was_escaped => quoted = !quoted,
            b'\\' if !was_escaped => escaped = quoted,
            _ => {}
        }
        b == b' ' && !quoted
    })
}

fn is_parameter(word: &[u8]) -> bool {
    let key = word.iter().position(|b| *b == b'=').and_then(|eq| word.get(..eq));
    key.is_some_and(|key| !key.is_empty() && key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each mailbox as its address, or `!` and why it has none.
    fn read(value: &str) -> Vec<String> {
        list(value.as_bytes()).map(|m| told(&m)).collect()
    }

    fn told(mailbox: &Mailbox<'_>) -> String {
        match mailbox.address("default.example") {
            Ok(address) => address.to_string(),
            Err(error) => format!("!{error}"),
        }
    }

    #[test]
    fn forms_that_writers_use() {
        for (value, want) in [
            ("a@b.example", vec!["a@b.example"]),
            (" <a@b.example> ", vec!["a@b.example"]),
            ("< a@b.example\r\n >", vec!["a@b.example"]),
            (
                "Alice <a@b.example>, c@d.example",
                vec!["a@b.example", "c@d.example"],
            ),
            ("\"O'Brien, \\\"Bob\\\" (x)\" <b@c.example>", vec!["b@c.example"]),
            ("\"a\r\n b\" <b@c.example>", vec!["b@c.example"]),
            (
                "=?utf-8?Q?Smith,_J.?= <j@s.example>, x@y.example",
                vec!["j@s.example", "x@y.example"],
            ),
            ("=?utf-8?Q?<evil@x.example>,?=<j@s.example>", vec!["j@s.example"]),
            (
                "a@b.example (Bob, \\) the (other)), c@d.example",
                vec!["a@b.example", "c@d.example"],
            ),
            ("a @ b.example", vec!["a@b.example"]),
            ("a@b.example;c@d.example;", vec!["a@b.example", "c@d.example"]),
            (",, a@b.example ,", vec!["a@b.example"]),
            ("a@x.example <b@y.example>", vec!["b@y.example"]),
            ("Sender", vec!["Sender@default.example"]),
            (
                "a@[IPv6:::1], b@[127.0.0.1]",
                vec!["a@[IPv6:::1]", "b@[127.0.0.1]"],
            ),
            ("<@r.example,@s.example:a@b.example>", vec!["a@b.example"]),
            ("dörte@bücher.example", vec!["dörte@bücher.example"]),
            ("a@b.example\u{a0}", vec!["a@b.example"]),
            ("", vec![]),
            ("(nobody)", vec![]),
        ] {
            assert_eq!(read(value), want, "{value:?}");
        }
    }

    #[test]
    fn addresses_are_taken_byte_by_byte() {
        for (value, want) in [
            ("\"a b\"@c.example", "\"a b\"@c.example"),
            ("X <\"a>b,c\"@c.example>", "\"a>b,c\"@c.example"),
            ("\"a\\\"b\"@c.example", "\"a\\\"b\"@c.example"),
            ("\"a\r\n b\"@c.example", "\"a b\"@c.example"),
            ("<\"q\">", "\"q\"@default.example"),
            ("A+b.=c@C.Example", "A+b.=c@C.Example"),
            ("=?utf-8?Q?b?=@c.example", "=?utf-8?Q?b?=@c.example"),
        ] {
            assert_eq!(read(value), [want], "{value:?}");
        }
    }

    #[test]
    fn groups_are_flattened() {
        assert_eq!(read("undisclosed-recipients:;"), Vec::<String>::new());
        assert_eq!(
            read("Team \"x\": a@b.example, C <c@d.example>; e@f.example"),
            ["a@b.example", "c@d.example", "e@f.example"]
        );
    }

    #[test]
    fn what_is_no_mailbox_says_why() {
        for (value, want) in [
            ("\"Bob Smith\"", "!it is a display name without an address"),
            ("undisclosed recipients", "!it holds a space outside quotes"),
            ("<a@b.example", "!a bracket is opened and not closed"),
            ("\"Bob <a@b.example>", "!a quote is opened and not closed"),
            ("a@b.example (c", "!a comment is opened and not closed"),
            (
                "<a@b.example> <c@d.example>",
                "!two addresses stand there without a comma between them",
            ),
            (
                "<a@b.example> c@d.example",
                "!more text follows its closing bracket",
            ),
            ("<<a@b.example>", "!a bracket is opened twice"),
            ("a@b.example\rx", "!it holds a control character"),
            ("<>", "!it is empty"),
        ] {
            assert_eq!(read(value), [want], "{value:?}");
        }
        assert_eq!(
            list(b"b\xF6b@c.example").map(|m| told(&m)).collect::<Vec<_>>(),
            ["!it is not UTF-8"]
        );
    }

    #[test]
    fn a_bad_mailbox_does_not_take_the_next_one_with_it() {
        assert_eq!(
            read("a b, <c@d.example> x, e@f.example"),
            [
                "!it holds a space outside quotes",
                "!more text follows its closing bracket",
                "e@f.example"
            ]
        );
    }

    #[test]
    fn each_mailbox_knows_its_line() {
        let lines: Vec<_> = list(b" a@b,\r\n \"x\r\n y\" <c@d>,\r\n\te@f, g@h")
            .map(|m| m.lines_down)
            .collect();
        assert_eq!(lines, [0, 1, 3, 3]);
    }

    #[test]
    fn leading_forms_and_their_parameters() {
        for (value, want, rest) in [
            ("<a@b.example> RET=HDRS", "a@b.example", " RET=HDRS"),
            ("a@b.example NOTIFY=NEVER X=1", "a@b.example", " NOTIFY=NEVER X=1"),
            ("\"A, B\" <a@b.example> X=1", "a@b.example", " X=1"),
            ("O'Brien, Bob <a@b.example>", "a@b.example", ""),
            (
                "a@b.example RET=FULL auth=<c@d.example>",
                "a@b.example",
                " RET=FULL auth=<c@d.example>",
            ),
            ("=?utf-8?Q?x?=\r\n =?utf-8?Q?y?=<a@b.example>", "a@b.example", ""),
            ("\"a b\"@c.example X=1", "\"a b\"@c.example", " X=1"),
            (
                "Alice a@b.example",
                "!it holds a space outside quotes",
                " a@b.example",
            ),
            (
                "a@b.example, c@d.example",
                "!it holds a space outside quotes",
                " c@d.example",
            ),
        ] {
            let (mailbox, words) = leading(value.as_bytes()).unwrap();
            let words = String::from_utf8(words).unwrap();
            assert_eq!(
                (told(&mailbox).as_str(), words.as_str()),
                (want, rest),
                "{value:?}"
            );
        }
        assert!(leading(b" <> RET=FULL").unwrap().0.is_null());
        assert!(leading(b"  ").is_none());
    }

    /// Bytes that make a reader which looks back or ahead too often stand still.
    #[test]
    fn no_value_takes_long() {
        for part in [
            "=?a?q?",
            "=?",
            "(",
            "\"",
            "<",
            "a@b,",
            ":",
            ";",
            "\\",
            "[",
            "=?a?q?x ",
            "=?a?q?x,",
            "=?a?q?x?=,",
            "\r\n ",
        ] {
            crate::effort::is_linear(part, 1 << 17, |times| {
                let value = part.repeat(times);
                assert!(list(value.as_bytes()).count() <= times);
                leading(value.as_bytes());
            });
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value: Vec<u8>) {
            for mailbox in list(&value) {
                let _ = mailbox.address("d.example");
            }
            leading(&value);
        }

        #[test]
        fn any_valid_address_is_read_back(local in "[a-z.+=?'-]{1,9}|\"([ !#-\\[\\]-~]|\\\\[\"\\\\]){0,9}\"", domain in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}") {
            let text = format!("{local}@{domain}");
            let address = Address::parse(&text, "d").unwrap();
            prop_assert_eq!(list(format!(" =?utf-8?Q?N?= <{text}>,").as_bytes()).next().unwrap().address("d"), Ok(address.clone()));
            prop_assert_eq!(list(text.as_bytes()).next().unwrap().address("d"), Ok(address.clone()));
            prop_assert_eq!(leading(format!("<{text}> A=b").as_bytes()).unwrap().0.address("d"), Ok(address));
        }
    }
}
