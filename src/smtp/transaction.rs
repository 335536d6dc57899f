//! One transaction: MAIL, RCPT …, then DATA or BDAT, and what each reply means for whom.
//!
//! With PIPELINING (RFC 2920) the commands leave in one write with a short message behind them; the replies are read
//! in the order of the commands. A step ends early with a [`Stop`]; [`Exchange::run`] turns that into outcomes for all
//! who have none yet. Several transactions on their way at once: `pipeline`. Reads and writes one socket, on the session's thread.

mod envelope;
mod flight;
mod message;

use std::borrow::Cow;

use super::body::{Body, Transaction, Whole};
use super::chat::Chat;
use super::commands;
use super::offers::Offers;
use super::verdict::judge_broken;
use super::wire::Broken;
use crate::mail::{EnhancedStatus, Outcome};

pub(super) use flight::{Done, Flight, Stop, disk_trouble, stay_in_step};

/// A message up to this size is made in memory before the first command, so that trouble of our disk costs nothing.
pub(super) const WHOLE: u64 = 64 * 1024;

/// Buffers that live as long as the session.
#[derive(Default)]
pub(super) struct Buffers {
    /// The message when it is short; a block of it when it is long.
    content: Vec<u8>,
    line: String,
}

/// Who of a transaction can go to this host, in wire form.
pub(super) struct Manifest<'a> {
    pub sender: Option<Cow<'a, str>>,
    /// As many as the flight has `going`.
    pub addresses: Vec<Cow<'a, str>>,
}

impl<'a> Manifest<'a> {
    /// Before a word is said: who can go. Who cannot has an outcome in `flight`; the error is for all.
    pub fn of(
        tx: &Transaction<'a>,
        body: &dyn Body,
        offers: &Offers,
        host: &str,
        flight: &mut Flight,
    ) -> Result<Self, Outcome> {
        let sender = tx.sender.map(|sender| commands::wire_form(sender, offers));
        let sender = sender.transpose()?;
        let size = body.size();
        if let Some(limit) = offers.max_size.filter(|limit| size > *limit) {
            let words = format!("the message has {size} bytes; the host takes {limit} at most");
            return Err(Outcome::failed(EnhancedStatus::new(5, 3, 4), words));
        }
        let mut addresses = Vec::with_capacity(tx.recipients.len());
        for (index, recipient) in tx.recipients.iter().enumerate() {
            match commands::wire_form(&recipient.address, offers) {
                Ok(address) => {
                    flight.going.push(index);
                    addresses.push(address);
                }
                Err(outcome) => flight.set(index, outcome.at(host)),
            }
        }
        Ok(Self { sender, addresses })
    }

    /// `MAIL FROM:<…>` with what is due and offered.
    pub fn mail(&self, tx: &Transaction<'_>, body: &dyn Body, offers: &Offers) -> String {
        let utf8 = offers.smtputf8
            && (tx.utf8
                || tx.sender.is_some_and(commands::needs_utf8)
                || tx
                    .recipients
                    .iter()
                    .any(|recipient| commands::needs_utf8(&recipient.address)));
        commands::mail(self.sender.as_deref(), tx, body, utf8, offers)
    }

    /// Each `RCPT TO:<…>`, in the order of `flight.going`, until `say` ends it.
    pub fn each_rcpt<E>(
        &self,
        tx: &Transaction<'_>,
        going: &[usize],
        offers: &Offers,
        line: &mut String,
        mut say: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        for (index, address) in going.iter().zip(&self.addresses) {
            if let Some(recipient) = tx.recipients.get(*index) {
                commands::rcpt(line, address, recipient, offers);
            }
            if !say(line)? {
                break;
            }
        }
        Ok(())
    }
}

/// The message for the wire in `to`: as this host takes it, dot-stuffed or not.
pub(super) fn write_content(body: &dyn Body, offers: &Offers, to: &mut Vec<u8>) -> std::io::Result<()> {
    let mut whole = Whole::new(to);
    if offers.chunking {
        body.write_plain(&mut whole)?;
    } else {
        body.write_data(&mut whole)?;
    }
    whole.finish();
    Ok(())
}

/// A transaction alone on its connection.
pub(super) struct Exchange<'a> {
    chat: &'a mut Chat,
    offers: &'a Offers,
    host: &'a str,
    tx: &'a Transaction<'a>,
    body: &'a dyn Body,
    buffers: &'a mut Buffers,
    flight: Flight,
    /// The connection has served other messages.
    is_kept: bool,
    /// The first write that failed. Replies are still read, nothing more is sent.
    write_failed: Option<Broken>,
    waiting_for: &'static str,
}

impl<'a> Exchange<'a> {
    pub fn new(
        chat: &'a mut Chat,
        offers: &'a Offers,
        host: &'a str,
        tx: &'a Transaction<'a>,
        body: &'a dyn Body,
        buffers: &'a mut Buffers,
        is_kept: bool,
    ) -> Self {
        Self {
            chat,
            offers,
            host,
            tx,
            body,
            buffers,
            flight: Flight::new(tx.recipients.len()),
            is_kept,
            write_failed: None,
            waiting_for: "",
        }
    }

    /// All of it, to the last outcome, and whether the conversation is in step afterwards.
    pub fn run(mut self) -> (Done, bool) {
        let in_step = match self.prepare() {
            None => true,
            Some(manifest) => match self.steps(&manifest) {
                Ok(()) => self.write_failed.is_none() && (self.flight.ended_well || reset(self.chat)),
                Err(stop) => {
                    self.stopped(stop);
                    false
                }
            },
        };
        (self.flight.done(self.host), in_step)
    }

    /// Before a word is said: who can go, and the message if it is short. `None`: nobody can, all have outcomes.
    fn prepare(&mut self) -> Option<Manifest<'a>> {
        let tx: &'a Transaction<'a> = self.tx;
        let manifest = Manifest::of(tx, self.body, self.offers, self.host, &mut self.flight);
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(outcome) => return self.nobody(outcome),
        };
        if self.is_short()
            && let Err(error) = write_content(self.body, self.offers, &mut self.buffers.content)
        {
            return self.nobody(disk_trouble(&error));
        }
        (!manifest.addresses.is_empty()).then_some(manifest)
    }

    fn nobody(&mut self, outcome: Outcome) -> Option<Manifest<'a>> {
        self.chat.dialogue.note(&outcome.text);
        self.flight.settle(&outcome.at(self.host));
        None
    }

    fn is_short(&self) -> bool {
        self.body.size() <= WHOLE
    }

    fn steps(&mut self, manifest: &Manifest<'_>) -> Result<(), Stop> {
        self.envelope(manifest)?;
        if self.flight.due_of_envelope().is_none() && self.flight.accepted == 0 {
            return Ok(());
        }
        match (self.offers.chunking, self.is_short()) {
            (true, true) => self.one_chunk(),
            (true, false) => self.chunks(),
            (false, _) => self.data(),
        }
    }

    /// Sends what is queued. A failure is only noted: the host may have said why, so its replies are read first.
    fn flush(&mut self) {
        if self.write_failed.is_none()
            && let Err(broken) = self.chat.flush()
        {
            self.write_failed = Some(broken);
            self.chat.wait_no_longer();
        }
    }

    fn stopped(&mut self, stop: Stop) {
        match stop {
            Stop::Leaving(outcome) => self.flight.is_turned_away(outcome.at(self.host), self.is_kept),
            Stop::Disk(error) => {
                let outcome = disk_trouble(&error);
                self.chat.dialogue.note(&outcome.text);
                self.flight.is_cut_off(outcome.at(self.host), false);
            }
            Stop::Broken(broken) => {
                let cause = self.write_failed.as_ref().unwrap_or(&broken);
                let outcome = judge_broken(cause, self.waiting_for, self.host);
                self.flight.is_cut_off(outcome.at(self.host), true);
            }
        }
        self.chat.wire.hang_up();
    }
}

/// Brings the host back to the state between two transactions.
pub(super) fn reset(chat: &mut Chat) -> bool {
    matches!(chat.command("RSET"), Ok(reply) if reply.is_positive())
}
