//! ATRN (RFC 2645): who has logged in takes mail on hold over this connection, on which he becomes the server.
//!
//! The engine does not know of us: it finds a door in `Status/release/`, a port of 127.0.0.1 that we open, and comes in
//! when it has mail. Then bytes pass both ways until one of the two ends it. It must say the words that stand in the
//! request, and so must we: only the service's user can read them. Reads and writes: two sockets, and `Status/release/`
//! through [`Requests`]. Thread: the session's.

use super::{Next, Session};
use crate::config::on_hold::asked_for;
use crate::mail::MessageId;
use crate::mailroot::release::{Door, Requests, Wanted};
use crate::plugins::listener::reply::Reply;
use crate::plugins::listener::wire::Gone;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// It is looked so often whether the end has come.
const LOOK: Duration = Duration::from_millis(250);
/// Whoever comes in says the word at once.
const AT_ONCE: Duration = Duration::from_millis(500);

impl Session<'_> {
    pub(super) fn atrn(&mut self, domains: &[String]) -> Result<Next, Gone> {
        let wanted = match self.may_take(domains) {
            Ok(wanted) => wanted,
            Err(reply) => return Ok(Next::Say(reply)),
        };
        self.wire.flush()?;
        let opened = match Opened::new(&self.house.requests, &wanted) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(%error, "mail on hold cannot be asked for");
                return Ok(Next::Say(not_now()));
            }
        };
        let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let user = self.client.user.as_deref().unwrap_or("");
        info!(client = %self.client.address, user, domains = names.join(" "), "ATRN");
        let engine = match opened.wait(self.rules.at_door, || self.facts.stop.is_set()) {
            Ok(engine) => engine,
            Err(true) => return Ok(Next::Say(Reply::new(453, "4.0.0", "You have no mail"))),
            Err(false) => {
                warn!(
                    "no `mailroot run` of this machine works on this mailroot: nobody can take mail on hold"
                );
                return Ok(Next::Say(not_now()));
            }
        };
        self.say(&Reply::new(250, "2.0.0", "OK now reversing the connection"));
        self.wire.flush()?;
        // Whatever ends it: to one who is the server now there is nothing to say.
        let words = match self.wire.pass(engine) {
            Ok(words) => words,
            Err(Gone::Closed | Gone::Ambiguous) => "the connection broke",
            Err(Gone::TimedOut) => "both were silent for too long",
            Err(Gone::Ending) => "it was ended",
        };
        Ok(Next::Reversed(format!("ATRN: {words}")))
    }

    /// What is to be taken.
    fn may_take(&self, domains: &[String]) -> Result<Vec<Wanted>, Reply> {
        if !self.rules.offers_atrn() {
            return Err(Reply::new(502, "5.5.1", "ATRN is not offered"));
        }
        if let Some(reply) = self.may_begin() {
            return Err(reply);
        }
        let Some(user) = &self.client.user else {
            return Err(Reply::new(530, "5.7.0", "Authentication required"));
        };
        if self.transaction.is_some() {
            return Err(Reply::order("Not in the middle of a message"));
        }
        let refused = |why: String| Reply::new(450, "4.7.1", format!("ATRN request refused: {why}"));
        let on_hold = &self.rules.on_hold;
        let mut wanted = Vec::new();
        for domain in domains {
            match asked_for(domain) {
                Ok((name, false)) if on_hold.is_taken_by(&name, user) => wanted.push(Wanted::Domain(name)),
                Ok((_, false)) => return Err(refused(format!("you may not take the mail of {domain}"))),
                Ok((_, true)) => return Err(Reply::argument("ATRN wants whole domains")),
                Err(why) => return Err(Reply::argument(&format!("{domain} is not a domain: {why}"))),
            }
        }
        if domains.is_empty() {
            let entries = on_hold.taken_by(user).into_iter();
            wanted.extend(entries.map(|name| match name.starts_with('*') {
                true => Wanted::Entry(name),
                false => Wanted::Domain(name),
            }));
        }
        match wanted.is_empty() {
            true => Err(refused("no domain has you among its atrn_users".to_owned())),
            false => Ok(wanted),
        }
    }
}

fn not_now() -> Reply {
    Reply::new(451, "4.3.0", "Unable to process ATRN request now")
}

/// A door, shut when this goes.
struct Opened<'h> {
    requests: &'h Requests,
    door: Door,
    socket: TcpListener,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.requests.close(&self.door);
    }
}

impl<'h> Opened<'h> {
    fn new(requests: &'h Requests, wanted: &[Wanted]) -> io::Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
        let secret = || format!("{}{}", MessageId::generate(), MessageId::generate());
        let opened = Self {
            requests,
            door: Door {
                id: MessageId::generate().to_string(),
                port: socket.local_addr()?.port(),
                knock: secret(),
                answer: secret(),
            },
            socket,
        };
        requests
            .open(wanted, &opened.door)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(opened)
    }

    /// The first who comes in and knows the word; else, whether there is an engine that could.
    fn wait(self, patience: Duration, is_over: impl Fn() -> bool) -> Result<TcpStream, bool> {
        let until = Instant::now() + patience;
        while Instant::now() < until && !is_over() {
            let came = self.socket.accept();
            if let Ok((tcp, _)) = came
                && self.is_ours(&tcp).unwrap_or(false)
            {
                return Ok(tcp);
            }
        }
        Err(self.requests.is_seen(&self.door))
    }

    fn is_ours(&self, mut tcp: &TcpStream) -> io::Result<bool> {
        tcp.set_read_timeout(Some(AT_ONCE))?;
        tcp.set_write_timeout(Some(AT_ONCE))?;
        let wanted = format!("{}\r\n", self.door.knock);
        let mut heard = vec![0; wanted.len()];
        tcp.read_exact(&mut heard)?;
        if heard != wanted.as_bytes() {
            return Ok(false);
        }
        tcp.write_all(format!("{}\r\n", self.door.answer).as_bytes())?;
        Ok(true)
    }
}
