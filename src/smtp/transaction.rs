//! One transaction: MAIL, RCPT …, then DATA or BDAT, and what each reply means for whom.
//!
//! With PIPELINING (RFC 2920) the commands leave in one write with a short message behind them; the replies are read in the
//! order of the commands. A step ends early with a [`Stop`]; [`Exchange::run`] turns that into outcomes for all who
//! have none yet. Reads and writes one socket, on the session's thread.

use std::borrow::Cow;

use super::body::{Body, Transaction};
use super::chat::Chat;
use super::commands;
use super::offers::Offers;
use super::reply::Reply;
use super::upload::{ChunkUpload, DataUpload, Halt, end_mark};
use super::verdict::{Stage, is_too_many, judge, judge_broken};
use super::wire::Broken;
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// A message up to this size is made in memory before the first command, so that trouble of our disk costs nothing.
const WHOLE: u64 = 64 * 1024;
/// Commands wait for their replies when more than this is on its way: a host that answers while we write must
/// never find both pipes full.
const GROUP: usize = 16 * 1024;

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

    // ── the envelope ──

    /// MAIL and all RCPT are queued; with PIPELINING the replies to the last group are still to be read.
    fn envelope(&mut self, sender: Option<&str>) -> Result<(), Stop> {
        let utf8 = self.offers.smtputf8
            && (self.tx.utf8
                || self.tx.sender.is_some_and(commands::needs_utf8)
                || self
                    .tx
                    .recipients
                    .iter()
                    .any(|recipient| commands::needs_utf8(&recipient.address)));
        let mail = commands::mail(sender, self.tx, self.body, utf8, self.offers);
        self.ask(&mail)?;
        let mut line = std::mem::take(&mut self.buffers.line);
        for place in 0..self.going.len() {
            if self.mail_refused {
                break;
            }
            let Some((index, address)) = self.going.get(place) else {
                break;
            };
            if let Some(recipient) = self.tx.recipients.get(*index) {
                commands::rcpt(&mut line, address, recipient, self.offers);
            }
            self.ask(&line)?;
        }
        self.buffers.line = line;
        Ok(())
    }

    fn ask(&mut self, line: &str) -> Result<(), Stop> {
        self.chat.queue(line);
        self.asked += 1;
        if !self.offers.pipelining || self.chat.queued() >= GROUP {
            self.flush();
            self.read_envelope_replies()?;
        }
        Ok(())
    }

    fn read_envelope_replies(&mut self) -> Result<(), Stop> {
        while self.answered < self.asked {
            self.waiting_for = match self.answered {
                0 => "the reply to MAIL",
                _ => "the reply to RCPT",
            };
            let reply = self.chat.reply()?;
            match self.answered {
                0 => self.on_mail(&reply)?,
                place => self.on_rcpt(place - 1, &reply)?,
            }
            self.answered += 1;
        }
        Ok(())
    }

    fn on_mail(&mut self, reply: &Reply) -> Result<(), Stop> {
        self.stay_in_step(Stage::Mail, reply)?;
        if !reply.is_positive() {
            self.mail_refused = true;
            self.settle(&judge(Stage::Mail, reply, self.host));
        }
        Ok(())
    }

    fn on_rcpt(&mut self, place: usize, reply: &Reply) -> Result<(), Stop> {
        self.stay_in_step(Stage::Recipient, reply)?;
        if self.mail_refused {
            return Ok(());
        }
        if reply.is_positive() {
            self.accepted += 1;
            return Ok(());
        }
        if let Some((index, _)) = self.going.get(place) {
            if self.accepted > 0 && is_too_many(reply) {
                self.left_over.push(*index);
            }
            set(
                &mut self.outcomes,
                *index,
                judge(Stage::Recipient, reply, self.host),
            );
        }
        Ok(())
    }

    // ── the message ──

    /// A short message as one BDAT, behind the commands that wait.
    fn one_chunk(&mut self) -> Result<(), Stop> {
        let content = std::mem::take(&mut self.buffers.content);
        self.chat.queue(&format!("BDAT {} LAST", content.len()));
        self.chat.queue_content(&content);
        self.buffers.content = content;
        self.flush();
        self.content_sent = self.write_failed.is_none();
        self.read_envelope_replies()?;
        self.end_of_message()
    }

    /// A long one, chunk after chunk.
    fn chunks(&mut self) -> Result<(), Stop> {
        self.flush();
        self.read_envelope_replies()?;
        if self.accepted == 0 || self.write_failed.is_some() {
            return self.after_failed_write();
        }
        self.waiting_for = "the reply to BDAT";
        let mut upload = ChunkUpload::new(self.chat, self.offers.pipelining);
        let written = self.body.write_plain(&mut upload);
        let halt = match written {
            Err(error) if upload.halt.is_none() => return Err(Stop::Disk(error)),
            Err(_) => upload.drain(),
            Ok(()) => upload.finish(),
        };
        self.after_upload(halt)
    }

    fn data(&mut self) -> Result<(), Stop> {
        self.chat.queue("DATA");
        self.flush();
        self.read_envelope_replies()?;
        self.waiting_for = "the reply to DATA";
        let reply = self.chat.reply()?;
        self.stay_in_step(Stage::Content, &reply)?;
        if reply.code != 354 {
            self.settle(&judge(Stage::Content, &reply, self.host));
            return Ok(());
        }
        if self.accepted == 0 {
            return self.empty_message();
        }
        if self.write_failed.is_some() {
            return self.after_failed_write();
        }
        if !self.is_short() {
            let mut upload = DataUpload::new(self.chat);
            let written = self.body.write_data(&mut upload);
            let halt = match written {
                Err(error) if upload.halt.is_none() => return Err(Stop::Disk(error)),
                Err(_) => upload.halt,
                Ok(()) => upload.finish(),
            };
            self.waiting_for = "the reply to the message";
            return self.after_upload(halt);
        }
        let content = std::mem::take(&mut self.buffers.content);
        let end = end_mark(&content, *b"\r\n");
        self.chat.queue_content(&content);
        self.buffers.content = content;
        if end.len() > 3 {
            self.chat.queue("");
        }
        self.chat.queue(".");
        self.flush();
        self.content_sent = self.write_failed.is_none();
        self.end_of_message()
    }

    /// The host said 354 although it took no recipient: an empty message ends that (RFC 2920 §3.1). Its reply counts for nobody.
    fn empty_message(&mut self) -> Result<(), Stop> {
        self.chat.queue(".");
        self.flush();
        self.waiting_for = "the reply to the message";
        let reply = self.chat.last_reply()?;
        self.stay_in_step(Stage::Content, &reply)
    }

    fn after_upload(&mut self, halt: Option<Halt>) -> Result<(), Stop> {
        match halt {
            None => self.content_sent = true,
            Some(Halt::Broken(broken)) => self.write_failed = Some(broken),
            Some(Halt::Refused(reply)) => {
                self.stay_in_step(Stage::Content, &reply)?;
                self.settle(&judge(Stage::Content, &reply, self.host));
                return Ok(());
            }
        }
        self.end_of_message()
    }

    /// The reply that decides for all who were accepted.
    fn end_of_message(&mut self) -> Result<(), Stop> {
        if self.write_failed.is_some() {
            return self.after_failed_write();
        }
        self.waiting_for = "the reply to the message";
        let reply = self.chat.last_reply()?;
        self.stay_in_step(Stage::Content, &reply)?;
        self.ended_well = reply.is_positive();
        if self.accepted > 0 {
            self.settle(&judge(Stage::Content, &reply, self.host));
        }
        Ok(())
    }

    /// We could not write to the end; perhaps the host said why. A positive reply cannot be meant for half a message.
    fn after_failed_write(&mut self) -> Result<(), Stop> {
        let Some(broken) = self.write_failed.clone() else {
            return Ok(());
        };
        match self.chat.words_after_failed_write() {
            Some(reply) => {
                self.stay_in_step(Stage::Content, &reply)?;
                self.settle(&judge(Stage::Content, &reply, self.host));
                Ok(())
            }
            None => Err(broken.into()),
        }
    }

    // ── the end ──

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
