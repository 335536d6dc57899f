//! Several messages on their way over one connection (RFC 2920, RFC 3030).
//!
//! ```text
//! BDAT   RSET MAIL RCPT BDAT … message │ RSET MAIL RCPT BDAT … message │ …      as many as the window allows
//! DATA   message 1 . MAIL RCPT DATA │ message 2 . MAIL RCPT DATA │ …            the next envelope rides with the end
//! ```
//!
//! Only short messages, and only where the host offers PIPELINING. Replies come in the order of the commands, so the
//! oldest flight is the one that is judged. RSET stands between messages whose envelopes nobody has judged: a host that
//! refused all recipients of one would else take the next for a part of it.
//!
//! When the connection ends under several of them, those whose content the host has are uncertain; the others can go
//! in a new connection at once. Reads and writes one socket, on the session's thread.

use std::collections::VecDeque;

use super::body::{Body, Transaction};
use super::chat::Chat;
use super::dialogue::Dialogue;
use super::offers::Offers;
use super::transaction::{
    Done, Flight, Manifest, Stop, WHOLE, disk_trouble, reset, stay_in_step, write_content,
};
use super::upload::end_mark;
use super::verdict::{Stage, judge_broken};
use super::wire::Broken;
use crate::mail::{EnhancedStatus, Outcome};

/// As many bytes may be on their way before the oldest is judged: what a host must take while it answers.
const MOST_BYTES: usize = 256 * 1024;
/// A message with more goes alone on its connection: the replies to many RCPT may fill the pipe.
const MOST_RECIPIENTS: usize = 32;
/// Buffers that are kept for the next messages, and how large they may be.
const SPARE: usize = 32;
const KEPT_BUFFER: usize = 16 * 1024;

const UNTOUCHED: &str = "the connection ended before the host had a word to say about this message";

/// A message under way.
#[derive(Default)]
struct Ride {
    flight: Flight,
    dialogue: Dialogue,
    /// Commands, then content, as they go out.
    commands: Vec<u8>,
    content: Vec<u8>,
    /// RSET goes before MAIL.
    reset_first: bool,
    /// Others were under way when it was launched.
    in_company: bool,
    stage: Progress,
    /// Its share of [`Pipeline::bytes`].
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Progress {
    /// Nothing of it has been put on the wire.
    #[default]
    Waiting,
    /// Its commands have.
    Asked,
    /// All are known outcomes: nothing is to be said.
    Over,
}

/// The messages under way, oldest first.
#[derive(Default)]
pub(super) struct Pipeline {
    rides: VecDeque<Ride>,
    /// How many of them, from the end, wait to be put on the wire.
    waiting: usize,
    bytes: usize,
    /// The last transaction left the host in a state that only RSET ends.
    unclean: bool,
    /// A message has been taken on this connection.
    has_served: bool,
    /// The host answered out of order once: it gets one message after the other.
    pub disliked: bool,
    write_failed: Option<Broken>,
    spare: Vec<Vec<u8>>,
}

/// What the steps share.
pub(super) struct Line<'a> {
    pub chat: &'a mut Chat,
    pub offers: &'a Offers,
    pub host: &'a str,
}

impl Pipeline {
    pub fn len(&self) -> usize {
        self.rides.len()
    }

    /// How many may be under way at this host, if the settings allow `window`.
    pub fn most(&self, offers: &Offers, window: usize) -> usize {
        match (offers.pipelining && !self.disliked, offers.chunking) {
            (false, _) => 1,
            (true, true) => window,
            (true, false) => window.min(2), // DATA waits for its own reply
        }
    }

    /// Whether such a message can share the connection.
    pub fn takes(&self, offers: &Offers, recipients: usize, size: u64) -> bool {
        offers.pipelining && size <= WHOLE && recipients <= MOST_RECIPIENTS
    }

    pub fn has_room(&self) -> bool {
        self.bytes < MOST_BYTES
    }

    /// Puts a message behind those under way.
    pub fn launch(&mut self, line: &mut Line<'_>, tx: &Transaction<'_>, body: &dyn Body) {
        let mut ride = Ride {
            flight: Flight::new(tx.recipients.len()),
            commands: self.spare(),
            content: self.spare(),
            dialogue: line.chat.dialogue.beside(),
            ..Ride::default()
        };
        ride.dialogue.expect_lines(tx.recipients.len() + 3);
        ride.in_company = !self.rides.is_empty();
        ride.reset_first = self.unclean || (line.offers.chunking && ride.in_company);
        match ride.prepare(line, tx, body) {
            Ok(true) => {}
            Ok(false) => ride.stage = Progress::Over,
            Err(outcome) => {
                ride.dialogue.note(&outcome.text);
                ride.flight.settle(&outcome.at(line.host));
                ride.stage = Progress::Over;
            }
        }
        ride.bytes = ride.commands.len() + ride.content.len();
        self.bytes += ride.bytes;
        self.unclean &= ride.stage == Progress::Over;
        self.rides.push_back(ride);
        self.waiting += 1;
        if line.offers.chunking && self.waiting > self.rides.len() / 2 && self.waiting < self.rides.len() {
            self.put_all(line); // so that the host has work while the others are judged
        }
    }

    /// Reads on to the outcome of the oldest; whether the conversation is in step afterwards.
    pub fn land(&mut self, line: &mut Line<'_>) -> Option<(Done, String, bool)> {
        if line.offers.chunking && self.waiting >= self.rides.len() {
            self.put_all(line);
        }
        let mut ride = self.rides.pop_front()?;
        self.waiting = self.waiting.min(self.rides.len());
        self.bytes -= ride.bytes;
        std::mem::swap(&mut line.chat.dialogue, &mut ride.dialogue);
        let mut due = "";
        let judged = match ride.stage {
            Progress::Over => Ok(()),
            _ if line.offers.chunking => ride.chunk_is_judged(line, &mut due),
            _ => self.data(line, &mut ride, &mut due),
        };
        let mut in_step = true;
        if let Err(stop) = judged {
            self.stopped(line, &mut ride.flight, stop, due);
            in_step = false;
        } else if ride.stage != Progress::Over {
            self.unclean = !ride.flight.ended_well;
            self.has_served |= ride.flight.ended_well;
            if let Some(next) = self.rides.front_mut().filter(|_| self.unclean) {
                self.unclean = !next.begin_with_reset();
            }
        }
        if ride.in_company && ride.flight.is_worth_going_alone() {
            self.disliked = true;
        }
        if in_step && self.rides.is_empty() && std::mem::take(&mut self.unclean) {
            in_step = reset(line.chat);
        }
        let dialogue = std::mem::replace(&mut line.chat.dialogue, ride.dialogue).take();
        self.keep(ride.commands);
        self.keep(ride.content);
        Some((ride.flight.done(line.host), dialogue, in_step))
    }

    /// Everything that waits goes on the wire.
    fn put_all(&mut self, line: &mut Line<'_>) {
        let first = self.rides.len() - self.waiting;
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * self.waiting);
        for ride in self.rides.iter_mut().skip(first) {
            if ride.asks() {
                ride.flight.content_sent = true;
                pieces.extend([ride.commands.as_slice(), ride.content.as_slice()]);
            }
        }
        self.waiting = 0;
        flush(line, &pieces, &mut self.write_failed);
    }

    /// DATA: its own reply is waited for; the commands of the next message go behind the end of this one.
    fn data(&mut self, line: &mut Line<'_>, ride: &mut Ride, due: &mut &'static str) -> Result<(), Stop> {
        if ride.asks() {
            flush(line, &[&ride.commands], &mut self.write_failed);
        }
        ride.envelope_is_judged(line, due)?;
        *due = "the reply to DATA";
        let reply = line.chat.reply()?;
        stay_in_step(Stage::Content, &reply, line.host, due)?;
        if reply.code != 354 {
            ride.flight.on_refused_content(&reply, line.host);
            return Ok(());
        }
        let content: &[u8] = if ride.flight.accepted > 0 {
            &ride.content
        } else {
            b"" // an empty message ends the 354 (RFC 2920 §3.1); its reply counts for nobody
        };
        let end = end_mark(content, *b"\r\n");
        if !content.is_empty() {
            line.chat.dialogue.content(content.len() as u64);
        }
        if end.len() > 3 {
            line.chat.dialogue.sent("");
        }
        line.chat.dialogue.sent(".");
        let behind = self.rides.len().saturating_sub(1);
        let mut pieces = vec![content, end];
        if let Some(next) = self.rides.front_mut()
            && next.asks()
        {
            // Behind the end of a message the host is between two transactions, whatever it says of this one.
            pieces.push(&next.commands);
            self.waiting = behind;
        }
        flush(line, &pieces, &mut self.write_failed);
        *due = "the reply to the message";
        if let Some(broken) = self.write_failed.clone() {
            // Perhaps the host said why. A positive reply cannot be meant for half a message.
            if let Some(reply) = line.chat.words_after_failed_write() {
                stay_in_step(Stage::Content, &reply, line.host, due)?;
                ride.flight.on_refused_content(&reply, line.host);
            }
            return Err(broken.into());
        }
        ride.flight.content_sent = ride.flight.accepted > 0;
        let reply = line.chat.last_reply()?;
        ride.flight.on_end(&reply, line.host)
    }

    /// The connection is of no use any more, for this one and for those behind it.
    fn stopped(&mut self, line: &mut Line<'_>, flight: &mut Flight, stop: Stop, due: &'static str) {
        line.chat.wire.hang_up();
        let (outcome, broke) = match stop {
            Stop::Leaving(outcome) => (outcome, false),
            Stop::Disk(error) => (disk_trouble(&error), false),
            Stop::Broken(broken) => {
                let cause = self.write_failed.as_ref().unwrap_or(&broken);
                (judge_broken(cause, due, line.host).at(line.host), true)
            }
        };
        self.disliked |= broke && !self.rides.is_empty();
        for ride in self.rides.iter_mut().filter(|ride| ride.stage != Progress::Over) {
            if broke && ride.flight.content_sent {
                ride.flight.is_cut_off(outcome.clone(), true);
            } else {
                // A host that said 421, or has not seen the message, has not taken it.
                let words = Outcome::deferred(EnhancedStatus::new(4, 4, 2), UNTOUCHED).at(line.host);
                ride.flight.was_not_judged(&words);
            }
            ride.stage = Progress::Over;
        }
        if broke {
            flight.is_cut_off(outcome.at(line.host), true);
        } else {
            flight.is_turned_away(outcome.at(line.host), self.has_served);
        }
        self.waiting = 0;
    }

    fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE && buffer.capacity() <= KEPT_BUFFER {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Sends these pieces. A failure is only noted: the host may have said why, so its replies are read first.
fn flush(line: &mut Line<'_>, pieces: &[&[u8]], failed: &mut Option<Broken>) {
    if failed.is_none()
        && let Err(broken) = line.chat.flush_with(pieces)
    {
        *failed = Some(broken);
        line.chat.wait_no_longer();
    }
}

impl Ride {
    /// Writes commands and content; `false`: nobody can go, all have outcomes.
    fn prepare(&mut self, line: &Line<'_>, tx: &Transaction<'_>, body: &dyn Body) -> Result<bool, Outcome> {
        let manifest = Manifest::of(tx, body, line.offers, line.host, &mut self.flight)?;
        write_content(body, line.offers, &mut self.content).map_err(|error| disk_trouble(&error))?;
        if manifest.addresses.is_empty() {
            return Ok(false);
        }
        if self.reset_first {
            self.say("RSET");
        }
        self.say(&manifest.mail(tx, body, line.offers));
        self.flight.asked = 1;
        let going = std::mem::take(&mut self.flight.going);
        let mut text = String::new();
        let said = manifest.each_rcpt(tx, &going, line.offers, &mut text, |rcpt| {
            self.say(rcpt);
            self.flight.asked += 1;
            Ok::<bool, std::convert::Infallible>(true)
        });
        self.flight.going = going;
        match said {
            Ok(()) => {}
            Err(never) => match never {},
        }
        if line.offers.chunking {
            self.say(&format!("BDAT {} LAST", self.content.len()));
            self.dialogue.content(self.content.len() as u64);
        } else {
            self.say("DATA");
        }
        Ok(true)
    }

    fn say(&mut self, command: &str) {
        self.dialogue.sent(command);
        self.commands.extend_from_slice(command.as_bytes());
        self.commands.extend_from_slice(b"\r\n");
    }

    /// The transaction before this one was not ended; `false`: it has no words of its own, the next has to say it.
    fn begin_with_reset(&mut self) -> bool {
        if self.stage == Progress::Waiting && !std::mem::replace(&mut self.reset_first, true) {
            self.dialogue.sent_before("RSET");
            self.commands.splice(0..0, *b"RSET\r\n");
        }
        self.stage != Progress::Over
    }

    /// Its commands go on the wire now; `false`: they have gone, or never will.
    fn asks(&mut self) -> bool {
        let waits = self.stage == Progress::Waiting;
        if waits {
            self.stage = Progress::Asked;
        }
        waits
    }

    fn envelope_is_judged(&mut self, line: &mut Line<'_>, due: &mut &'static str) -> Result<(), Stop> {
        if std::mem::take(&mut self.reset_first) {
            *due = "the reply to RSET";
            let reply = line.chat.reply()?;
            stay_in_step(Stage::Mail, &reply, line.host, due)?;
            if !reply.is_positive() {
                return Err(Stop::Broken(Broken::Nonsense {
                    why: format!("{} in answer to RSET", reply.one_line()),
                    raw: String::new(),
                }));
            }
        }
        while let Some(next) = self.flight.due_of_envelope() {
            *due = next;
            let reply = line.chat.reply()?;
            self.flight.on_envelope(&reply, line.host)?;
        }
        Ok(())
    }

    fn chunk_is_judged(&mut self, line: &mut Line<'_>, due: &mut &'static str) -> Result<(), Stop> {
        self.envelope_is_judged(line, due)?;
        *due = "the reply to the message";
        let reply = line.chat.last_reply()?;
        self.flight.on_end(&reply, line.host)
    }
}
