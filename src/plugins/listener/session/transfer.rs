//! DATA and BDAT: the message from the wire into Pickup, and the 250 that promises it.

use super::super::content::Undotter;
use super::super::letter::{Letter, Limits};
use super::super::reply::Reply;
use super::super::wire::Gone;
use super::{Next, Session, Transaction};
use crate::mail::{Envelope, Recipient};
use tracing::info;

/// Of a message that is refused already, so much more is read, so that its sender hears why.
const PATIENCE: u64 = 64 * 1024 * 1024;

impl<'h> Session<'h> {
    /// Whether a message may begin, or go on; `Err`: what to say instead.
    fn ready(&self) -> Result<&Transaction<'h>, Reply> {
        match &self.transaction {
            None => Err(Reply::order("Need mail command.")),
            Some(transaction) if transaction.broken => {
                Err(Reply::order("A part of this message was refused; say RSET"))
            }
            Some(transaction) if transaction.recipients.is_empty() => {
                Err(Reply::new(554, "5.5.1", "No valid recipients"))
            }
            Some(transaction) => Ok(transaction),
        }
    }

    fn begin_letter(&self, transaction: &Transaction<'h>) -> Result<Letter<'h>, Reply> {
        let recipients = transaction.recipients.iter().map(|rcpt| Recipient {
            address: rcpt.address.clone(),
            notify: rcpt.notify,
            orcpt: rcpt.orcpt.clone(),
        });
        let mail = &transaction.mail;
        let envelope = Envelope {
            sender: mail.sender.clone(),
            ret: mail.ret,
            envid: mail.envid.clone(),
            body: mail.body,
            recipients: recipients.collect(),
        };
        let no_limit = |limit| if limit == 0 { u64::MAX } else { limit };
        let of_session = no_limit(self.rules.listener.max_session_size).saturating_sub(self.bytes);
        let limits = Limits {
            message: no_limit(self.rules.max_size),
            session: of_session,
        };
        Letter::begin(
            &self.house.inbox,
            &self.rules,
            &self.client,
            mail.utf8,
            &envelope,
            limits,
        )
    }

    pub(super) fn data(&mut self) -> Result<Next, Gone> {
        let begun = match self.ready() {
            Ok(transaction) if transaction.letter.is_some() => Err(Reply::order("It has begun with BDAT")),
            Ok(transaction) => self.begin_letter(transaction),
            Err(reply) => Err(reply),
        };
        let mut letter = match begun {
            Ok(letter) => letter,
            Err(reply) => return Ok(Next::Say(reply)),
        };
        Reply::new(354, "", "Start mail input; end with <CRLF>.<CRLF>").write(self.wire.say());
        self.wire.begin_message();
        let (mut undotter, mut refused, mut held, mut read) = (Undotter::new(), None, 0, 0_u64);
        loop {
            let input = self.wire.bytes(held)?;
            let all = input.len();
            let taken = undotter.take(input, |run| {
                read += run.len() as u64;
                if refused.is_none() {
                    refused = letter.take(run).err();
                }
            });
            self.wire.take(taken.used);
            held = all - taken.used;
            if taken.ended {
                break;
            }
            if let Some(reply) = refused.take_if(|_| read > letter.size().saturating_add(PATIENCE)) {
                return Ok(Next::Close(reply));
            }
        }
        self.transaction = None;
        Ok(match refused {
            None => return self.publish(letter),
            Some(reply) => Next::Say(reply),
        })
    }

    /// The bytes of the chunk are read whatever becomes of it: they follow at once (RFC 3030 §2).
    pub(super) fn bdat(&mut self, size: u64, is_last: bool) -> Result<Next, Gone> {
        let begun = match self.ready() {
            Ok(transaction) if transaction.letter.is_none() => self.begin_letter(transaction).map(Some),
            Ok(_) => Ok(None),
            Err(reply) => Err(reply),
        };
        let (mut letter, mut refused) = match begun {
            Ok(Some(letter)) => (Some(letter), None),
            Ok(None) => (self.transaction.as_mut().and_then(|t| t.letter.take()), None),
            Err(reply) => (None, Some(reply)),
        };
        let mut left = size;
        self.wire.begin_message();
        while left > 0 {
            if let Some(reply) = refused.take_if(|_| left > PATIENCE) {
                return Ok(Next::Close(reply));
            }
            let input = self.wire.bytes(0)?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let bytes = input.get(..count).unwrap_or_default();
            if let (Some(letter), None) = (&mut letter, &refused) {
                refused = letter.take(bytes).err();
            }
            self.wire.take(count);
            left -= count as u64;
        }
        match (refused, letter) {
            (Some(reply), _) => {
                if is_last {
                    self.transaction = None;
                } else if let Some(transaction) = &mut self.transaction {
                    transaction.broken = true;
                }
                Ok(Next::Say(reply))
            }
            (None, Some(letter)) if is_last => {
                self.transaction = None;
                self.publish(letter)
            }
            (None, letter) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.letter = letter;
                }
                Ok(Next::Say(Reply::new(
                    250,
                    "2.0.0",
                    format!("{size} bytes received"),
                )))
            }
        }
    }

    /// The promise.
    fn publish(&mut self, letter: Letter<'h>) -> Result<Next, Gone> {
        let (id, size) = (letter.id(), letter.size());
        // Only now is it known how large it is, if the client did not say.
        let fits = !letter.is_for_drop() || self.house.drop_room.has_room(self.rules.drop_quota, size);
        let published = if fits {
            letter.publish()
        } else {
            Err(Reply::full())
        };
        let reply = match published {
            Ok(()) => {
                self.messages += 1;
                self.bytes = self.bytes.saturating_add(size);
                self.client
                    .diary
                    .message(&format!("<{id}@{}>", self.rules.hostname), size);
                info!(%id, client = %self.client.address, helo = self.client.name, size, "received");
                let words = format!("<{id}@{}> Queued mail for delivery", self.rules.hostname);
                Reply::new(250, "2.6.0", words)
            }
            Err(reply) => reply,
        };
        self.say(&reply);
        // Also when the next message has come already: what is not said is sent again.
        self.wire.flush()?;
        Ok(Next::Go)
    }
}
