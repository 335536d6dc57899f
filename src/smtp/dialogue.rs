//! The dialogue with a host as a person reads it: `> ` sent, `< ` received, `* ` our own remarks.
//!
//! A bounded text in memory; message content and secrets never get in (callers give a count instead). What is said also
//! goes into the W3C log, where one is written.

use super::reply::Reply;
use crate::w3c::Outbound;

/// Ordinary lines stop here …
const LIMIT: usize = 60 * 1024;
/// … and the words that end a transaction here, so that a long list of recipients cannot push them out.
const LIMIT_OF_LAST_WORDS: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Dialogue {
    text: String,
    /// How many lines were left out since the last one that was written.
    left_out: usize,
    log: Option<Outbound>,
}

impl Dialogue {
    /// One of its own about the same connection.
    pub fn beside(&self) -> Self {
        Self {
            log: self.log.clone(),
            ..Self::default()
        }
    }

    /// From now on everything goes into this log too.
    pub fn goes_into(&mut self, log: Option<Outbound>) {
        self.log = log;
    }

    /// For the log alone: what is said when nobody reads on.
    pub fn last_word(&mut self, command: &str) {
        if let Some(log) = &mut self.log {
            log.command(command);
        }
    }

    /// The answer to [`Dialogue::last_word`].
    pub fn last_answer(&mut self, reply: &Reply) {
        self.log_reply(reply);
    }

    fn log_reply(&mut self, reply: &Reply) {
        if let (Some(log), Some(first)) = (&mut self.log, reply.raw_lines().next()) {
            log.reply(first);
        }
    }

    /// So many short lines are to come, and as many answers.
    pub fn expect_lines(&mut self, count: usize) {
        self.text.reserve(count * 96);
    }

    /// A command that was sent, without its line end.
    pub fn sent(&mut self, line: &str) {
        self.last_word(line);
        self.line("> ", line, LIMIT);
    }

    /// A command that was put in front of what stands here so far.
    pub fn sent_before(&mut self, line: &str) {
        self.last_word(line);
        self.text.insert_str(0, &format!("> {line}\n"));
    }

    /// Message content that was sent.
    pub fn content(&mut self, bytes: u64) {
        self.line("> ", &format!("[{bytes} bytes of message]"), LIMIT_OF_LAST_WORDS);
    }

    /// A reply.
    pub fn received(&mut self, reply: &Reply) {
        self.log_reply(reply);
        reply.raw_lines().for_each(|line| self.line("< ", line, LIMIT));
    }

    /// The reply that decides a transaction.
    pub fn received_last(&mut self, reply: &Reply) {
        self.log_reply(reply);
        reply
            .raw_lines()
            .for_each(|line| self.line("< ", line, LIMIT_OF_LAST_WORDS));
    }

    /// Lines that are no reply.
    pub fn received_junk(&mut self, raw: &str) {
        raw.split('\n').for_each(|line| self.line("< ", line, LIMIT));
    }

    /// A remark of ours.
    pub fn note(&mut self, text: &str) {
        self.line("* ", text, LIMIT_OF_LAST_WORDS);
    }

    /// The text so far; the dialogue goes on empty.
    pub fn take(&mut self) -> String {
        self.close_gap();
        std::mem::take(&mut self.text)
    }

    fn line(&mut self, mark: &str, text: &str, limit: usize) {
        if self.text.len() + mark.len() + text.len() + 1 > limit {
            self.left_out += 1;
            return;
        }
        self.close_gap();
        self.text.push_str(mark);
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn close_gap(&mut self) {
        if self.left_out > 0 {
            let mark = format!("* [{} lines left out here]\n", self.left_out);
            self.text.push_str(&mark);
            self.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_dialogue_is_cut_with_a_mark_and_keeps_its_end() {
        let mut dialogue = Dialogue::default();
        for i in 0..10_000 {
            dialogue.sent(&format!("RCPT TO:<{i}@example.net>"));
        }
        dialogue.content(5);
        let text = dialogue.take();
        assert!(text.len() <= LIMIT_OF_LAST_WORDS + 64, "{}", text.len());
        assert!(text.starts_with("> RCPT TO:<0@example.net>\n"));
        let end: Vec<&str> = text.lines().rev().take(2).collect();
        assert_eq!(end[0], "> [5 bytes of message]");
        assert!(end[1].ends_with("lines left out here]"), "{}", end[1]);
        assert_eq!(dialogue.take(), "");
    }
}
