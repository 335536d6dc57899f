//! Commands and replies of one connection, each recorded in the dialogue as it goes by.
//!
//! Commands are gathered in one buffer, which lives as long as the connection, and leave in as few writes as the caller
//! wants. Runs on the session's thread.

use std::time::Duration;

use super::dialogue::Dialogue;
use super::reply::Reply;
use super::wire::{Broken, Wire};

/// The buffer is shrunk to this between transactions.
const KEPT_BUFFER: usize = 128 * 1024;
/// What may still be said after a write has failed is waited for no longer than this.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Replies that may be due when a write fails: more than chunks are under way at once.
const MAX_EARLIER: usize = 4;

pub(super) struct Chat {
    pub wire: Wire,
    pub dialogue: Dialogue,
    pub timeout: Duration,
    out: Vec<u8>,
}

impl Chat {
    pub fn new(wire: Wire, timeout: Duration) -> Self {
        Self {
            wire,
            dialogue: Dialogue::default(),
            timeout,
            out: Vec::new(),
        }
    }

    /// One command, one reply.
    pub fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        self.queue(line);
        self.flush()?;
        self.reply()
    }

    /// The same for a line that must not be seen: the dialogue shows `shown` in its place, and a reply that repeats
    /// one of `secrets` is blotted.
    pub fn secret_command(&mut self, line: &str, shown: &str, secrets: &[&str]) -> Result<Reply, Broken> {
        self.dialogue.sent(shown);
        self.put(line);
        self.flush()?;
        let reply = match self.wire.reply(self.timeout) {
            Ok(reply) => reply.without(secrets),
            // What is no reply may repeat the secret, in whole or in part.
            Err(Broken::Nonsense { why, .. }) => {
                let raw = "[not shown]".to_owned();
                return Err(self.noted(Broken::Nonsense { why, raw }));
            }
            Err(broken) => return Err(self.noted(broken)),
        };
        self.dialogue.received(&reply);
        Ok(reply)
    }

    /// Puts a command behind those that wait to be sent.
    pub fn queue(&mut self, line: &str) {
        self.dialogue.sent(line);
        self.put(line);
    }

    fn put(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Puts message content behind it.
    pub fn queue_content(&mut self, content: &[u8]) {
        self.dialogue.content(content.len() as u64);
        self.out.extend_from_slice(content);
    }

    /// Sends message content at once; the caller records it.
    pub fn send_content(&mut self, block: &[u8]) -> Result<(), Broken> {
        self.wire
            .send(block, self.timeout)
            .map_err(|broken| self.noted(broken))
    }

    /// After a failed write: what the host still has to say is there by now, or never will be.
    pub fn wait_no_longer(&mut self) {
        self.timeout = LAST_WORDS.min(self.timeout);
    }

    /// How many bytes wait.
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    /// Sends what waits, in one write where the socket takes it.
    pub fn flush(&mut self) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.wire.send(&self.out, self.timeout);
        self.out.clear();
        self.out.shrink_to(KEPT_BUFFER);
        sent.map_err(|broken| self.noted(broken))
    }

    /// Sends what waits, and message content right behind it.
    pub fn flush_with_content(&mut self, content: &[u8]) -> Result<(), Broken> {
        self.dialogue.content(content.len() as u64);
        self.flush_with(&[content])
    }

    /// Sends what waits, and right behind it these pieces, which a dialogue has recorded.
    pub fn flush_with(&mut self, pieces: &[&[u8]]) -> Result<(), Broken> {
        let mut all: Vec<&[u8]> = Vec::with_capacity(pieces.len() + 1);
        all.push(&self.out);
        all.extend_from_slice(pieces);
        let sent = self.wire.send_all(&all, self.timeout);
        self.out.clear();
        sent.map_err(|broken| self.noted(broken))
    }

    /// The next reply.
    pub fn reply(&mut self) -> Result<Reply, Broken> {
        let reply = self
            .wire
            .reply(self.timeout)
            .map_err(|broken| self.noted(broken))?;
        self.dialogue.received(&reply);
        Ok(reply)
    }

    /// The reply that decides about a message: it may take twice as long, as the host has work to do.
    pub fn last_reply(&mut self) -> Result<Reply, Broken> {
        let time = self.timeout.saturating_mul(2);
        let reply = self.wire.reply(time).map_err(|broken| self.noted(broken))?;
        self.dialogue.received_last(&reply);
        Ok(reply)
    }

    /// A host that refuses in mid-message says so and closes; our write fails, its words may still be there. Replies to
    /// earlier parts stand before them.
    pub fn words_after_failed_write(&mut self) -> Option<Reply> {
        for _ in 0..MAX_EARLIER {
            let reply = self.wire.reply(LAST_WORDS.min(self.timeout)).ok()?;
            self.dialogue.received_last(&reply);
            if reply.class() >= 4 {
                return Some(reply);
            }
        }
        None
    }

    /// Says QUIT; with `wait`, listens for the answer. At most two seconds.
    pub fn quit(&mut self, wait: bool) {
        let time = LAST_WORDS.min(self.timeout) / 3;
        if self.wire.send(b"QUIT\r\n", time).is_ok() {
            self.dialogue.last_word("QUIT");
            if wait && let Ok(reply) = self.wire.reply(time) {
                self.dialogue.last_answer(&reply);
            }
            self.wire.close(time);
        }
    }

    fn noted(&mut self, broken: Broken) -> Broken {
        if let Broken::Nonsense { raw, .. } = &broken {
            self.dialogue.received_junk(raw);
        }
        self.dialogue.note(&broken.words());
        broken
    }
}
