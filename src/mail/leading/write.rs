//! An [`Envelope`] as a leading block: for Drop, Badmail and every file of ours that goes through Pickup again.

use super::parameters::{is_envid, is_orcpt};
use super::{END_MARK, EXCHANGE, OURS, is_one_of};
use crate::mail::{Address, Envelope, Recipient, header};

/// A line of the block: the message is whole, whatever its boundaries say.
pub const COMPLETE: &[u8] = b"x-complete: yes\r\n";

/// The block, CRLF lines, nothing after it; `dots` is the value of an `x-dots` line (`literal`, `stuffed`).
///
/// Nothing in an envelope can add a line or a parameter: addresses hold no control character, and parameters are
/// only written when they are valid xtext. A recipient that is not an address is written so that it is none again
/// when read.
pub fn write(env: &Envelope, dots: Option<&str>) -> Vec<u8> {
    let mut out = String::new();
    out.push_str("x-sender: ");
    push_sender(&mut out, env);
    for recipient in &env.recipients {
        out.push_str("\r\nx-receiver: ");
        push_recipient(&mut out, recipient);
    }
    if let Some(word) = dots.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase())) {
        out.push_str("\r\nx-dots: ");
        out.push_str(word);
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// The block above a header block that stays as it is and begins with `header`. Fields in it that look like ours are
/// the message's own (they stood below an end mark): they must not be read as a part of the block, or a stranger's
/// header would name recipients. So the end is marked as Exchange does it, where it would not be seen otherwise.
pub fn write_above(header: &[u8], env: &Envelope, dots: Option<&str>, complete: bool) -> Vec<u8> {
    let mut out = write(env, dots);
    if complete {
        out.extend_from_slice(COMPLETE);
    }
    let first_line = header::lines(header).next().unwrap_or_default();
    let ends_by_itself = match header::scan(first_line, 1).as_deref() {
        Ok([first]) => !is_one_of(first, &OURS) && !is_one_of(first, &EXCHANGE) && !first.is(END_MARK),
        // no field, or one that is cut off before its colon
        _ => header::without_line_end(first_line).is_empty(),
    };
    if !ends_by_itself {
        out.extend_from_slice(format!("{END_MARK}: 0\r\n").as_bytes());
    }
    out
}

fn push_sender(out: &mut String, env: &Envelope) {
    match &env.sender {
        Some(address) => push_address(out, address),
        None => out.push_str("<>"),
    }
    if let Some(ret) = env.ret {
        push_parameter(out, "RET", ret.as_str());
    }
    if let Some(envid) = env.envid.as_deref().filter(|text| is_envid(text)) {
        push_parameter(out, "ENVID", envid);
    }
    if let Some(body) = env.body {
        push_parameter(out, "BODY", body.as_str());
    }
}

fn push_recipient(out: &mut String, recipient: &Recipient) {
    push_address(out, &recipient.address);
    if let Some(notify) = recipient.notify {
        push_parameter(out, "NOTIFY", &notify.to_string());
    }
    if let Some(orcpt) = recipient.orcpt.as_deref().filter(|text| is_orcpt(text)) {
        push_parameter(out, "ORCPT", orcpt);
    }
}

fn push_parameter(out: &mut String, key: &str, value: &str) {
    out.push(' ');
    out.push_str(key);
    out.push('=');
    out.push_str(value);
}

fn push_address(out: &mut String, address: &Address) {
    out.push('<');
    if address.is_routable() {
        out.push_str(address.as_str());
    } else {
        push_no_address(out, address.as_str());
    }
    out.push('>');
}

/// Between brackets, a text that must not become an address: quotes and brackets could end or hide it, and without
/// a space outside quotes it might be valid after all.
fn push_no_address(out: &mut String, text: &str) {
    let harmless = |c: char| {
        if matches!(c, '<' | '>' | '"' | '\\') || c.is_control() {
            '?'
        } else {
            c
        }
    };
    let text: String = text.trim().chars().map(harmless).collect();
    out.push_str(&text);
    if Address::parse(&text, "default.invalid").is_ok() || text.is_empty() || text.contains(':') {
        out.push_str("? ?");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::leading::{Leading, read};
    use crate::mail::{BodyType, Notify, Ret, header};
    use proptest::prelude::*;

    fn read_back(block: &[u8]) -> Leading {
        read(&header::scan(block, 1).unwrap(), block, "default.example")
    }

    /// The envelope that a block stands for, when all is well with it.
    fn envelope(leading: Leading) -> Envelope {
        let sender = leading.sender.unwrap();
        Envelope {
            sender: sender.address.unwrap(),
            ret: sender.ret,
            envid: sender.envid,
            body: sender.body,
            recipients: leading
                .receivers
                .into_iter()
                .map(|r| Recipient {
                    address: r.address.unwrap_or_else(|bad| Address::unroutable(&bad.text)),
                    notify: r.notify,
                    orcpt: r.orcpt,
                })
                .collect(),
        }
    }

    fn address(text: &str) -> Address {
        Address::parse(text, "d.example").unwrap()
    }

    #[test]
    fn as_the_contract_shows_it() {
        let env = Envelope {
            sender: Some(address("app@example.com")),
            ret: Some(Ret::Hdrs),
            envid: Some("12345".into()),
            body: None,
            recipients: vec![
                Recipient {
                    address: address("bob@example.net"),
                    notify: Notify::parse("FAILURE,DELAY"),
                    orcpt: Some("rfc822;bob@example.net".into()),
                },
                Recipient::plain(address("carol@example.net")),
            ],
        };
        assert_eq!(
            String::from_utf8(write(&env, Some("literal"))).unwrap(),
            "x-sender: <app@example.com> RET=HDRS ENVID=12345\r\n\
             x-receiver: <bob@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@example.net\r\n\
             x-receiver: <carol@example.net>\r\n\
             x-dots: literal\r\n"
        );
    }

    #[test]
    fn no_value_can_add_a_line() {
        let env = Envelope {
            sender: None,
            envid: Some("a\r\nx-receiver: <evil@x>".into()),
            recipients: vec![Recipient {
                orcpt: Some("rfc822;a\nb".into()),
                ..Recipient::plain(address("bob@example.net"))
            }],
            ..Envelope::default()
        };
        assert_eq!(
            String::from_utf8(write(&env, Some("literal\r\nx-receiver: <evil@x>"))).unwrap(),
            "x-sender: <>\r\nx-receiver: <bob@example.net>\r\n"
        );
    }

    #[test]
    fn a_header_that_looks_like_the_block_is_kept_out_of_it() {
        let env = Envelope {
            recipients: vec![Recipient::plain(address("bob@example.net"))],
            ..Envelope::default()
        };
        for (header, fields) in [
            ("X-Receiver: <evil@x.example>\r\n", 3),
            ("\u{a0}x-sender : <evil@x.example>\n", 3),
            ("X-Dots: stuffed\r\n", 3),
            ("X-Source: x\r\nX-EndOfInjectedXHeaders: 0\r\n", 3),
            (
                "X-EndOfInjectedXHeaders: 0\r\nX-Receiver: <evil@x.example>\r\n",
                3,
            ),
            ("From: a@b\r\nX-Receiver: <evil@x.example>\r\n", 2),
            ("", 2),
        ] {
            let mut file = write_above(header.as_bytes(), &env, None, false);
            file.extend_from_slice(header.as_bytes());
            let leading = read_back(&file);
            assert_eq!((leading.fields, leading.dots), (fields, None), "{header}");
            assert_eq!(envelope(leading), env, "{header}");
        }
        assert_eq!(write_above(b"\r\nbody", &env, None, false), write(&env, None));
    }

    #[test]
    fn what_is_no_address_stays_none() {
        for text in [
            "a b@c",
            "a@b> c",
            "x <good@b.example",
            "",
            "bob",
            "\"q",
            "@a:b@c.example",
            "<>",
            "a@b\r\nc",
        ] {
            let env = Envelope {
                recipients: vec![Recipient::plain(Address::unroutable(text))],
                ..Envelope::default()
            };
            let leading = read_back(&write(&env, None));
            assert_eq!(leading.receivers.len(), 1, "{text:?}");
            assert!(leading.receivers[0].address.is_err(), "{text:?}");
        }
    }

    fn addresses() -> impl Strategy<Value = Address> {
        let local = "[a-zä.+=?'-]{1,9}|\"([ !#-\\[\\]-~]|\\\\[\"\\\\]){0,9}\"";
        (local, "[a-zü]{1,9}(\\.[a-z]{1,9}){0,2}|\\[127\\.0\\.0\\.1\\]")
            .prop_map(|(l, d)| address(&format!("{l}@{d}")))
    }

    fn notifies() -> impl Strategy<Value = Notify> {
        any::<(bool, bool, bool)>().prop_map(|(success, failure, delay)| Notify {
            success,
            failure,
            delay,
        })
    }

    fn recipients() -> impl Strategy<Value = Recipient> {
        let orcpt = proptest::option::of("rfc822;[!-*,-<>-~]{1,9}(\\+2B)?");
        (addresses(), proptest::option::of(notifies()), orcpt).prop_map(|(address, notify, orcpt)| {
            Recipient {
                address,
                notify,
                orcpt,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            sender in proptest::option::of(addresses()),
            ret in proptest::option::of(prop_oneof![Just(Ret::Full), Just(Ret::Hdrs)]),
            body in proptest::option::of(prop_oneof![Just(BodyType::SevenBit), Just(BodyType::EightBitMime)]),
            envid in proptest::option::of("[!-*,-<>-~]{1,20}"),
            recipients in proptest::collection::vec(recipients(), 0..5),
        ) {
            let env = Envelope { sender, ret, envid, body, recipients };
            let leading = read_back(&write(&env, None));
            prop_assert_eq!(&leading.remarks, &Default::default());
            prop_assert_eq!(envelope(leading), env);
        }

        #[test]
        fn no_text_becomes_an_address(text: String) {
            let env = Envelope { recipients: vec![Recipient::plain(Address::unroutable(&text))], ..Envelope::default() };
            let leading = read_back(&write(&env, None));
            prop_assert_eq!(leading.receivers.len(), 1);
            prop_assert!(leading.receivers[0].address.is_err());
        }
    }
}
