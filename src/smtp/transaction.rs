//! One transaction: MAIL, RCPT …, then DATA or BDAT, and what each reply means for whom.
//!
//! With PIPELINING (RFC 2920) the commands leave in one write with a short message behind them; the replies are read
//! in the order of the commands. A step ends early with a [`Stop`]; [`Exchange::run`] turns that into outcomes for all
//! who have none yet. Reads and writes one socket, on the session's thread.

mod envelope;
mod message;

use std::borrow::Cow;

use super::body::{Body, Transaction};
use super::chat::Chat;
use super::commands;
use super::offers::Offers;
use super::reply::Reply;
use super::verdict::{Stage, judge, judge_broken};
use super::wire::Broken;
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// A message up to this size is made in memory before the first command, so that trouble of our disk costs nothing.
const WHOLE: u64 = 64 * 1024;

/// Buffers that live as long as the session.
#[derive(Default)]
pub(super) struct Buffers {
    content: Vec<u8>,
    line: String,
}

/// What is left of an [`Exchange`].
pub(super) struct Done {
    pub outcomes: Vec<Outcome>,
    pub left_over: Vec<usize>,
    pub in_step: bool,
    pub uncertain: bool,
}

/// Why a transaction ends before its end.
enum Stop {
    Broken(Broken),
    /// 421: the host closes.
    Leaving(Outcome),
    /// Our own disk, while the message was on its way.
    Disk(std::io::Error),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

pub(super) struct Exchange<'a> {
    chat: &'a mut Chat,
    offers: &'a Offers,
    host: &'a str,
    tx: &'a Transaction<'a>,
    body: &'a dyn Body,
    buffers: &'a mut Buffers,
    /// Per recipient of the transaction; `None`: still open.
    outcomes: Vec<Option<Outcome>>,
    left_over: Vec<usize>,
    /// Who gets a RCPT, in wire form.
    going: Vec<(usize, Cow<'a, str>)>,
    /// Commands among MAIL and RCPT … that were queued, and whose replies were read.
    asked: usize,
    answered: usize,
    mail_refused: bool,
    accepted: usize,
    /// The first write that failed. Replies are still read, nothing more is sent.
    write_failed: Option<Broken>,
    /// The whole message, with its end, is on its way.
    content_sent: bool,
    /// … and the connection broke before the host said what became of it.
    uncertain: bool,
    /// The host gave the reply that ends a transaction, and it was positive: no RSET is due.
    ended_well: bool,
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
    ) -> Self {
        Self {
            chat,
            offers,
            host,
            tx,
            body,
            buffers,
            outcomes: vec![None; tx.recipients.len()],
            left_over: Vec::new(),
            going: Vec::with_capacity(tx.recipients.len()),
            asked: 0,
            answered: 0,
            mail_refused: false,
            accepted: 0,
            write_failed: None,
            content_sent: false,
            uncertain: false,
            ended_well: false,
            waiting_for: "",
        }
    }

    /// All of it, to the last outcome.
    pub fn run(mut self) -> Done {
        let Some(sender) = self.prepare() else {
            return self.done(true);
        };
        let in_step = match self.steps(sender.as_deref()) {
            Ok(()) => self.write_failed.is_none() && (self.ended_well || self.reset()),
            Err(stop) => {
                self.stopped(stop);
                false
            }
        };
        self.done(in_step)
    }

    /// Before a word is said: who can go, and the message if it is short. `None`: nobody can, all have outcomes.
    fn prepare(&mut self) -> Option<Option<Cow<'a, str>>> {
        let sender = match self
            .tx
            .sender
            .map(|sender| commands::wire_form(sender, self.offers))
        {
            None => None,
            Some(Ok(sender)) => Some(sender),
            Some(Err(outcome)) => return self.nobody(outcome),
        };
        let size = self.body.size();
        if let Some(limit) = self.offers.max_size.filter(|limit| size > *limit) {
            let words = format!("the message has {size} bytes; the host takes {limit} at most");
            return self.nobody(Outcome::failed(EnhancedStatus::new(5, 3, 4), words));
        }
        for (index, recipient) in self.tx.recipients.iter().enumerate() {
            match commands::wire_form(&recipient.address, self.offers) {
                Ok(address) => self.going.push((index, address)),
                Err(outcome) => set(&mut self.outcomes, index, outcome.at(self.host)),
            }
        }
        if self.is_short() {
            self.buffers.content.clear();
            let written = if self.offers.chunking {
                self.body.write_plain(&mut self.buffers.content)
            } else {
                self.body.write_data(&mut self.buffers.content)
            };
            if let Err(error) = written {
                return self.nobody(disk_trouble(&error));
            }
        }
        (!self.going.is_empty()).then_some(sender)
    }

    fn nobody(&mut self, outcome: Outcome) -> Option<Option<Cow<'a, str>>> {
        self.chat.dialogue.note(&outcome.text);
        self.settle(&outcome.at(self.host));
        None
    }

    fn is_short(&self) -> bool {
        self.body.size() <= WHOLE
    }

    fn steps(&mut self, sender: Option<&str>) -> Result<(), Stop> {
        self.envelope(sender)?;
        if self.asked == self.answered && self.accepted == 0 {
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

    /// 421 ends everything; an intermediate reply where none belongs means that replies and commands are out of step.
    fn stay_in_step(&self, stage: Stage, reply: &Reply) -> Result<(), Stop> {
        if reply.code == 421 {
            return Err(Stop::Leaving(judge(stage, reply, self.host)));
        }
        let expected_354 = self.waiting_for == "the reply to DATA" && reply.code == 354;
        let positive_to_data = self.waiting_for == "the reply to DATA" && reply.is_positive();
        if (reply.class() == 3 && !expected_354) || positive_to_data {
            let why = format!("{} where {} was due", reply.one_line(), self.waiting_for);
            return Err(Stop::Broken(Broken::Nonsense {
                why,
                raw: String::new(),
            }));
        }
        Ok(())
    }

    /// Brings the host back to the state between two transactions.
    fn reset(&mut self) -> bool {
        matches!(self.chat.command("RSET"), Ok(reply) if reply.is_positive())
    }

    fn stopped(&mut self, stop: Stop) {
        let outcome = match stop {
            Stop::Leaving(outcome) => outcome,
            Stop::Disk(error) => {
                let outcome = disk_trouble(&error);
                self.chat.dialogue.note(&outcome.text);
                outcome
            }
            Stop::Broken(broken) => {
                let cause = self.write_failed.as_ref().unwrap_or(&broken);
                let mut outcome = judge_broken(cause, self.waiting_for, self.host);
                if self.content_sent {
                    self.uncertain = true;
                    outcome
                        .text
                        .push_str("; it may have been accepted, so a second copy is possible");
                }
                outcome
            }
        };
        self.chat.wire.hang_up();
        self.settle(&outcome.at(self.host));
        self.left_over.clear();
    }

    /// For all who have no outcome yet.
    fn settle(&mut self, outcome: &Outcome) {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    fn done(self, in_step: bool) -> Done {
        let host = self.host;
        let forgotten = || {
            let words = "the transaction ended without a word about this recipient";
            Outcome::ours(Verdict::Deferred, EnhancedStatus::new(4, 5, 0), words).at(host)
        };
        Done {
            outcomes: self
                .outcomes
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(forgotten))
                .collect(),
            left_over: self.left_over,
            in_step,
            uncertain: self.uncertain,
        }
    }
}

fn set(outcomes: &mut [Option<Outcome>], index: usize, outcome: Outcome) {
    if let Some(open) = outcomes.get_mut(index) {
        *open = Some(outcome);
    }
}

fn disk_trouble(error: &std::io::Error) -> Outcome {
    Outcome::deferred(
        EnhancedStatus::new(4, 3, 0),
        format!("local disk: the message could not be read ({error})"),
    )
}
