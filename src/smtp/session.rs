//! An open connection to a host that has greeted us: sends messages one after the other, until it is no longer usable.
//!
//! Reads and writes one socket. Owned by one thread, which it blocks; every step has a deadline.

use super::body::{Body, Transaction};
use super::chat::Chat;
use super::offers::Offers;
use super::transaction::{Buffers, Exchange};
use crate::mail::{EnhancedStatus, Outcome};

/// After EHLO, STARTTLS and AUTH, between two transactions.
pub struct Session {
    chat: Chat,
    offers: Offers,
    opening: String,
    tls_facts: Option<String>,
    host: String,
    buffers: Buffers,
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

impl Session {
    pub(super) fn new(mut chat: Chat, offers: Offers, tls_facts: Option<String>, host: String) -> Self {
        Self {
            opening: chat.dialogue.take(),
            chat,
            offers,
            tls_facts,
            host,
            buffers: Buffers::default(),
            begun: 0,
            in_step: true,
        }
    }

    /// What the host offers.
    pub fn offers(&self) -> &Offers {
        &self.offers
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
        );
        let done = exchange.run();
        self.in_step = done.in_step;
        Sent {
            outcomes: done.outcomes,
            dialogue: self.chat.dialogue.take(),
            left_over: done.left_over,
            uncertain: done.uncertain,
        }
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
