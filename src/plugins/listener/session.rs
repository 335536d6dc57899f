//! The conversation with one client (RFC 5321): what it may say when, and what it is told.
//!
//! Reads and writes: one socket, and Pickup through [`Inbox`](crate::mailroot::inbox::Inbox). Thread: its own, which it
//! blocks. A client costs that thread, one buffer and the header block of the message it sends. Not here: how a command
//! is written (command), who may do what (rules), the bytes of a message (letter).

mod fetch;
mod reverse;
mod transfer;

use super::House;
use super::auth;
use super::client::Client;
use super::command::{self, Command, Mail, Rcpt};
use super::guests::Facts;
use super::letter::{Letter, there_is_room};
use super::reply::Reply;
use super::rules::Rules;
use super::wire::{Gone, Line, Wire};
use crate::config::ListenerTls;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// RFC 5321 §4.5.3.1.4 asks for 512, and extensions for more: addresses, DSN parameters.
const COMMAND: usize = 2048;

/// So many commands that send no mail may come without a message among them, as in Postfix.
const IDLE: usize = 100;

/// The leading block is a part of the header block, of which Pickup takes 16 MiB.
const MAX_ENVELOPE: usize = 8 * 1024 * 1024;
/// The words around an address in it.
const PER_RECIPIENT: usize = 80;

/// The message that is being sent.
struct Transaction<'h> {
    mail: Mail,
    recipients: Vec<Rcpt>,
    /// What they take in the file, at most.
    envelope_bytes: usize,
    /// What has come of it by BDAT.
    letter: Option<Letter<'h>>,
    /// A chunk of it was refused, so it cannot be completed any more.
    broken: bool,
}

/// One session.
pub(super) struct Session<'h> {
    house: &'h House,
    /// What others see of it.
    facts: &'h Facts,
    rules: Arc<Rules>,
    wire: Wire,
    client: Client,
    transaction: Option<Transaction<'h>>,
    errors: usize,
    messages: usize,
    /// Commands that send no mail, since there were so many messages.
    idle: (usize, usize),
    /// Of the messages.
    bytes: u64,
}

/// What follows a command.
enum Next {
    /// It has been said.
    Go,
    Say(Reply),
    /// Say this and close.
    Close(Reply),
    /// The client has said QUIT.
    Quit,
    /// STARTTLS was answered.
    StartTls,
    /// Client and server have changed places, and that is over; in words.
    Reversed(String),
}

/// Serves one client to the end.
pub(super) fn serve(house: &House, rules: Arc<Rules>, wire: Wire, client: Client, facts: &Facts) {
    let mut session = Session {
        house,
        facts,
        rules,
        wire,
        client,
        transaction: None,
        errors: 0,
        messages: 0,
        idle: (0, 0),
        bytes: 0,
    };
    let ended = session.run();
    let client = &session.client;
    client.diary.ended(&client.name);
    info!(
        address = %client.address,
        helo = client.name,
        rdns = client.shown_name(),
        user = client.user.as_deref().unwrap_or(""),
        tls = client.tls.as_deref().unwrap_or(""),
        messages = session.messages,
        errors = session.errors,
        ended,
        "session ended"
    );
    session.wire.close();
}

impl<'h> Session<'h> {
    /// All of it; returns how it ended, in words.
    fn run(&mut self) -> String {
        match self.converse() {
            Ok(words) => words,
            Err(gone) => {
                let (words, last) = match gone {
                    Gone::Ambiguous => {
                        // Another server could see other commands in what follows.
                        let reply = Reply::syntax("a line ends in CR LF, and holds neither elsewhere");
                        self.say(&reply);
                        return reply.shown();
                    }
                    Gone::Closed => return "the client closed the connection".to_owned(),
                    Gone::TimedOut => ("the client was silent for too long", "Connection timed out"),
                    Gone::Ending => ("it was ended", "Closing connection"),
                };
                Reply::new(421, "4.4.2", last).write(self.wire.say());
                words.to_owned()
            }
        }
    }

    fn converse(&mut self) -> Result<String, Gone> {
        if self.rules.listener.tls == ListenerTls::Implicit {
            if let Err(why) = self.start_tls() {
                return Ok(why);
            }
        } else if self.wire.talks_out_of_turn() {
            self.say(&Reply::new(554, "5.5.1", "You spoke before I did"));
            return Ok("it spoke before the greeting".to_owned());
        }
        let greeting = format!("{} ESMTP mailroot ready", self.rules.hostname);
        self.say(&Reply::new(220, "", greeting));
        loop {
            let line = self.wire.line(COMMAND)?;
            self.client.diary.heard(&line);
            let command = match line {
                Line::Whole(line) => command::parse(&line, &self.rules.default_domain),
                Line::TooLong => Err(Reply::syntax("the line is too long")),
                Line::Broken => return Err(Gone::Ambiguous),
            };
            if self.is_too_idle(command.as_ref().map_or(true, Command::is_idle)) {
                self.say(&Reply::new(421, "4.7.0", "Too many commands without a message"));
                return Ok("too many commands without a message".to_owned());
            }
            let next = match command {
                Ok(command) => {
                    let verb = command.verb();
                    self.show(verb);
                    let next = self.obey(command)?;
                    self.show(verb);
                    next
                }
                Err(reply) => Next::Say(reply),
            };
            match next {
                Next::Go => {}
                Next::Reversed(words) => return Ok(words),
                Next::Say(reply) => self.say(&reply),
                Next::Quit => {
                    let words = format!("{} Service closing transmission channel", self.rules.hostname);
                    self.say(&Reply::new(221, "2.0.0", words));
                    return Ok("QUIT".to_owned());
                }
                Next::Close(reply) => {
                    self.say(&reply);
                    return Ok(reply.shown());
                }
                Next::StartTls => {
                    self.say(&Reply::new(220, "2.0.0", "SMTP server ready"));
                    self.wire.flush()?;
                    if self.wire.holds_unread() {
                        return Ok("it sent commands in clear behind STARTTLS".to_owned());
                    }
                    if let Err(why) = self.start_tls() {
                        return Ok(why);
                    }
                }
            }
            if self.errors >= self.rules.listener.max_errors {
                self.say(&Reply::new(421, "4.7.0", "Too many errors"));
                return Ok("too many errors".to_owned());
            }
        }
    }

    /// Who talks on without sending anything costs us lines of the log.
    fn is_too_idle(&mut self, is_idle: bool) -> bool {
        if self.idle.1 != self.messages {
            self.idle = (0, self.messages);
        }
        self.idle.0 += usize::from(is_idle);
        self.idle.0 > IDLE
    }

    fn show(&self, state: &'static str) {
        self.facts.note(&self.client, state, self.messages);
    }

    fn say(&mut self, reply: &Reply) {
        if !reply.is_positive() {
            // What is refused only for now is no mistake of the client's.
            self.errors += usize::from(reply.code >= 500);
            info!(client = %self.client.address, helo = self.client.name, reply = reply.shown(), "refused");
        }
        let out = self.wire.say();
        let before = out.len();
        reply.write(out);
        let bytes = out.len() - before;
        self.client.diary.said(reply.code, bytes, &self.client.name);
    }

    /// What was said in clear counts for nothing afterwards (RFC 3207 §4.2).
    fn start_tls(&mut self) -> Result<(), String> {
        let Some(config) = self.rules.tls.clone() else {
            return Err("there is no certificate".to_owned());
        };
        self.wire
            .start_tls(config)
            .map_err(|why| format!("the TLS handshake failed: {why}"))?;
        self.client.tls = self.wire.tls_facts();
        self.client.greeted = false;
        self.client.extended = false;
        self.client.name.clear();
        self.client.user = None;
        self.transaction = None;
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<Next, Gone> {
        let reply = match command {
            Command::Helo(name) => self.hello(name, false),
            Command::Ehlo(name) => self.hello(name, true),
            Command::Noop => Reply::new(250, "2.0.0", "OK"),
            Command::Help => Reply::new(214, "2.0.0", format!("This server supports: {}", command::VERBS)),
            Command::Quit => return Ok(Next::Quit),
            Command::Rset => {
                self.transaction = None;
                Reply::new(250, "2.0.0", "Resetting")
            }
            Command::Vrfy(user) => {
                let words =
                    format!("Cannot VRFY user, but will take message for <{user}> if it may be sent there");
                Reply::new(252, "2.1.5", words)
            }
            Command::StartTls => match self.may_start_tls() {
                None => return Ok(Next::StartTls),
                Some(reply) => reply,
            },
            Command::Atrn(domains) => return self.atrn(&domains),
            Command::Etrn(wanted) => self.etrn(&wanted),
            Command::Auth(mechanism, initial) => self.auth(&mechanism, initial)?,
            Command::Mail(mail) => return Ok(self.mail(mail)),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => return self.data(),
            Command::Bdat(size, is_last) => return self.bdat(size, is_last),
        };
        Ok(Next::Say(reply))
    }

    fn hello(&mut self, name: String, extended: bool) -> Reply {
        self.transaction = None;
        self.client.name = name;
        self.client.greeted = true;
        self.client.extended = extended;
        let hello = format!(
            "{} Hello [{}]",
            self.rules.hostname,
            self.client.address.ip().to_canonical()
        );
        if !extended {
            return Reply::list(250, vec![hello]);
        }
        let mut lines = vec![hello];
        match self.rules.max_size {
            0 => lines.push("SIZE".to_owned()),
            size => lines.push(format!("SIZE {size}")),
        }
        let always = [
            "PIPELINING",
            "CHUNKING",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "VRFY",
            "HELP",
        ];
        lines.extend(always.map(str::to_owned));
        if !self.rules.on_hold.is_empty() {
            lines.push("ETRN".to_owned());
        }
        if self.rules.offers_atrn() {
            lines.push("ATRN".to_owned());
        }
        if self.may_start_tls().is_none() {
            lines.push("STARTTLS".to_owned());
        }
        if self.may_log_in().is_none() {
            lines.push(format!("AUTH {}", auth::MECHANISMS));
        }
        Reply::list(250, lines)
    }

    /// Why it cannot; `None`: it can.
    fn may_start_tls(&self) -> Option<Reply> {
        if self.client.tls.is_some() {
            Some(Reply::order("The connection is encrypted already"))
        } else if self.rules.tls.is_none() {
            Some(Reply::new(
                502,
                "5.5.1",
                "STARTTLS is not offered: there is no certificate",
            ))
        } else {
            None
        }
    }

    /// Why it cannot; `None`: it can.
    fn may_log_in(&self) -> Option<Reply> {
        let is_safe = self.client.tls.is_some() || self.rules.listener.allow_plaintext_auth;
        if self.rules.users.is_none() {
            Some(Reply::new(502, "5.5.1", "AUTH is not offered"))
        } else if self.client.user.is_some() {
            Some(Reply::order("You have logged in already"))
        } else if !is_safe {
            Some(Reply::new(
                538,
                "5.7.11",
                "Encryption is required: say STARTTLS first",
            ))
        } else {
            None
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Result<Reply, Gone> {
        if !self.client.extended {
            return Ok(Reply::order("Send EHLO first"));
        }
        if self.transaction.is_some() {
            return Ok(Reply::order("Not in the middle of a message"));
        }
        if let Some(reply) = self.may_log_in() {
            return Ok(reply);
        }
        let (name, password) = match auth::exchange(&mut self.wire, mechanism, initial)? {
            Ok(credentials) => credentials,
            Err(reply) => return Ok(reply),
        };
        let opened = self
            .rules
            .users
            .as_ref()
            .map(|passwords| passwords.are(&name, &password));
        Ok(match opened {
            Some(Ok(true)) => {
                info!(client = %self.client.address, user = name, "logged in");
                self.client.user = Some(name);
                Reply::new(235, "2.7.0", "Authentication successful.")
            }
            Some(Err(error)) => {
                warn!(%error, "nobody can log in");
                Reply::new(454, "4.7.0", "Temporary authentication failure")
            }
            Some(Ok(false)) | None => {
                info!(client = %self.client.address, user = name, "could not log in");
                Reply::new(535, "5.7.8", "Authentication unsuccessful.")
            }
        })
    }

    /// Why no mail may be sent by this client now; `None`: it may.
    fn may_send(&self) -> Option<Reply> {
        let begun = || Reply::order("Sender already specified");
        self.may_begin()
            .or_else(|| self.transaction.as_ref().map(|_| begun()))
    }

    /// Why nothing may be asked for by this client now; `None`: it may.
    fn may_begin(&self) -> Option<Reply> {
        let listener = &self.rules.listener;
        if !self.client.greeted {
            Some(Reply::order("Send hello first"))
        } else if listener.tls == ListenerTls::Required && self.client.tls.is_none() {
            Some(Reply::new(530, "5.7.0", "Must issue a STARTTLS command first"))
        } else if !listener.anonymous && self.client.user.is_none() {
            Some(Reply::new(530, "5.7.0", "Authentication required"))
        } else {
            None
        }
    }

    fn mail(&mut self, mail: Mail) -> Next {
        if let Some(reply) = self.may_send() {
            return Next::Say(reply);
        }
        let listener = &self.rules.listener;
        if listener.max_messages > 0 && self.messages >= listener.max_messages {
            return Next::Close(Reply::new(421, "4.5.3", "Too many messages in one connection"));
        }
        let size = mail.size.unwrap_or(0);
        if self.rules.max_size > 0 && size > self.rules.max_size {
            return Next::Say(Reply::new(
                552,
                "5.3.4",
                "Message size exceeds fixed maximum message size",
            ));
        }
        let session = listener.max_session_size;
        if session > 0 && size > session {
            return Next::Say(Reply::new(
                552,
                "5.3.4",
                "Message size exceeds fixed maximum session size",
            ));
        }
        if session > 0 && self.bytes.saturating_add(size) > session {
            return Next::Close(Reply::new(
                421,
                "4.3.4",
                "Session size exceeds fixed maximum session size",
            ));
        }
        if mail
            .sender
            .as_ref()
            .is_some_and(|sender| !mail.utf8 && !sender.is_ascii())
        {
            return Next::Say(Reply::new(553, "5.6.7", "This address wants SMTPUTF8"));
        }
        if let Err(reply) = there_is_room(&self.house.inbox, listener.min_free, size) {
            return Next::Say(reply);
        }
        let sender = mail.sender.as_ref().map_or("<>", |sender| sender.as_str());
        let reply = Reply::new(250, "2.1.0", format!("{sender}....Sender OK"));
        self.transaction = Some(Transaction {
            mail,
            recipients: Vec::new(),
            envelope_bytes: 0,
            letter: None,
            broken: false,
        });
        Next::Say(reply)
    }

    fn rcpt(&mut self, rcpt: Rcpt) -> Reply {
        let (rules, client) = (&self.rules, &self.client);
        let Some(transaction) = &mut self.transaction else {
            return Reply::order("Need mail command.");
        };
        if transaction.letter.is_some() || transaction.broken {
            return Reply::order("The message has begun");
        }
        if transaction.recipients.len() >= rules.listener.max_recipients {
            return Reply::new(452, "4.5.3", "Too many recipients");
        }
        if !transaction.mail.utf8 && !rcpt.address.is_ascii() {
            return Reply::new(553, "5.6.7", "This address wants SMTPUTF8");
        }
        if let Err(reply) = rules.takes(&rcpt.address, client) {
            return reply;
        }
        let size = transaction.mail.size.unwrap_or(0);
        if rules.is_local(&rcpt.address) && !self.house.drop_room.has_room(rules.drop_quota, size) {
            return Reply::full();
        }
        let orcpt = rcpt.orcpt.as_ref().map_or(0, String::len);
        transaction.envelope_bytes += rcpt.address.as_str().len() + orcpt + PER_RECIPIENT;
        if transaction.envelope_bytes > MAX_ENVELOPE {
            return Reply::new(452, "4.5.3", "Too many recipients");
        }
        let reply = Reply::new(250, "2.1.5", rcpt.address.as_str());
        let is_known = |known: &Rcpt| known.address == rcpt.address;
        if !transaction.recipients.iter().any(is_known) {
            transaction.recipients.push(rcpt);
        }
        debug!(client = %client.address, recipients = transaction.recipients.len(), "recipient taken");
        reply
    }
}
