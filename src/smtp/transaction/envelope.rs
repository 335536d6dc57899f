//! MAIL and RCPT …, and what is answered to them.

use super::{Exchange, Stop, set};
use crate::smtp::commands;
use crate::smtp::reply::Reply;
use crate::smtp::verdict::{Stage, is_too_many, judge};

/// Commands wait for their replies when more than this is on its way: a host that answers while we write must
/// never find both pipes full.
const GROUP: usize = 16 * 1024;

impl Exchange<'_> {
    /// MAIL and all RCPT are queued; with PIPELINING the replies to the last group are still to be read.
    pub(super) fn envelope(&mut self, sender: Option<&str>) -> Result<(), Stop> {
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

    pub(super) fn read_envelope_replies(&mut self) -> Result<(), Stop> {
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
}
