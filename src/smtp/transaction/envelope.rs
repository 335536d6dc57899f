//! MAIL and RCPT …, and what is answered to them.

use super::{Exchange, Manifest, Stop};

/// Commands wait for their replies when more than this is on its way: a host that answers while we write must
/// never find both pipes full.
const GROUP: usize = 16 * 1024;

impl Exchange<'_> {
    /// MAIL and all RCPT are queued; with PIPELINING the replies to the last group are still to be read.
    pub(super) fn envelope(&mut self, manifest: &Manifest<'_>) -> Result<(), Stop> {
        let mail = manifest.mail(self.tx, self.body, self.offers);
        self.ask(&mail)?;
        if self.flight.mail_refused {
            return Ok(());
        }
        let (tx, offers) = (self.tx, self.offers);
        let going = self.flight.going.clone();
        let mut line = std::mem::take(&mut self.buffers.line);
        let asked = manifest.each_rcpt(tx, &going, offers, &mut line, |line| {
            self.ask(line)?;
            Ok(!self.flight.mail_refused)
        });
        self.buffers.line = line;
        asked
    }

    fn ask(&mut self, line: &str) -> Result<(), Stop> {
        self.chat.queue(line);
        self.flight.asked += 1;
        if !self.offers.pipelining || self.chat.queued() >= GROUP {
            self.flush();
            self.read_envelope_replies()?;
        }
        Ok(())
    }

    pub(super) fn read_envelope_replies(&mut self) -> Result<(), Stop> {
        while let Some(due) = self.flight.due_of_envelope() {
            self.waiting_for = due;
            let reply = self.chat.reply()?;
            self.flight.on_envelope(&reply, self.host)?;
        }
        Ok(())
    }
}
