//! The dialogue of one connection (RFC 5321 §4), with the script's rules at each step.
//!
//! Thread: its own. Strict where a client could be wrong: parameters that were not offered, commands out of order,
//! pipelining that was not offered; each is refused or noted as a violation.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::content::{Content, Marks};
use super::host::{Accepted, AcceptedRecipient, Open};
use super::sasl::{self, Verdict};
use super::script::{Action, Reply, Script, Step};
use super::wire::Wire;

/// A client that says nothing for so long is gone (RFC 5321 §4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(300);
/// Most recipients of one transaction.
const MAX_RECIPIENTS: usize = 10_000;
/// RFC 5321 §4.5.3.1.6.
const MAX_TEXT_LINE: usize = 998;

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

    fn mail(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        if self.greeted.is_none() || self.transaction.is_some() {
            return self.refuse(wire, 503, "5.5.1", "MAIL is out of place here");
        }
        if self.script.require_tls && !self.tls {
            return self.refuse(wire, 530, "5.7.0", "must issue a STARTTLS command first");
        }
        if self.script.require_auth && self.user.is_none() {
            return self.refuse(wire, 530, "5.7.0", "authentication required");
        }
        let Some((sender, parameters)) = path(rest, "FROM:") else {
            return self.refuse(wire, 501, "5.5.4", "MAIL FROM:<address> [parameters]");
        };
        if let Some(problem) = self.judge_parameters(sender, parameters, parameters) {
            return self.refuse(wire, problem.0, problem.1, &problem.2);
        }
        let usual = self.usual(250, "2.1.0", "sender ok");
        let said = self.answer(wire, Step::Mail, sender, self.messages, &usual)?;
        if said.good() {
            self.transaction = Some(Transaction {
                sender: sender.to_owned(),
                parameters: parameters.to_owned(),
                recipients: Vec::new(),
                chunks: None,
            });
        }
        Ok(said.flow)
    }

    fn rcpt(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        let Some(transaction) = &self.transaction else {
            return self.refuse(wire, 503, "5.5.1", "MAIL comes first");
        };
        let Some((address, parameters)) = path(rest, "TO:").filter(|(address, _)| !address.is_empty()) else {
            return self.refuse(wire, 501, "5.5.4", "RCPT TO:<address> [parameters]");
        };
        if let Some(problem) = self.judge_parameters(address, parameters, &transaction.parameters) {
            return self.refuse(wire, problem.0, problem.1, &problem.2);
        }
        let so_far = transaction.recipients.len();
        if so_far >= MAX_RECIPIENTS {
            return self.refuse(wire, 452, "4.5.3", "too many recipients");
        }
        let usual = self.usual(250, "2.1.5", "recipient ok");
        let said = self.answer(wire, Step::Rcpt, address, so_far as u64, &usual)?;
        if said.good()
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients.push(AcceptedRecipient {
                address: address.to_owned(),
                parameters: parameters.to_owned(),
            });
        }
        Ok(said.flow)
    }

    fn data(&mut self, wire: &mut Wire) -> io::Result<Flow> {
        match &self.transaction {
            None => return self.refuse(wire, 503, "5.5.1", "MAIL comes first"),
            Some(t) if t.chunks.is_some() => {
                return self.refuse(wire, 503, "5.5.1", "DATA after BDAT");
            }
            Some(t) if t.recipients.is_empty() => {
                return self.refuse(wire, 554, "5.5.1", "no valid recipients");
            }
            Some(_) => {}
        }
        let usual = Reply::new(354, "go ahead, end with a lone period");
        let said = self.answer(wire, Step::Data, "", 0, &usual)?;
        if !said.good() || said.flow != Flow::Go {
            if !said.good() {
                self.transaction = None;
            }
            return Ok(said.flow);
        }
        let mut content = Content::new(self.open.room());
        let mut ended = false;
        while !ended {
            let (used, end) = content.data(wire.bytes()?);
            wire.consume(used);
            ended = end;
            if let Some(flow) = self.inside(wire, &content)? {
                return Ok(flow);
            }
        }
        self.end(wire, content, false)
    }

    fn bdat(&mut self, wire: &mut Wire, rest: &str) -> io::Result<Flow> {
        let (count, last) = match rest.split_once(' ') {
            Some((count, word)) => (count, word.eq_ignore_ascii_case("LAST")),
            None => (rest, false),
        };
        let Ok(mut left) = count.parse::<u64>() else {
            // where the content ends is unknown now, so nothing after it can be trusted
            self.refuse(wire, 501, "5.5.4", "BDAT count [LAST]")?;
            return Ok(Flow::Close);
        };
        let room = self.open.room();
        let mut content = self
            .transaction
            .as_mut()
            .and_then(|t| t.chunks.take())
            .unwrap_or_else(|| Content::new(room));
        while left > 0 {
            let bytes = wire.bytes()?;
            let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            content.chunk(bytes.get(..used).unwrap_or(bytes));
            wire.consume(used);
            left -= used as u64;
            if let Some(flow) = self.inside(wire, &content)? {
                return Ok(flow);
            }
        }
        if self.offer("CHUNKING").is_none() {
            return self.refuse(wire, 502, "5.5.1", "CHUNKING was not offered");
        }
        match &self.transaction {
            None => return self.refuse(wire, 503, "5.5.1", "MAIL comes first"),
            Some(t) if t.recipients.is_empty() => {
                return self.refuse(wire, 503, "5.5.1", "no valid recipients");
            }
            Some(_) if last => return self.end(wire, content, true),
            Some(_) => {}
        }
        let usual = self.usual(250, "2.0.0", "chunk ok");
        let said = self.answer(wire, Step::Bdat, "", 0, &usual)?;
        if said.good() {
            if let Some(transaction) = &mut self.transaction {
                transaction.chunks = Some(content);
            }
        } else {
            self.transaction = None;
        }
        Ok(said.flow)
    }

    /// Rules inside the content; only such as end or delay it make sense there.
    fn inside(&self, wire: &mut Wire, content: &Content) -> io::Result<Option<Flow>> {
        let Some(rule) = self.open.talk.rule(Step::Content, "", content.size) else {
            return Ok(None);
        };
        let said = self.perform(wire, &rule.actions, None)?;
        Ok((said.flow != Flow::Go).then_some(said.flow))
    }

    fn end(&mut self, wire: &mut Wire, mut content: Content, chunking: bool) -> io::Result<Flow> {
        content.finish();
        let Some(transaction) = self.transaction.take() else {
            return Ok(Flow::Go);
        };
        self.messages += 1;
        self.judge_content(&transaction, &content);
        let limit = self
            .offer("SIZE")
            .and_then(|n| n.parse::<u64>().ok())
            .filter(|n| *n > 0);
        if limit.is_some_and(|n| content.size > n) {
            return self.refuse(wire, 552, "5.3.4", "the message is larger than SIZE said");
        }
        if !self.script.discard && content.size > content.bytes.len() as u64 {
            return self.refuse(
                wire,
                452,
                "4.3.1",
                "the practice host keeps no more; let it discard",
            );
        }
        let usual = self.usual(250, "2.0.0", "taken");
        let rule = self.open.talk.rule(Step::End, "", 0);
        let actions = rule.map_or(&[][..], |rule| &rule.actions);
        if is_taken(actions) {
            let Marks { bare_cr, bare_lf, .. } = content.marks;
            let message = Accepted {
                connection: self.open.number,
                helo: self.greeted.as_ref().map_or_else(String::new, |g| g.name.clone()),
                esmtp: self.esmtp(),
                tls: self.tls,
                auth_user: self.user.clone(),
                sender: transaction.sender,
                sender_parameters: transaction.parameters,
                recipients: transaction.recipients,
                content: content.bytes,
                chunking,
                bare_cr,
                bare_lf,
            };
            self.open.keep(message, content.size);
        }
        Ok(self.perform(wire, actions, Some(&usual))?.flow)
    }

    fn judge_content(&self, transaction: &Transaction, content: &Content) {
        let marks = content.marks;
        let has = |name: &str| parameters(&transaction.parameters).any(|p| p.eq_ignore_ascii_case(name));
        let declared = parameters(&transaction.parameters)
            .find_map(|p| {
                p.split_once('=')
                    .filter(|(name, _)| name.eq_ignore_ascii_case("SIZE"))
            })
            .and_then(|(_, n)| n.parse::<u64>().ok());
        for (wrong, what) in [
            (marks.bare_cr, "the content holds a CR without LF"),
            (marks.bare_lf, "the content holds a LF without CR"),
            (
                marks.single_dot,
                "a line of the content begins with a period that was not doubled",
            ),
            (
                marks.eight_bit && !has("BODY=8BITMIME") && !has("SMTPUTF8"),
                "the content holds bytes over 127, and BODY=8BITMIME was not said",
            ),
            (
                marks.longest_line > MAX_TEXT_LINE,
                "the content holds a line over 998 bytes",
            ),
            (
                declared.is_some_and(|n| n < content.size),
                "the content is larger than its SIZE= said",
            ),
        ] {
            if wrong {
                self.open.note_violation(what);
            }
        }
    }

    /// What is wrong with the parameters of MAIL or RCPT, as a reply. `mail_parameters` tell about SMTPUTF8.
    fn judge_parameters(
        &self,
        address: &str,
        text: &str,
        mail_parameters: &str,
    ) -> Option<(u16, &'static str, String)> {
        for parameter in parameters(text) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = name.to_ascii_uppercase();
            let keyword = match name.as_str() {
                "BODY" => "8BITMIME",
                "RET" | "ENVID" | "NOTIFY" | "ORCPT" => "DSN",
                other => other,
            };
            if !self.esmtp() || self.offer(keyword).is_none() {
                self.open
                    .note_violation(&format!("parameter {name}, and {keyword} was not offered"));
                return Some((555, "5.5.4", format!("{name} is not known here")));
            }
            let limit = self
                .offer("SIZE")
                .and_then(|n| n.parse::<u64>().ok())
                .filter(|n| *n > 0);
            if name == "SIZE"
                && value
                    .parse::<u64>()
                    .is_ok_and(|n| limit.is_some_and(|limit| n > limit))
            {
                return Some((552, "5.3.4", "the message is too large for this host".to_owned()));
            }
        }
        if !address.is_ascii() && !parameters(mail_parameters).any(|p| p.eq_ignore_ascii_case("SMTPUTF8")) {
            return Some((553, "5.6.7", "this address needs SMTPUTF8".to_owned()));
        }
        None
    }

    fn esmtp(&self) -> bool {
        self.greeted.as_ref().is_some_and(|g| g.esmtp)
    }

    /// The parameters of an offered EHLO keyword.
    fn offer(&self, keyword: &str) -> Option<&'a str> {
        let script = self.script;
        let more = if self.tls {
            script.offers_under_tls.as_slice()
        } else {
            &[]
        };
        script.offers.iter().chain(more).find_map(|offer| {
            let (name, parameters) = offer.split_once(' ').unwrap_or((offer, ""));
            name.eq_ignore_ascii_case(keyword).then_some(parameters)
        })
    }

    fn usual(&self, code: u16, enhanced: &str, text: &str) -> Reply {
        if self.esmtp() && self.offer("ENHANCEDSTATUSCODES").is_some() {
            Reply::new(code, format!("{enhanced} {text}"))
        } else {
            Reply::new(code, text)
        }
    }

    /// Answers where no rule is asked.
    fn refuse(&self, wire: &mut Wire, code: u16, enhanced: &str, text: &str) -> io::Result<Flow> {
        self.send(wire, &self.usual(code, enhanced, text))?;
        Ok(Flow::Go)
    }

    /// What a rule says instead of a longer exchange; `None` when the exchange may begin.
    fn forestall(&self, wire: &mut Wire, step: Step, argument: &str) -> io::Result<Option<Flow>> {
        let Some(rule) = self.open.talk.rule(step, argument, 0) else {
            return Ok(None);
        };
        let said = self.perform(wire, &rule.actions, None)?;
        Ok((said.code != 0 || said.flow != Flow::Go).then_some(said.flow))
    }

    fn answer(
        &self,
        wire: &mut Wire,
        step: Step,
        argument: &str,
        so_far: u64,
        usual: &Reply,
    ) -> io::Result<Said> {
        let rule = self.open.talk.rule(step, argument, so_far);
        self.perform(wire, rule.map_or(&[][..], |rule| &rule.actions), Some(usual))
    }

    /// Does what a rule says, and gives the usual answer if it gave none.
    fn perform(&self, wire: &mut Wire, actions: &[Action], usual: Option<&Reply>) -> io::Result<Said> {
        let mut said = Said {
            code: 0,
            flow: Flow::Go,
        };
        let mut silent = false;
        for action in actions {
            match action {
                Action::Reply(reply) => {
                    self.send(wire, reply)?;
                    said.code = reply.code;
                }
                Action::Raw(bytes) => {
                    wire.queue().extend_from_slice(bytes);
                    wire.flush()?;
                    said.code = raw_code(bytes);
                }
                Action::Accept => {
                    if let Some(usual) = usual {
                        self.send(wire, usual)?;
                        said.code = usual.code;
                    }
                }
                Action::Keep => silent = true,
                Action::Stall(time) => {
                    wire.flush()?;
                    wire.pause(*time)?;
                }
                Action::HangUp => {
                    wire.flush()?;
                    said.flow = Flow::HangUp;
                    return Ok(said);
                }
            }
        }
        if said.code == 0
            && !silent
            && let Some(usual) = usual
        {
            self.send(wire, usual)?;
            said.code = usual.code;
        }
        if said.code == 421 {
            said.flow = Flow::Close;
        }
        Ok(said)
    }

    fn send(&self, wire: &mut Wire, reply: &Reply) -> io::Result<()> {
        if !self.script.reply_delay.is_zero() {
            wire.pause(self.script.reply_delay)?;
        }
        reply.write(wire.queue());
        if self.script.reply_delay.is_zero() && self.script.drip.is_zero() {
            return Ok(());
        }
        wire.flush()
    }
}

/// Whether the host answers for a message when it does this at its end.
fn is_taken(actions: &[Action]) -> bool {
    let decisive = actions.iter().find_map(|action| match action {
        Action::Reply(reply) => Some(reply.code < 300),
        Action::Raw(bytes) => Some(bytes.first() == Some(&b'2')),
        Action::Accept | Action::Keep => Some(true),
        Action::HangUp => Some(false),
        Action::Stall(_) => None,
    });
    decisive.unwrap_or(true)
}

fn raw_code(bytes: &[u8]) -> u16 {
    let digits = bytes.get(..3).and_then(|b| std::str::from_utf8(b).ok());
    digits.and_then(|d| d.parse().ok()).unwrap_or(500)
}

/// `FROM:<address> parameters` → address and parameters. The closing bracket is looked for outside quotes.
fn path<'t>(text: &'t str, keyword: &str) -> Option<(&'t str, &'t str)> {
    let head = text.get(..keyword.len())?;
    let rest = text.get(keyword.len()..)?.strip_prefix('<')?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let after = rest.get(i + 1..)?;
                let parameters = if after.is_empty() {
                    after
                } else {
                    after.strip_prefix(' ')?
                };
                return Some((rest.get(..i)?, parameters));
            }
            _ => {}
        }
    }
    None
}

fn parameters(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_their_bracket() {
        assert_eq!(path("FROM:<> RET=HDRS", "FROM:"), Some(("", "RET=HDRS")));
        assert_eq!(path("to:<a@b>", "TO:"), Some(("a@b", "")));
        assert_eq!(
            path("TO:<\"a>\\\"\"@b> N=1", "TO:"),
            Some(("\"a>\\\"\"@b", "N=1"))
        );
        for wrong in ["TO: <a@b>", "TO:a@b", "TO:<a@b", "TO:<a@b>x", "FROM:<a>"] {
            assert_eq!(path(wrong, "TO:"), None, "{wrong}");
        }
    }
}
