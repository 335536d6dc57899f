//! MAIL and RCPT as text, with the parameters that are due and offered (RFC 1870, 3461, 6152, 6531).
//!
//! Pure. Addresses are safe by construction; parameters that came from a file are checked here once more, so that
//! nothing can inject a command.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::body::{Body, Transaction};
use super::offers::Offers;
use crate::mail::{Address, EnhancedStatus, Outcome, Recipient};

/// Parameters that are longer are left out: RFC 3461 §4.2 allows 500 for ORCPT, 100 for ENVID.
const MAX_PARAMETER: usize = 500;

/// `MAIL FROM:<…>` with its parameters; `sender` is in wire form.
pub(super) fn mail(
    sender: Option<&str>,
    tx: &Transaction<'_>,
    body: &dyn Body,
    utf8: bool,
    offers: &Offers,
) -> String {
    let mut line = format!("MAIL FROM:<{}>", sender.unwrap_or(""));
    if offers.size {
        let _ = write!(line, " SIZE={}", body.size());
    }
    if offers.eight_bit && body.needs_eight_bit() {
        line.push_str(" BODY=8BITMIME");
    }
    if utf8 {
        line.push_str(" SMTPUTF8");
    }
    if offers.dsn {
        if let Some(ret) = tx.ret {
            let _ = write!(line, " RET={}", ret.as_str());
        }
        if let Some(envid) = tx.envid.filter(|text| is_parameter(text)) {
            let _ = write!(line, " ENVID={envid}");
        }
    }
    line
}

/// Writes `RCPT TO:<…>` with its parameters over `line`; `address` is in wire form.
pub(super) fn rcpt(line: &mut String, address: &str, recipient: &Recipient, offers: &Offers) {
    line.clear();
    let _ = write!(line, "RCPT TO:<{address}>");
    if offers.dsn {
        if let Some(notify) = recipient.notify {
            let _ = write!(line, " NOTIFY={notify}");
        }
        if let Some(orcpt) = recipient.orcpt.as_deref().filter(|text| is_parameter(text)) {
            let _ = write!(line, " ORCPT={orcpt}");
        }
    }
}

fn is_parameter(text: &str) -> bool {
    (1..=MAX_PARAMETER).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this address makes SMTPUTF8 due: a domain can be written as A-labels, a local part cannot.
pub(super) fn needs_utf8(address: &Address) -> bool {
    !address.local_part().is_ascii()
}

/// The address as this host can take it, or why it cannot.
pub(super) fn wire_form<'a>(address: &'a Address, offers: &Offers) -> Result<Cow<'a, str>, Outcome> {
    let failed =
        |subject, detail, words: String| Err(Outcome::failed(EnhancedStatus::new(5, subject, detail), words));
    if !address.is_routable() {
        return failed(1, 3, format!("{address} is not an address"));
    }
    if address.is_ascii() {
        return Ok(Cow::Borrowed(address.as_str()));
    }
    if needs_utf8(address) {
        if offers.smtputf8 {
            return Ok(Cow::Borrowed(address.as_str()));
        }
        let words =
            format!("{address} has letters beyond ASCII before the @, and the host does not offer SMTPUTF8");
        return failed(6, 7, words);
    }
    // The mapping to A-labels knows characters that become a space or a bracket, so the result is judged as an address.
    let mapped = idna::domain_to_ascii(address.domain())
        .ok()
        .and_then(|domain| address.at_domain(&domain).ok());
    match mapped {
        Some(mapped) => Ok(Cow::Owned(mapped.as_str().to_owned())),
        None => {
            let words = format!(
                "{} is not a valid internationalized domain name",
                address.domain()
            );
            failed(1, 2, words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Notify, Ret};

    struct Fixed(bool);
    impl Body for Fixed {
        fn size(&self) -> u64 {
            42
        }
        fn needs_eight_bit(&self) -> bool {
            self.0
        }
        fn write_data(&self, _: &mut dyn crate::smtp::Outlet) -> std::io::Result<()> {
            Ok(())
        }
        fn write_plain(&self, _: &mut dyn crate::smtp::Outlet) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn everything() -> Offers {
        Offers {
            extended: true,
            eight_bit: true,
            smtputf8: true,
            size: true,
            dsn: true,
            ..Offers::default()
        }
    }

    #[test]
    fn parameters_are_written_when_offered_and_due() {
        let tx = Transaction {
            sender: None,
            ret: Some(Ret::Hdrs),
            envid: Some("QQ+2B1"),
            utf8: true,
            recipients: &[],
            before_partial: None,
        };
        assert_eq!(
            mail(Some("a@b"), &tx, &Fixed(true), true, &everything()),
            "MAIL FROM:<a@b> SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1"
        );
        assert_eq!(
            mail(None, &tx, &Fixed(true), false, &Offers::default()),
            "MAIL FROM:<>"
        );
        let recipient = Recipient {
            notify: Notify::parse("FAILURE,DELAY"),
            orcpt: Some("rfc822;b@c".into()),
            ..Recipient::plain(Address::parse("b@c", "x").unwrap())
        };
        let mut line = "left over".to_owned();
        rcpt(&mut line, "b@c", &recipient, &everything());
        assert_eq!(line, "RCPT TO:<b@c> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@c");
        rcpt(&mut line, "b@c", &recipient, &Offers::default());
        assert_eq!(line, "RCPT TO:<b@c>");
    }

    #[test]
    fn a_parameter_cannot_inject_a_command() {
        for text in ["", "a b", "a\r\nRSET", "ü", &"x".repeat(MAX_PARAMETER + 1)] {
            assert!(!is_parameter(text), "{text:?}");
        }
    }

    #[test]
    fn international_addresses() {
        let form = |text: &str, offers: &Offers| {
            wire_form(&Address::parse(text, "x").unwrap(), offers)
                .map(Cow::into_owned)
                .map_err(|outcome| outcome.status.to_string())
        };
        let plain = Offers::default();
        assert_eq!(form("a@b", &plain).as_deref(), Ok("a@b"));
        assert_eq!(
            form("a@bücher.example", &plain).as_deref(),
            Ok("a@xn--bcher-kva.example")
        );
        assert_eq!(form("dörte@b", &plain), Err("5.6.7".into()));
        assert_eq!(
            form("dörte@bücher.example", &everything()).as_deref(),
            Ok("dörte@bücher.example")
        );
        for hostile in ["\u{feff}.example", "x\u{ff1e}y.example"] {
            assert_eq!(
                form(&format!("a@{hostile}"), &plain),
                Err("5.1.2".into()),
                "{hostile:?}"
            );
        }
        let nothing = Address::unroutable("what?");
        assert_eq!(
            wire_form(&nothing, &plain).unwrap_err().status.to_string(),
            "5.1.3"
        );
    }
}
