//! DATA or BDAT with the message, and the reply that decides for all who were accepted.

use super::{Exchange, Stop, stay_in_step};
use crate::smtp::upload::{ChunkUpload, DataUpload, Halt, Uploaded, end_mark};
use crate::smtp::verdict::Stage;

impl Exchange<'_> {
    /// A short message as one BDAT, behind the commands that wait.
    pub(super) fn one_chunk(&mut self) -> Result<(), Stop> {
        if self.tx.before_partial.is_some() {
            self.flush();
            self.read_envelope_replies()?;
            if self.flight.accepted == 0 || self.write_failed.is_some() {
                return self.after_failed_write();
            }
            self.tell_if_partial();
        }
        let content = std::mem::take(&mut self.buffers.content);
        self.chat.queue(&format!("BDAT {} LAST", content.len()));
        self.chat.queue_content(&content);
        self.buffers.content = content;
        self.flush();
        self.flight.content_sent = self.write_failed.is_none();
        self.read_envelope_replies()?;
        self.end_of_message()
    }

    /// A long one, chunk after chunk.
    pub(super) fn chunks(&mut self) -> Result<(), Stop> {
        self.flush();
        self.read_envelope_replies()?;
        if self.flight.accepted == 0 || self.write_failed.is_some() {
            return self.after_failed_write();
        }
        self.tell_if_partial();
        self.waiting_for = "the reply to BDAT";
        let mut upload = ChunkUpload::new(self.chat, self.offers.pipelining, &mut self.buffers.content);
        let written = self.body.write_plain(&mut upload);
        let uploaded = match written {
            Err(error) if upload.halt.is_none() => return Err(Stop::Disk(error)),
            Err(_) => Uploaded {
                whole: false,
                halt: upload.drain(),
            },
            Ok(()) => upload.finish(),
        };
        self.after_upload(uploaded)
    }

    pub(super) fn data(&mut self) -> Result<(), Stop> {
        self.chat.queue("DATA");
        self.flush();
        self.read_envelope_replies()?;
        self.waiting_for = "the reply to DATA";
        let reply = self.chat.reply()?;
        stay_in_step(Stage::Content, &reply, self.host, self.waiting_for)?;
        if reply.code != 354 {
            self.flight.on_refused_content(&reply, self.host);
            return Ok(());
        }
        if self.flight.accepted == 0 {
            return self.empty_message();
        }
        if self.write_failed.is_some() {
            return self.after_failed_write();
        }
        self.tell_if_partial();
        if !self.is_short() {
            let mut upload = DataUpload::new(self.chat, &mut self.buffers.content);
            let written = self.body.write_data(&mut upload);
            let uploaded = match written {
                Err(error) if upload.halt.is_none() => return Err(Stop::Disk(error)),
                Err(_) => Uploaded {
                    whole: false,
                    halt: upload.halt,
                },
                Ok(()) => upload.finish(),
            };
            self.waiting_for = "the reply to the message";
            return self.after_upload(uploaded);
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
        self.flight.content_sent = self.write_failed.is_none();
        self.end_of_message()
    }

    /// Before the end of the content: not all who were to get it get it here and now.
    fn tell_if_partial(&self) {
        if self.flight.accepted < self.tx.recipients.len()
            && let Some(tell) = self.tx.before_partial
        {
            tell();
        }
    }

    /// The host said 354 although it took no recipient: an empty message ends that (RFC 2920 §3.1). Its reply counts
    /// for nobody.
    fn empty_message(&mut self) -> Result<(), Stop> {
        self.chat.queue(".");
        self.flush();
        self.waiting_for = "the reply to the message";
        let reply = self.chat.last_reply()?;
        stay_in_step(Stage::Content, &reply, self.host, self.waiting_for)
    }

    fn after_upload(&mut self, uploaded: Uploaded) -> Result<(), Stop> {
        self.flight.content_sent = uploaded.whole;
        match uploaded.halt {
            None => {}
            Some(Halt::Broken(broken)) => self.write_failed = Some(broken),
            Some(Halt::Refused(reply)) => {
                stay_in_step(Stage::Content, &reply, self.host, self.waiting_for)?;
                self.flight.on_refused_content(&reply, self.host);
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
        self.flight.on_end(&reply, self.host)
    }

    /// We could not write to the end; perhaps the host said why. A positive reply cannot be meant for half a message.
    fn after_failed_write(&mut self) -> Result<(), Stop> {
        let Some(broken) = self.write_failed.clone() else {
            return Ok(());
        };
        match self.chat.words_after_failed_write() {
            Some(reply) => {
                stay_in_step(Stage::Content, &reply, self.host, self.waiting_for)?;
                self.flight.on_refused_content(&reply, self.host);
                Ok(())
            }
            None => Err(broken.into()),
        }
    }
}
