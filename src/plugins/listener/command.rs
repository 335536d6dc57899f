//! What a client says: one command line → [`Command`], or the reply to what is none (RFC 5321 §4.1).
//!
//! Pure. Not here: whether a command is in order (session).

use super::reply::Reply;
use crate::mail::leading::parameters::{is_envid, is_orcpt};
use crate::mail::{Address, BodyType, Notify, Ret, mailbox};

/// A command and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// The name that the client gives itself; IIS takes HELO without one.
    Helo(String),
    Ehlo(String),
    Mail(Mail),
    Rcpt(Rcpt),
    Data,
    /// So many bytes, and whether they are the last of the message (RFC 3030).
    Bdat(u64, bool),
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy(String),
    StartTls,
    /// What is asked for, as it came (RFC 1985).
    Etrn(String),
    /// The domains; none: all that the user may take (RFC 2645).
    Atrn(Vec<String>),
    /// Mechanism in capitals, initial response.
    Auth(String, Option<String>),
}

impl Command {
    /// Whether it has to do with no mail.
    pub fn is_idle(&self) -> bool {
        matches!(
            self,
            Self::Helo(_) | Self::Ehlo(_) | Self::Noop | Self::Help | Self::Rset | Self::Vrfy(_)
        )
    }

    /// Its first word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Helo(_) => "HELO",
            Self::Ehlo(_) => "EHLO",
            Self::Mail(_) => "MAIL",
            Self::Rcpt(_) => "RCPT",
            Self::Data => "DATA",
            Self::Bdat(..) => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Help => "HELP",
            Self::Vrfy(_) => "VRFY",
            Self::StartTls => "STARTTLS",
            Self::Etrn(_) => "ETRN",
            Self::Atrn(_) => "ATRN",
            Self::Auth(..) => "AUTH",
        }
    }
}

/// MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mail {
    /// `None`: the null sender.
    pub sender: Option<Address>,
    pub size: Option<u64>,
    pub body: Option<BodyType>,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
    pub utf8: bool,
}

/// RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rcpt {
    pub address: Address,
    pub notify: Option<Notify>,
    pub orcpt: Option<String>,
}

/// The words of HELP and of the replies to what is not known.
pub(super) const VERBS: &str =
    "HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY ETRN ATRN HELP QUIT";

/// Reads a line without its line end. `default_domain` is for addresses without one.
pub(super) fn parse(line: &[u8], default_domain: &str) -> Result<Command, Reply> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err(Reply::syntax("the line is not UTF-8"));
    };
    if text.chars().any(char::is_control) {
        return Err(Reply::syntax("the line holds a control character"));
    }
    let text = text.trim_end();
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start();
    let nothing_with = |command| match rest {
        "" => Ok(command),
        _ => Err(Reply::argument(&format!(
            "{} takes no argument",
            verb.to_ascii_uppercase()
        ))),
    };
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => Ok(Command::Helo(client_name(rest)?)),
        "EHLO" if rest.is_empty() => Err(Reply::argument("EHLO wants the name of the client")),
        "EHLO" => Ok(Command::Ehlo(client_name(rest)?)),
        "MAIL" => mail(rest, default_domain).map(Command::Mail),
        "RCPT" => rcpt(rest, default_domain).map(Command::Rcpt),
        "DATA" => nothing_with(Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => nothing_with(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => nothing_with(Command::Quit),
        "HELP" => Ok(Command::Help),
        "VRFY" if rest.is_empty() => Err(Reply::argument("VRFY wants a user")),
        "VRFY" => Ok(Command::Vrfy(rest.to_owned())),
        "STARTTLS" => nothing_with(Command::StartTls),
        "ETRN" if rest.is_empty() || rest.contains(' ') => Err(Reply::argument("ETRN wants one domain")),
        "ETRN" => Ok(Command::Etrn(rest.to_owned())),
        "ATRN" if rest.contains(' ') => Err(Reply::argument("ATRN wants domains with commas between them")),
        "ATRN" => Ok(Command::Atrn(
            rest.split(',')
                .filter(|one| !one.is_empty())
                .map(str::to_owned)
                .collect(),
        )),
        "AUTH" => auth(rest),
        _ => Err(Reply::new(
            500,
            "5.5.1",
            format!("Unrecognized command; try {VERBS}"),
        )),
    }
}

/// What may stand in a Received field as it came: the name says nothing that we rely on.
fn client_name(text: &str) -> Result<String, Reply> {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '(' | ')' | '<' | '>' | '"' | '\\' | ';' | ',');
    if text.len() <= 255 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Reply::new(501, "5.5.4", "Invalid domain name"))
    }
}

fn digits(text: &str) -> Option<u64> {
    let are_digits = text.bytes().all(|b| b.is_ascii_digit());
    are_digits.then(|| text.parse().ok()).flatten()
}

fn bdat(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let size = words.next().and_then(digits);
    let is_last = match (words.next(), words.next()) {
        (None, _) => Some(false),
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => Some(true),
        _ => None,
    };
    match (size, is_last) {
        (Some(size), Some(is_last)) => Ok(Command::Bdat(size, is_last)),
        _ => Err(Reply::argument(
            "BDAT wants a number of bytes, and LAST at the end",
        )),
    }
}

fn auth(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth(
            mechanism.to_ascii_uppercase(),
            initial.map(str::to_owned),
        )),
        _ => Err(Reply::argument("AUTH wants a mechanism")),
    }
}

/// `FROM:` or `TO:`, in any letter case, and what follows; a space after the colon is forgiven, as IIS did.
fn path<'t>(rest: &'t str, word: &str) -> Result<&'t str, Reply> {
    let (given, path) = rest.split_once(':').unwrap_or((rest, ""));
    if given.trim_end().eq_ignore_ascii_case(word) && !path.trim().is_empty() {
        Ok(path.trim_start())
    } else {
        Err(Reply::argument(&format!("{word}:<address> is missing")))
    }
}

/// The mailbox and the parameters behind it, each `KEY` or `KEY=value`.
fn mailbox_and_parameters(path: &str) -> Result<(mailbox::Mailbox<'_>, String), Reply> {
    let (mailbox, words) = mailbox::leading(path.as_bytes()).ok_or_else(invalid_address)?;
    let words = String::from_utf8(words).map_err(|_| invalid_address())?;
    Ok((mailbox, words))
}

fn invalid_address() -> Reply {
    Reply::new(501, "5.1.3", "Invalid address")
}

fn mail(rest: &str, default_domain: &str) -> Result<Mail, Reply> {
    let (mailbox, words) = mailbox_and_parameters(path(rest, "FROM")?)?;
    let mut mail = Mail::default();
    if !mailbox.is_null() {
        let address = mailbox.address(default_domain);
        mail.sender =
            Some(address.map_err(|bad| Reply::new(501, "5.1.7", format!("Invalid address: {bad}")))?);
    }
    for (key, value) in each(&words) {
        match key.to_ascii_uppercase().as_str() {
            "SIZE" => set(key, &mut mail.size, digits(value))?,
            // Line ends of ours are not the client's, so binary is not offered.
            "BODY" if value.eq_ignore_ascii_case("BINARYMIME") => return Err(not_known("BODY=BINARYMIME")),
            "BODY" => set(key, &mut mail.body, BodyType::parse(value))?,
            "RET" => set(key, &mut mail.ret, Ret::parse(value))?,
            "ENVID" => set(key, &mut mail.envid, is_envid(value).then(|| value.to_owned()))?,
            "SMTPUTF8" if value.is_empty() => mail.utf8 = true,
            "AUTH" => {} // RFC 4954 §5: whom the client submits for; we trust nobody with that
            _ => return Err(not_known(key)),
        }
    }
    Ok(mail)
}

fn rcpt(rest: &str, default_domain: &str) -> Result<Rcpt, Reply> {
    let (mailbox, words) = mailbox_and_parameters(path(rest, "TO")?)?;
    if mailbox.is_null() {
        return Err(invalid_address());
    }
    let address = mailbox
        .address(default_domain)
        .map_err(|bad| Reply::new(501, "5.1.3", format!("Invalid address: {bad}")))?;
    let mut rcpt = Rcpt {
        address,
        notify: None,
        orcpt: None,
    };
    for (key, value) in each(&words) {
        match key.to_ascii_uppercase().as_str() {
            "NOTIFY" => set(key, &mut rcpt.notify, Notify::parse(value))?,
            "ORCPT" => set(key, &mut rcpt.orcpt, is_orcpt(value).then(|| value.to_owned()))?,
            _ => return Err(not_known(key)),
        }
    }
    Ok(rcpt)
}

fn each(words: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = words.split_ascii_whitespace();
    words.map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn set<T>(key: &str, slot: &mut Option<T>, value: Option<T>) -> Result<(), Reply> {
    if slot.is_some() {
        return Err(Reply::argument(&format!("{key} comes twice")));
    }
    *slot = value;
    match slot {
        Some(_) => Ok(()),
        None => Err(Reply::argument(&format!("the value of {key} is not valid"))),
    }
}

fn not_known(key: &str) -> Reply {
    let shown: String = key.chars().take(40).collect();
    Reply::new(555, "5.5.4", format!("The parameter {shown} is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Command, u16> {
        parse(line.as_bytes(), "local.test").map_err(|reply| reply.code)
    }

    fn address(text: &str) -> Address {
        Address::parse(text, "local.test").unwrap()
    }

    #[test]
    fn commands_in_any_letter_case() {
        for (line, command) in [
            ("HELO", Command::Helo(String::new())),
            ("helo x", Command::Helo("x".into())),
            ("ehlo [192.0.2.1]", Command::Ehlo("[192.0.2.1]".into())),
            ("data", Command::Data),
            ("DATA  ", Command::Data),
            ("BDAT 12", Command::Bdat(12, false)),
            ("bdat 0 last", Command::Bdat(0, true)),
            ("RSET", Command::Rset),
            ("noop anything", Command::Noop),
            ("quit", Command::Quit),
            ("HELP MAIL", Command::Help),
            ("vrfy bob", Command::Vrfy("bob".into())),
            ("StartTLS", Command::StartTls),
            ("etrn @a.test", Command::Etrn("@a.test".into())),
            ("ATRN", Command::Atrn(Vec::new())),
            (
                "atrn a.test,b.test",
                Command::Atrn(vec!["a.test".into(), "b.test".into()]),
            ),
            (
                "auth plain AAA=",
                Command::Auth("PLAIN".into(), Some("AAA=".into())),
            ),
            ("AUTH LOGIN", Command::Auth("LOGIN".into(), None)),
        ] {
            assert_eq!(of(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn envelopes() {
        let mail = Mail {
            sender: Some(address("a@b.test")),
            size: Some(1000),
            body: Some(BodyType::EightBitMime),
            ret: Some(Ret::Hdrs),
            envid: Some("x1".into()),
            utf8: true,
        };
        let line = "MAIL FROM:<a@b.test> SIZE=1000 body=8bitmime RET=HDRS ENVID=x1 SMTPUTF8 AUTH=<>";
        assert_eq!(of(line), Ok(Command::Mail(mail)));
        assert_eq!(of("mail from:<>"), Ok(Command::Mail(Mail::default())));
        for line in [
            "MAIL FROM: <a@b.test>",
            "MAIL FROM:a@b.test",
            "MAIL From : <a@b.test>",
        ] {
            let sender = Some(address("a@b.test"));
            let mail = Mail {
                sender,
                ..Mail::default()
            };
            assert_eq!(of(line), Ok(Command::Mail(mail)), "{line}");
        }
        let rcpt = Rcpt {
            address: address("bob@local.test"),
            notify: Notify::parse("SUCCESS,FAILURE"),
            orcpt: Some("rfc822;bob@x.test".into()),
        };
        let line = "RCPT TO:<bob> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@x.test";
        assert_eq!(of(line), Ok(Command::Rcpt(rcpt)));
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (line, code) in [
            ("", 500),
            ("HALLO x", 500),
            ("EHLO", 501),
            ("EHLO a(b)", 501),
            ("EHLO bücher.test", 501),
            ("DATA now", 501),
            ("BDAT", 501),
            ("BDAT -1", 501),
            ("BDAT 1 2", 501),
            ("BDAT 99999999999999999999", 501),
            ("AUTH", 501),
            ("ETRN", 501),
            ("ATRN a.test, b.test", 501),
            ("ETRN a.test b.test", 501),
            ("VRFY", 501),
            ("MAIL a@b.test", 501),
            ("MAIL FROM:", 501),
            ("MAIL FROM:<a b@c>", 501),
            ("MAIL FROM:<a@b.test> SIZE=x", 501),
            ("MAIL FROM:<a@b.test> SIZE=+5", 501),
            ("MAIL FROM:<a@b.test> SIZE=1 SIZE=2", 501),
            ("MAIL FROM:<a@b.test> SOLICIT=x", 555),
            ("MAIL FROM:<a@b.test> BODY=BINARYMIME", 555),
            ("MAIL FROM:<a@b.test> ENVID=a=b", 501),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<a@b.test> NOTIFY=NEVER,DELAY", 501),
            ("RCPT TO:<a@b.test> SIZE=1", 555),
            ("MAIL FROM:<a@b\u{7}.test>", 500),
        ] {
            assert_eq!(of(line), Err(code), "{line}");
        }
        assert_eq!(parse(b"MAIL FROM:<\xff@b.test>", "d").unwrap_err().code, 500);
    }
}
