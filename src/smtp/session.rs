//! An open connection to a host that has greeted us: sends messages one after the other, until it is no longer usable.
//!
//! Reads and writes one socket. Owned by one thread, which it blocks; every step has a deadline.

use super::body::{Body, Transaction};
use super::chat::Chat;
use super::content::Abilities;
use super::offers::Offers;
use super::pipeline::{Line, Pipeline};
use super::transaction::{Buffers, Exchange};
use crate::mail::{EnhancedStatus, Outcome};

/// Bytes of a line without its end (RFC 5321 §4.5.3.1.6).
const MAX_LINE: usize = 998;

/// After EHLO, STARTTLS and AUTH, between two transactions.
pub struct Session {
    chat: Chat,
    offers: Offers,
    opening: String,
    tls_facts: Option<String>,
    host: String,
    buffers: Buffers,
    pipeline: Pipeline,
    /// Transactions begun.
    begun: u64,
    /// The conversation is in step: the next command would be answered by the next reply.
    in_step: bool,
}

/// What became of one transaction.
#[derive(Debug)]
pub struct Sent {
    /// One per recipient of the transaction, in its order.
    pub outcomes: Vec<Outcome>,
    /// What was said.
    pub dialogue: String,
    /// Indices of recipients that were not put to the question, for want of room in this transaction (452) or because
    /// the kept connection was found closed: they can go in a further one. Their outcome says so, deferred.
    pub left_over: Vec<usize>,
    /// The host has the whole content, and the connection broke before it said what became of it.
    pub uncertain: bool,
}

/// What became of [`Session::launch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// It is under way.
    UnderWay,
    /// Not before another has landed.
    Full,
    /// It must go alone ([`Session::send`]), when none is under way.
    Alone,
}

impl Session {
    pub(super) fn new(mut chat: Chat, offers: Offers, tls_facts: Option<String>, host: String) -> Self {
        Self {
            opening: chat.dialogue.take(),
            chat,
            offers,
            tls_facts,
            host,
            buffers: Buffers::default(),
            pipeline: Pipeline::default(),
            begun: 0,
            in_step: true,
        }
    }

    /// What the host offers.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// In which form the host takes a message.
    pub fn abilities(&self) -> Abilities {
        Abilities {
            eight_bit: self.offers.eight_bit,
            utf8_headers: self.offers.smtputf8,
            max_line: MAX_LINE,
        }
    }

    /// The dialogue up to and including EHLO, TLS and AUTH.
    pub fn opening(&self) -> &str {
        &self.opening
    }

    /// `TLSv1.3 TLS_AES_128_GCM_SHA256 X25519, certificate not verified`; `None` in clear.
    pub fn tls_facts(&self) -> Option<&str> {
        self.tls_facts.as_deref()
    }

    /// Whether another message can go: the conversation is in step, and the host has neither closed the connection nor
    /// spoken of its own accord (`421 idle for too long`). One system call.
    pub fn usable(&self) -> bool {
        self.in_step && self.chat.wire.is_quiet()
    }

    /// Whether the conversation was in step after the last transaction. No system call: [`Session::send`] looks itself.
    pub fn in_step(&self) -> bool {
        self.in_step
    }

    /// One transaction. Every recipient gets an outcome; none is lost and none is guessed.
    pub fn send(&mut self, tx: &Transaction<'_>, body: &dyn Body) -> Sent {
        if !self.usable() {
            return self.found_closed(tx);
        }
        self.begun += 1;
        let exchange = Exchange::new(
            &mut self.chat,
            &self.offers,
            &self.host,
            tx,
            body,
            &mut self.buffers,
            self.begun > 1,
        );
        let (done, in_step) = exchange.run();
        self.in_step = in_step;
        Sent {
            outcomes: done.outcomes,
            dialogue: self.chat.dialogue.take(),
            left_over: done.left_over,
            uncertain: done.uncertain,
        }
    }

    /// Puts a message behind those under way, or says why not. Each [`Session::land`] then gives the outcome of one, in
    /// the same order; until there are none under way, nothing else may be done with this session.
    pub fn launch(&mut self, tx: &Transaction<'_>, body: &dyn Body, window: usize) -> Launch {
        if tx.before_partial.is_some()
            || !self
                .pipeline
                .takes(&self.offers, tx.recipients.len(), body.size())
        {
            return Launch::Alone;
        }
        if !self.has_room(window) {
            return Launch::Full;
        }
        // Among others it is seen by their replies whether the connection stands.
        if !self.in_step || (self.under_way() == 0 && !self.usable()) {
            return Launch::Alone;
        }
        self.begun += 1;
        let mut line = Line {
            chat: &mut self.chat,
            offers: &self.offers,
            host: &self.host,
        };
        self.pipeline.launch(&mut line, tx, body);
        Launch::UnderWay
    }

    /// Whether another message can be launched before one has landed.
    pub fn has_room(&self, window: usize) -> bool {
        self.under_way() < self.pipeline.most(&self.offers, window) && self.pipeline.has_room()
    }

    /// The outcome of the oldest message under way; `None`: there is none.
    pub fn land(&mut self) -> Option<Sent> {
        let mut line = Line {
            chat: &mut self.chat,
            offers: &self.offers,
            host: &self.host,
        };
        let (done, dialogue, in_step) = self.pipeline.land(&mut line)?;
        self.in_step &= in_step;
        Some(Sent {
            outcomes: done.outcomes,
            dialogue,
            left_over: done.left_over,
            uncertain: done.uncertain,
        })
    }

    /// How many messages are under way.
    pub fn under_way(&self) -> usize {
        self.pipeline.len()
    }

    /// Whether this host showed that it wants one message after the other, whatever it offers.
    pub fn wants_lock_step(&self) -> bool {
        self.pipeline.disliked
    }

    /// Closes the connection without a word: what is under way is cut off.
    pub fn hang_up(&mut self) {
        self.chat.wire.hang_up();
    }

    /// Takes leave. Best effort, two seconds at most.
    pub fn quit(mut self) {
        if self.in_step {
            self.chat.quit(true);
        }
    }

    /// Nothing was sent. A connection that had served before is worth a new one; a fresh one would only come to the
    /// same end again.
    fn found_closed(&mut self, tx: &Transaction<'_>) -> Sent {
        let words = "the host closed the connection, or broke the order of the conversation, before a message could go";
        self.chat.dialogue.note(words);
        let outcome = Outcome::deferred(EnhancedStatus::new(4, 4, 2), words).at(&self.host);
        let count = tx.recipients.len();
        self.in_step = false;
        Sent {
            outcomes: vec![outcome; count],
            dialogue: self.chat.dialogue.take(),
            left_over: if self.begun > 0 {
                (0..count).collect()
            } else {
                Vec::new()
            },
            uncertain: false,
        }
    }
}
