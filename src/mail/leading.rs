//! The leading block: the envelope written on top of a message file (contract §2); read here, written in [`write()`].
//!
//! It is made of `x-sender`, `x-receiver` and `x-dots` fields, in any letter case and order, folded or not, and ends
//! with the first other field. Pure. Not here: what the envelope becomes when a half of it is missing
//! (`pickup::envelope`).

pub mod parameters;
mod write;

pub use write::{COMPLETE, write, write_above};

use super::header::{self, Field};
use super::mailbox::{self, Mailbox};
use super::remarks::Remarks;
use super::{Address, BodyType, Notify, Ret};

/// What the leading block of a file says.
#[derive(Debug, Clone, Default)]
pub struct Leading {
    /// So many fields at the top belong to it.
    pub fields: usize,
    /// The first `x-sender` line.
    pub sender: Option<SenderLine>,
    /// The `x-receiver` lines that name somebody.
    pub receivers: Vec<ReceiverLine>,
    /// How lines that begin with a period are meant, if `x-dots` says so.
    pub dots: Option<SaidDots>,
    /// `x-complete: yes`: it is all there, also without the closing boundary of a multipart.
    pub complete: bool,
    /// What was not understood and does no harm.
    pub remarks: Remarks,
}

/// An `x-sender` line.
#[derive(Debug, Clone)]
pub struct SenderLine {
    /// Where it stands.
    pub place: Place,
    /// `None` is the null sender.
    pub address: Result<Option<Address>, Bad>,
    /// RET
    pub ret: Option<Ret>,
    /// ENVID, valid xtext
    pub envid: Option<String>,
    /// BODY
    pub body: Option<BodyType>,
}

/// An `x-receiver` line.
#[derive(Debug, Clone)]
pub struct ReceiverLine {
    /// Where it stands.
    pub place: Place,
    /// Who it names.
    pub address: Result<Address, Bad>,
    /// NOTIFY
    pub notify: Option<Notify>,
    /// ORCPT, valid
    pub orcpt: Option<String>,
}

/// Which field, as written, on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the field as written.
    pub field: String,
    /// Line of the file.
    pub line: usize,
}

/// A text that should be an address and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The text, by [`header::shown`].
    pub text: String,
    /// Why, in words that go after "because".
    pub why: &'static str,
}

/// A value of `x-dots`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidDots {
    /// Every byte is meant.
    Literal,
    /// One period is to be removed from each line that begins with one.
    Stuffed,
}

/// Reads the leading block from the `fields` of a header `block`; an address without a domain gets `default_domain`.
pub fn read(fields: &[Field<'_>], block: &[u8], default_domain: &str) -> Leading {
    let mut leading = Leading {
        fields: extent(fields),
        ..Leading::default()
    };
    for field in fields.iter().take(leading.fields) {
        let value = field.value_in(block);
        if field.is("x-sender") {
            leading.take_sender(field, value, default_domain);
        } else if field.is("x-receiver") {
            leading.take_receiver(field, value, default_domain);
        } else if field.is("x-dots") {
            leading.take_dots(field, value);
        } else if field.is("x-complete") {
            leading.take_complete(field, value);
        }
    }
    leading
}

/// The address of a mailbox, or what stands there and why it is none.
pub fn address_of(mailbox: &Mailbox<'_>, default_domain: &str) -> Result<Address, Bad> {
    mailbox.address(default_domain).map_err(|error| Bad {
        text: header::shown(mailbox.raw),
        why: error.why,
    })
}

const OURS: [&str; 4] = ["x-sender", "x-receiver", "x-dots", "x-complete"];
const EXCHANGE: [&str; 6] = [
    "X-CreatedBy",
    "X-ExtendedMessageProps",
    "X-HeloDomain",
    "X-LegacyExch50",
    "X-Source",
    "X-SourceIPAddress",
];
const END_MARK: &str = "X-EndOfInjectedXHeaders";

fn is_one_of(field: &Field<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| field.is(name))
}

/// Number of fields in the block. Exchange writes more fields into it and marks its end; without that mark they are
/// ordinary header fields and stay in the message.
fn extent(fields: &[Field<'_>]) -> usize {
    let ours = fields.iter().take_while(|f| is_one_of(f, &OURS)).count();
    let injected = fields
        .iter()
        .take_while(|f| is_one_of(f, &OURS) || is_one_of(f, &EXCHANGE))
        .count();
    let is_marked = fields.get(injected).is_some_and(|f| f.is(END_MARK));
    let names_somebody = fields.iter().take(injected).any(|f| is_one_of(f, &OURS));
    if is_marked && names_somebody {
        injected + 1
    } else {
        ours
    }
}

impl Leading {
    fn take_sender(&mut self, field: &Field<'_>, value: &[u8], default_domain: &str) {
        let line = field.line;
        if let Some(first) = &self.sender {
            let first = first.place.line;
            self.remarks
                .add(|| format!("line {line}: a second x-sender is ignored; line {first} counts"));
            return;
        }
        let mut sender = SenderLine {
            place: place(field),
            address: Ok(None),
            ret: None,
            envid: None,
            body: None,
        };
        if let Some((mailbox, words)) = mailbox::leading(value) {
            if !mailbox.is_null() {
                sender.address = address_of(&mailbox, default_domain).map(Some);
            }
            parameters::of_sender(&words, line, &mut sender, &mut self.remarks);
        } else {
            sender.address = Err(Bad {
                text: header::shown(value),
                why: "it is empty (the null sender is written <>)",
            });
        }
        self.sender = Some(sender);
    }

    fn take_receiver(&mut self, field: &Field<'_>, value: &[u8], default_domain: &str) {
        let line = field.line;
        let found = mailbox::leading(value).filter(|(mailbox, _)| !mailbox.is_null());
        let Some((mailbox, words)) = found else {
            self.remarks
                .add(|| format!("line {line}: this x-receiver names nobody; ignored"));
            return;
        };
        let mut receiver = ReceiverLine {
            place: place(field),
            address: address_of(&mailbox, default_domain),
            notify: None,
            orcpt: None,
        };
        parameters::of_receiver(&words, line, &mut receiver, &mut self.remarks);
        self.receivers.push(receiver);
    }

    fn take_complete(&mut self, field: &Field<'_>, value: &[u8]) {
        let word = header::unfold(value);
        self.complete = word.eq_ignore_ascii_case("yes");
        if !self.complete {
            let (line, word) = (field.line, header::shown(word.as_bytes()));
            self.remarks
                .add(|| format!("line {line}: x-complete is \"yes\", not \"{word}\"; ignored"));
        }
    }

    fn take_dots(&mut self, field: &Field<'_>, value: &[u8]) {
        let word = header::unfold(value);
        self.dots = match word.to_ascii_lowercase().as_str() {
            "literal" => Some(SaidDots::Literal),
            "stuffed" => Some(SaidDots::Stuffed),
            _ => {
                let (line, word) = (field.line, header::shown(word.as_bytes()));
                self.remarks.add(|| {
                    format!("line {line}: x-dots is \"literal\" or \"stuffed\", not \"{word}\"; ignored")
                });
                self.dots
            }
        };
    }
}

fn place(field: &Field<'_>) -> Place {
    Place {
        field: field.shown_name(),
        line: field.line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(block: &str) -> Leading {
        let fields = header::scan(block.as_bytes(), 1).unwrap();
        read(&fields, block.as_bytes(), "default.example")
    }

    fn receivers(leading: &Leading) -> Vec<String> {
        let told = |r: &ReceiverLine| {
            r.address
                .as_ref()
                .map_or_else(|b| format!("!{}", b.text), Address::to_string)
        };
        leading.receivers.iter().map(told).collect()
    }

    fn sender(leading: &Leading) -> Option<String> {
        let line = leading.sender.as_ref()?;
        Some(match &line.address {
            Ok(Some(address)) => address.to_string(),
            Ok(None) => "<>".to_owned(),
            Err(bad) => format!("!{} because {}", bad.text, bad.why),
        })
    }

    #[test]
    fn any_case_any_order_folded() {
        let leading = parse(
            "X-RECEIVER: =?utf-8?Q?B=C3=B6b?=\r\n <bob@x.example> NOTIFY=FAILURE,DELAY\r\n ORCPT=rfc822;bob@x.example\r\nx-sender: \"A, B\" <a@b.example> RET=hdrs ENVID=a+2Bb BODY=8bitmime\r\nX-Dots: Literal\r\nx-receiver: carol\r\nFrom: z@z\r\nX-Sender: not@this.one\r\n",
        );
        assert_eq!(leading.fields, 4);
        assert_eq!(sender(&leading).unwrap(), "a@b.example");
        assert_eq!(receivers(&leading), ["bob@x.example", "carol@default.example"]);
        let first = &leading.receivers[0];
        assert_eq!((first.place.field.as_str(), first.place.line), ("X-RECEIVER", 1));
        assert_eq!(first.notify.unwrap().to_string(), "FAILURE,DELAY");
        assert_eq!(first.orcpt.as_deref(), Some("rfc822;bob@x.example"));
        assert_eq!(leading.receivers[1].place.line, 6);
        let from = leading.sender.unwrap();
        assert_eq!(
            (from.ret, from.envid.as_deref(), from.body),
            (Some(Ret::Hdrs), Some("a+2Bb"), Some(BodyType::EightBitMime))
        );
        assert_eq!(leading.dots, Some(SaidDots::Literal));
        assert_eq!(leading.remarks, Remarks::default());
    }

    #[test]
    fn null_empty_and_bad_senders() {
        assert_eq!(sender(&parse("x-sender: <>\n")).unwrap(), "<>");
        assert!(sender(&parse("x-sender:\n")).unwrap().contains("it is empty"));
        assert_eq!(
            sender(&parse("x-sender: a b\n")).unwrap(),
            "!a b because it holds a space outside quotes"
        );
        assert_eq!(sender(&parse("From: a@b\nx-sender: c@d\n")), None);
    }

    #[test]
    fn what_is_not_understood_is_remarked_on() {
        let leading = parse(
            "x-sender: a@b\nx-sender: c@d\nx-receiver:\nx-receiver: <>\nx-dots: maybe\nx-receiver: <e@f> NOTIFY=SOMETIMES SIZE=1\n",
        );
        assert_eq!(sender(&leading).unwrap(), "a@b");
        assert_eq!(receivers(&leading), ["e@f"]);
        let remarks = leading.remarks.into_vec();
        assert_eq!(
            remarks,
            [
                "line 2: a second x-sender is ignored; line 1 counts",
                "line 3: this x-receiver names nobody; ignored",
                "line 4: this x-receiver names nobody; ignored",
                "line 5: x-dots is \"literal\" or \"stuffed\", not \"maybe\"; ignored",
                "line 6: NOTIFY=SOMETIMES is not understood; ignored",
                "line 6: SIZE=1 is not known; ignored",
            ]
        );
    }

    #[test]
    fn the_fields_of_exchange_go_only_with_their_end_mark() {
        let marked = "X-Sender: <a@b>\nX-CreatedBy: MSExchange15\nX-Receiver: <c@d>\nX-EndOfInjectedXHeaders: 0\nX-Source: x\n";
        let leading = parse(marked);
        assert_eq!((leading.fields, receivers(&leading)), (4, vec!["c@d".to_owned()]));
        let unmarked = parse("X-Sender: <a@b>\nX-Source: x\nX-Receiver: <c@d>\n");
        assert_eq!((unmarked.fields, unmarked.receivers.len()), (1, 0));
        assert_eq!(parse("X-Source: x\nX-EndOfInjectedXHeaders: 0\n").fields, 0);
    }
}
