//! The dialogue of one connection (RFC 5321 §4), with the script's rules at each step.
//!
//! Thread: its own. Strict where a client could be wrong: parameters that were not offered, commands out of order,
//! pipelining that was not offered; each is refused or noted as a violation.

mod answer;
mod transaction;

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::content::Content;
use super::host::{AcceptedRecipient, Open};
use super::sasl::{self, Verdict};
use super::script::{Reply, Script, Step};
use super::wire::Wire;

/// A client that says nothing for so long is gone (RFC 5321 §4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(300);

/// Talks until one side has enough.
pub(super) fn talk(stream: TcpStream, open: &Open, stop: &Receiver<()>) {
    let timeouts = stream
        .set_read_timeout(Some(IDLE))
        .and_then(|()| stream.set_write_timeout(Some(IDLE)))
        .and_then(|()| stream.set_nodelay(true));
    if timeouts.is_err() {
        return;
    }
    let wire = Wire::new(stream, open.talk.script.drip, stop.clone());
    // an error here is a client that went away or a host that ends: there is nobody to tell
    let _ended = Session::new(open).lead(wire);
}

struct Session<'a> {
    open: &'a Open,
    script: &'a Script,
    tls: bool,
    greeted: Option<Greeted>,
    user: Option<String>,
    transaction: Option<Transaction>,
    messages: u64,
    /// The greeting was a refusal: only QUIT is left (RFC 5321 §3.1).
    refused: bool,
}

struct Greeted {
    name: String,
    esmtp: bool,
}

struct Transaction {
    sender: String,
    parameters: String,
    recipients: Vec<AcceptedRecipient>,
    /// BDAT has begun.
    chunks: Option<Content>,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    StartTls,
    Close,
    HangUp,
}

/// What was answered.
struct Said {
    code: u16,
    flow: Flow,
}

impl Said {
    fn good(&self) -> bool {
        (200..400).contains(&self.code)
    }
}

impl<'a> Session<'a> {
    fn new(open: &'a Open) -> Self {
        Self {
            open,
            script: &open.talk.script,
            tls: false,
            greeted: None,
            user: None,
            transaction: None,
            messages: 0,
            refused: false,
        }
    }

    fn lead(mut self, mut wire: Wire) -> io::Result<()> {
        if self.script.implicit_tls {
            wire = self.encrypt(wire)?;
        }
        let greeting = Reply::new(220, format!("{} ESMTP practice host", self.script.name));
        let said = self.answer(&mut wire, Step::Connect, "", self.open.others, &greeting)?;
        self.refused = !said.good();
        let mut flow = said.flow;
        loop {
            match flow {
                Flow::Go => {}
                Flow::StartTls => wire = self.encrypt(wire)?,
                Flow::Close => {
                    wire.close();
                    return Ok(());
                }
                Flow::HangUp => {
                    wire.hang_up();
                    return Ok(());
                }
            }
            flow = self.command(&mut wire)?;
        }
    }

    fn encrypt(&mut self, mut wire: Wire) -> io::Result<Wire> {
        wire.flush()?;
        let config = self
            .open
            .tls
            .clone()
            .ok_or_else(|| io::Error::other("no certificate"))?;
        self.tls = true;
        self.greeted = None;
        self.transaction = None;
        self.user = None;
        wire.start_tls(config)
    }

    fn command(&mut self, wire: &mut Wire) -> io::Result<Flow> {
        let line = wire.line()?;
        self.open.note_command(&line.text);
        if line.bare_lf {
            self.open.note_violation("a command line ends with LF alone");
        }
        let Ok(text) = std::str::from_utf8(&line.text) else {
            return self.refuse(wire, 500, "5.5.2", "this line is not UTF-8");
        };
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let verb = verb.to_ascii_uppercase();
        self.judge_pipelining(wire, &verb);
        if self.refused && verb != "QUIT" {
            return self.refuse(wire, 503, "5.5.1", "only QUIT is left");
        }
        match verb.as_str() {
            "EHLO" if self.script.helo_only => self.refuse(wire, 502, "5.5.1", "EHLO is not known here"),
            "EHLO" => self.ehlo(wire, rest),
            "HELO" => self.helo(wire, rest),
            "STARTTLS" => self.starttls(wire),
            "AUTH" => self.auth(wire, rest),
            "MAIL" => self.mail(wire, rest),
            "RCPT" => self.rcpt(wire, rest),
            "DATA" => self.data(wire),
            "BDAT" => self.bdat(wire, rest),
            "RSET" => {
                self.transaction = None;
                let usual = self.usual(250, "2.0.0", "forgotten");
                Ok(self.answer(wire, Step::Rset, "", 0, &usual)?.flow)
            }
            "NOOP" => self.refuse(wire, 250, "2.0.0", "nothing done"),
            "VRFY" => self.refuse(wire, 252, "2.5.0", "send it and see"),
            "QUIT" => {
                let usual = self.usual(221, "2.0.0", "bye");
                let said = self.answer(wire, Step::Quit, "", 0, &usual)?;
                Ok(if said.flow == Flow::Go {
                    Flow::Close
                } else {
                    said.flow
                })
            }
            _ => self.refuse(wire, 500, "5.5.1", "this command is not known"),
        }
    }

    /// RFC 2920 §3.1: nothing is sent ahead unless PIPELINING was offered, and never after these verbs.
    fn judge_pipelining(&self, wire: &Wire, verb: &str) {
        if !wire.has_more() || verb == "BDAT" {
            return;
        }
        if !self.esmtp() || self.offer("PIPELINING").is_none() {
            self.open.note_violation(&format!(
                "more was sent after {verb}, and PIPELINING was not offered"
            ));
        } else if matches!(verb, "EHLO" | "HELO" | "STARTTLS" | "AUTH" | "DATA" | "QUIT") {
            self.open
                .note_violation(&format!("more was sent after {verb} before its reply"));
        }
    }

    fn ehlo(&mut self, wire: &mut Wire, name: &str) -> io::Result<Flow> {
        let mut usual = Reply::new(250, format!("{} greets {name}", self.script.name));
        let more = if self.tls {
            self.script.offers_under_tls.as_slice()
        } else {
            &[]
        };
        let shown = |offer: &&String| !(self.tls && offer.eq_ignore_ascii_case("STARTTLS"));
        usual
            .lines
            .extend(self.script.offers.iter().chain(more).filter(shown).cloned());
        self.greet(wire, Step::Ehlo, name, &usual)
    }

    fn helo(&mut self, wire: &mut Wire, name: &str) -> io::Result<Flow> {
        let usual = Reply::new(250, self.script.name.clone());
        self.greet(wire, Step::Helo, name, &usual)
    }

    fn greet(&mut self, wire: &mut Wire, step: Step, name: &str, usual: &Reply) -> io::Result<Flow> {
        if name.is_empty() || name.contains(' ') {
            return self.refuse(wire, 501, "5.5.4", "one name, please");
        }
        self.transaction = None;
        let said = self.answer(wire, step, name, 0, usual)?;
        if said.good() {
            self.greeted = Some(Greeted {
                name: name.to_owned(),
                esmtp: step == Step::Ehlo,
            });
        }
        Ok(said.flow)
    }

    fn starttls(&mut self, wire: &mut Wire) -> io::Result<Flow> {
        if self.tls || self.offer("STARTTLS").is_none() {
            return self.refuse(wire, 503, "5.5.1", "STARTTLS was not offered");
        }
        let usual = if self.open.tls.is_some() {
            self.usual(220, "2.0.0", "go ahead")
        } else {
            self.usual(454, "4.7.0", "TLS is not available just now")
        };
        let said = self.answer(wire, Step::StartTls, "", 0, &usual)?;
        Ok(match said.flow {
            Flow::Go if said.good() => Flow::StartTls,
            flow => flow,
        })
    }

    fn auth(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        let (mechanism, initial) = rest
            .split_once(' ')
            .map_or((rest, None), |(mechanism, initial)| (mechanism, Some(initial)));
        let offered = self
            .offer("AUTH")
            .is_some_and(|list| list.split_whitespace().any(|m| m.eq_ignore_ascii_case(mechanism)));
        if !offered {
            return self.refuse(wire, 504, "5.5.4", "this mechanism was not offered");
        }
        if self.user.is_some() || self.transaction.is_some() {
            return self.refuse(wire, 503, "5.5.1", "AUTH is out of place here");
        }
        if self.open.talk.script.rules.iter().any(|r| r.step == Step::Auth)
            && let Some(flow) = self.forestall(wire, Step::Auth, mechanism)?
        {
            return Ok(flow);
        }
        match sasl::authenticate(wire, self.script, mechanism, initial)? {
            Verdict::User(name) => {
                self.user = Some(name);
                self.refuse(wire, 235, "2.7.0", "welcome")
            }
            Verdict::Denied => self.refuse(wire, 535, "5.7.8", "wrong user or secret"),
            Verdict::Cancelled => self.refuse(wire, 501, "5.7.0", "taken back"),
            Verdict::Garbled => self.refuse(wire, 501, "5.5.2", "this is not how the mechanism goes"),
            Verdict::Unknown => self.refuse(wire, 504, "5.5.4", "this mechanism is not known"),
        }
    }
}
