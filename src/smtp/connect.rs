//! From nothing to a session: TCP → (TLS) → greeting → EHLO or HELO → STARTTLS → EHLO → AUTH.
//!
//! Reads and writes one socket, a second one when opportunistic TLS fails. Blocks the session's thread; every step has
//! a deadline. Not here: which host, and what follows for its queue (`route`, `engine`).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::auth::{self, Setting};
use super::chat::Chat;
use super::dialogue::Dialogue;
use super::offers::Offers;
use super::reply::Reply;
use super::verdict::{Stage, judge};
use super::wire::{Broken, Wire};
use super::{Peer, Refused, RefusedKind, Session, TlsContext, tls};
use crate::config::TlsMode;
use crate::mail::{EnhancedStatus, Outcome};
use crate::w3c;

/// Opens a session with `peer`. Under opportunistic TLS a failure of TLS is followed by one more connection, in clear;
/// the dialogue says so.
pub fn connect(peer: &Peer, tls: &TlsContext) -> Result<Session, Refused> {
    let mut dialogue = Dialogue::default();
    let mut opened = open(peer, tls, peer.tls, &mut dialogue);
    if let Err(trouble) = &opened
        && trouble.try_in_clear
    {
        dialogue.note(&format!("{}; now in clear", trouble.outcome.text));
        opened = open(peer, tls, TlsMode::Off, &mut dialogue);
    }
    opened.map_err(|trouble| Refused {
        outcome: trouble.outcome,
        kind: trouble.kind,
        dialogue: dialogue.take(),
    })
}

/// Why an opening stopped.
#[derive(Debug)]
pub(super) struct Trouble {
    pub kind: RefusedKind,
    pub outcome: Outcome,
    /// A new connection without TLS may do.
    pub try_in_clear: bool,
}

impl Trouble {
    /// Deferred, in words of ours.
    pub fn refused(kind: RefusedKind, status: EnhancedStatus, words: String, host: &str) -> Self {
        Self {
            kind,
            outcome: Outcome::deferred(status, words).at(host),
            try_in_clear: false,
        }
    }

    /// The connection was lost while `waiting_for` was due.
    pub fn broken(broken: &Broken, waiting_for: &str, host: &str) -> Self {
        let (kind, status) = match broken {
            Broken::Nonsense { .. } => (RefusedKind::Greeting, EnhancedStatus::new(4, 5, 0)),
            Broken::TimedOut(_) => (RefusedKind::Unreachable, EnhancedStatus::new(4, 4, 1)),
            Broken::Closed | Broken::Error(_) => (RefusedKind::Unreachable, EnhancedStatus::new(4, 4, 2)),
        };
        let words = format!("{} while {waiting_for} was due", broken.words());
        Self::refused(kind, status, words, host)
    }

    /// The host said no.
    fn reply(kind: RefusedKind, reply: &Reply, host: &str) -> Self {
        Self {
            kind,
            outcome: judge(Stage::Opening, reply, host),
            try_in_clear: false,
        }
    }
}

fn open(peer: &Peer, tls: &TlsContext, mode: TlsMode, story: &mut Dialogue) -> Result<Session, Trouble> {
    let host = peer.shown();
    let tcp = TcpStream::connect_timeout(&peer.address, peer.connect_timeout).map_err(|error| {
        let words = format!("no connection to {host}: {error}");
        story.note(&words);
        Trouble::refused(
            RefusedKind::Unreachable,
            EnhancedStatus::new(4, 4, 1),
            words,
            &host,
        )
    })?;
    story.note(&format!("connected to {host}"));
    // Commands leave in whole writes of ours, so that waiting for more only costs time.
    let _ = tcp.set_nodelay(true);
    if let Some((say, hear)) = &peer.knock {
        knock(&tcp, say, hear).map_err(|error| {
            let words = format!("nobody of ours is at {host} any more: {error}");
            Trouble::refused(
                RefusedKind::Unreachable,
                EnhancedStatus::new(4, 4, 1),
                words,
                &host,
            )
        })?;
    }
    let mut chat = Chat::new(Wire::new(tcp), peer.timeout);
    chat.wire.waits_until(Some(peer.stop.clone()));
    chat.dialogue = std::mem::take(story);
    chat.dialogue.goes_into(w3c::outbound(peer.address));
    let mut opening = Opening {
        chat: &mut chat,
        peer,
        tls,
        host: &host,
        facts: None,
    };
    match opening.steps(mode) {
        Ok(offers) => {
            let facts = opening.facts;
            chat.wire.waits_until(None); // from now on mail is under way
            Ok(Session::new(chat, offers, facts, host))
        }
        Err(trouble) => {
            if !matches!(trouble.kind, RefusedKind::Unreachable | RefusedKind::Tls) {
                chat.quit(false);
            }
            *story = std::mem::take(&mut chat.dialogue);
            Err(trouble)
        }
    }
}

/// Says who we are and hears who is there.
fn knock(mut tcp: &TcpStream, say: &str, hear: &str) -> io::Result<()> {
    const AT_ONCE: Duration = Duration::from_secs(5);
    tcp.set_read_timeout(Some(AT_ONCE))?;
    tcp.set_write_timeout(Some(AT_ONCE))?;
    tcp.write_all(format!("{say}\r\n").as_bytes())?;
    let wanted = format!("{hear}\r\n");
    let mut heard = vec![0; wanted.len()];
    tcp.read_exact(&mut heard)?;
    match heard == wanted.as_bytes() {
        true => Ok(()),
        false => Err(io::Error::other("another program answers there")),
    }
}

struct Opening<'a> {
    chat: &'a mut Chat,
    peer: &'a Peer,
    tls: &'a TlsContext,
    host: &'a str,
    /// `Some` from the moment that the connection is encrypted.
    facts: Option<String>,
}

impl Opening<'_> {
    fn steps(&mut self, mode: TlsMode) -> Result<Offers, Trouble> {
        if self.peer.implicit_tls {
            self.encrypt()?;
        }
        self.greeting()?;
        let mut offers = self.hello()?;
        if self.facts.is_none() && self.wants_starttls(mode, &offers)? {
            self.starttls()?;
            // What was offered in clear may have been another's words (RFC 3207 §4.2).
            offers = self.hello()?;
        }
        if let Some(auth) = &self.peer.auth {
            let setting = Setting {
                offers: &offers,
                encrypted: self.facts.is_some(),
                allow_plaintext: self.peer.allow_plaintext_auth,
                host: self.host,
            };
            auth::authenticate(self.chat, auth, &setting)?;
        }
        Ok(offers)
    }

    fn greeting(&mut self) -> Result<(), Trouble> {
        let reply = self.chat.reply();
        let reply = reply.map_err(|broken| Trouble::broken(&broken, "the greeting", self.host))?;
        if !reply.is_positive() {
            return Err(Trouble::reply(RefusedKind::Greeting, &reply, self.host));
        }
        let name = reply
            .texts()
            .next()
            .and_then(|text| text.split_whitespace().next());
        if let (Some(own), Some(name)) = (&self.peer.own_name, name)
            && bare(own).eq_ignore_ascii_case(bare(name))
        {
            let words = format!(
                "the mail loops: {} greets as {name}, which is this machine's own name (server.hostname); \
                 its domain should be local here, or its MX should point elsewhere",
                self.host
            );
            return Err(Trouble {
                kind: RefusedKind::Loop,
                outcome: Outcome::failed(EnhancedStatus::new(5, 4, 6), words).at(self.host),
                try_in_clear: false,
            });
        }
        if self.chat.wire.has_unread() {
            self.chat
                .dialogue
                .note("the host spoke on before it was asked; that is ignored");
            self.chat.wire.forget_unread();
        }
        Ok(())
    }

    fn hello(&mut self) -> Result<Offers, Trouble> {
        let name = helo_name(&self.peer.helo_name);
        if !self.peer.helo_only {
            let reply = self.command(&format!("EHLO {name}"), "the reply to EHLO")?;
            if reply.is_positive() {
                return Ok(Offers::read(&reply));
            }
            if reply.class() != 5 {
                return Err(Trouble::reply(RefusedKind::Greeting, &reply, self.host));
            }
        }
        let reply = self.command(&format!("HELO {name}"), "the reply to HELO")?;
        if reply.is_positive() {
            return Ok(Offers::default());
        }
        Err(Trouble::reply(RefusedKind::Greeting, &reply, self.host))
    }

    fn command(&mut self, line: &str, waiting_for: &str) -> Result<Reply, Trouble> {
        let reply = self.chat.command(line);
        reply.map_err(|broken| Trouble::broken(&broken, waiting_for, self.host))
    }

    fn wants_starttls(&self, mode: TlsMode, offers: &Offers) -> Result<bool, Trouble> {
        match mode {
            TlsMode::Off => Ok(false),
            TlsMode::Opportunistic => Ok(offers.starttls),
            TlsMode::Required | TlsMode::Verified if offers.starttls => Ok(true),
            TlsMode::Required | TlsMode::Verified => {
                let why = if self.peer.helo_only {
                    "was greeted with HELO (helo = true), which knows no STARTTLS"
                } else {
                    "does not offer STARTTLS"
                };
                let words = format!("encryption is required, and the host {why}");
                let status = EnhancedStatus::new(4, 7, 10);
                Err(Trouble::refused(RefusedKind::Tls, status, words, self.host))
            }
        }
    }

    fn starttls(&mut self) -> Result<(), Trouble> {
        let reply = self.command("STARTTLS", "the reply to STARTTLS")?;
        if reply.code != 220 {
            let mut trouble = Trouble::reply(RefusedKind::Tls, &reply, self.host);
            trouble.try_in_clear = self.may_go_in_clear();
            return Err(trouble);
        }
        if self.chat.wire.has_unread() {
            // Text in front of the handshake would be taken for the host's once it is encrypted.
            self.chat.wire.hang_up();
            let words = "text followed the reply to STARTTLS in clear: somebody may be tampering with the \
                         connection, which was closed";
            self.chat.dialogue.note(words);
            let status = EnhancedStatus::new(4, 7, 5);
            return Err(Trouble::refused(
                RefusedKind::Tls,
                status,
                words.to_owned(),
                self.host,
            ));
        }
        self.encrypt()
    }

    /// The handshake; `facts` are known afterwards.
    fn encrypt(&mut self) -> Result<(), Trouble> {
        let shaken = self
            .tls
            .client(self.peer)
            .and_then(|client| self.chat.wire.start_tls(client, self.peer.timeout));
        if let Err(why) = shaken {
            let words = format!("TLS failed: {why}");
            self.chat.dialogue.note(&words);
            let mut trouble =
                Trouble::refused(RefusedKind::Tls, EnhancedStatus::new(4, 7, 5), words, self.host);
            trouble.try_in_clear = self.may_go_in_clear();
            return Err(trouble);
        }
        let verified = self.peer.tls == TlsMode::Verified;
        self.facts = self.chat.wire.tls().map(|conn| tls::facts(conn, verified));
        if let Some(facts) = &self.facts {
            self.chat.dialogue.note(facts);
        }
        Ok(())
    }

    /// Opportunistic only, and not when we would then have to withhold our credentials anyway.
    fn may_go_in_clear(&self) -> bool {
        self.peer.tls == TlsMode::Opportunistic
            && !self.peer.implicit_tls
            && (self.peer.auth.is_none() || self.peer.allow_plaintext_auth)
    }
}

fn bare(name: &str) -> &str {
    name.trim_end_matches('.')
}

/// What can stand in EHLO: an A-label, never a space or a line end.
fn helo_name(name: &str) -> String {
    let ascii = match name.is_ascii() {
        true => name.to_owned(),
        false => idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_owned()),
    };
    let shown: String = ascii.chars().filter(char::is_ascii_graphic).collect();
    if shown.is_empty() {
        "localhost".to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::helo_name;

    #[test]
    fn the_helo_name_is_one_ascii_word() {
        assert_eq!(helo_name("mail.example.com"), "mail.example.com");
        assert_eq!(helo_name("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(helo_name("[192.0.2.1]"), "[192.0.2.1]");
        assert_eq!(helo_name("a b\r\nQUIT"), "abQUIT");
        assert_eq!(helo_name(" "), "localhost");
    }
}
