//! A long message on its way: [`Body`](super::Body) writes in here, blocks go out there.
//!
//! As DATA in blocks, or as BDAT chunks (RFC 3030). Memory: two blocks, of which one is being filled; what comes as a
//! block is sent as it lies, when the next has come: the last one leaves with the end. Errors of the socket are kept
//! aside, so that they are told apart from errors of the body's own disk. Runs on the session's thread.

use std::io;

use super::body::Outlet;
use super::chat::Chat;
use super::reply::Reply;
use super::wire::Broken;

/// DATA leaves in blocks of this size.
const BLOCK: usize = 128 * 1024;
/// BDAT chunks: large enough that the reply to each costs little, small enough for many sessions at once.
const CHUNK: usize = 256 * 1024;

/// Why the host's side ended an upload before its end.
#[derive(Debug)]
pub(super) enum Halt {
    Broken(Broken),
    /// A chunk was refused.
    Refused(Reply),
}

/// How an upload ended.
#[derive(Debug)]
pub(super) struct Uploaded {
    /// The last byte has left: the host may have the whole message.
    pub whole: bool,
    pub halt: Option<Halt>,
}

/// DATA after the 354.
pub(super) struct DataUpload<'a> {
    chat: &'a mut Chat,
    spare: &'a mut Vec<u8>,
    /// What goes next.
    block: Vec<u8>,
    total: u64,
    /// The last two bytes of what went last.
    tail: [u8; 2],
    pub halt: Option<Halt>,
}

impl<'a> DataUpload<'a> {
    /// `spare` is what it may use as a buffer, and gives back at its end.
    pub fn new(chat: &'a mut Chat, spare: &'a mut Vec<u8>) -> Self {
        Self {
            chat,
            spare,
            block: Vec::new(),
            total: 0,
            tail: *b"\r\n",
            halt: None,
        }
    }

    /// The final period, and what still waits before it.
    pub fn finish(mut self) -> Uploaded {
        let end = end_mark(&self.block, self.tail);
        self.total += self.block.len() as u64;
        self.block.extend_from_slice(end);
        let last = std::mem::take(&mut self.block);
        self.send(&last);
        *self.spare = last;
        self.chat.dialogue.content(self.total);
        self.chat.dialogue.sent(".");
        Uploaded {
            whole: self.halt.is_none(),
            halt: self.halt,
        }
    }

    /// Sends what was held, and holds `next`.
    fn hold(&mut self, next: Vec<u8>) -> Vec<u8> {
        let held = std::mem::replace(&mut self.block, next);
        self.total += held.len() as u64;
        self.send(&held);
        held
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.halt.is_none()
            && let Err(broken) = self.chat.send_content(bytes)
        {
            self.halt = Some(Halt::Broken(broken));
        }
        self.tail = match (self.tail, bytes) {
            (_, [.., before, last]) => [*before, *last],
            ([_, before], [last]) => [before, *last],
            (tail, []) => tail,
        };
    }
}

/// The end of DATA after `content`, which follows `before`; a missing line end is put in, or the period would be text.
pub(super) fn end_mark(content: &[u8], before: [u8; 2]) -> &'static [u8] {
    let at_line_start = match content {
        [] => before == *b"\r\n",
        [b'\n'] => before.last() == Some(&b'\r'),
        _ => content.ends_with(b"\r\n"),
    };
    if at_line_start { b".\r\n" } else { b"\r\n.\r\n" }
}

impl io::Write for DataUpload<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() >= BLOCK / 2 {
            self.hold(Vec::new());
            self.total += buf.len() as u64;
            self.send(buf);
            return go_on(self.halt.as_ref(), buf.len());
        }
        if self.block.len() >= BLOCK {
            self.hold(Vec::with_capacity(BLOCK));
        }
        let room = BLOCK.saturating_sub(self.block.len());
        let taken = buf.get(..room).unwrap_or(buf);
        self.block.extend_from_slice(taken);
        go_on(self.halt.as_ref(), taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet for DataUpload<'_> {
    fn block_size(&self) -> usize {
        BLOCK
    }

    fn buffer(&mut self) -> Vec<u8> {
        std::mem::take(self.spare)
    }

    fn take(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        if !block.is_empty() {
            *block = self.hold(std::mem::take(block));
        }
        go_on(self.halt.as_ref(), 0).map(drop)
    }
}

/// BDAT, chunk after chunk. With PIPELINING the next one leaves before the reply to the last one is read.
pub(super) struct ChunkUpload<'a> {
    chat: &'a mut Chat,
    spare: &'a mut Vec<u8>,
    /// What goes next.
    chunk: Vec<u8>,
    unanswered: usize,
    window: usize,
    pub halt: Option<Halt>,
}

impl<'a> ChunkUpload<'a> {
    /// As [`DataUpload::new`].
    pub fn new(chat: &'a mut Chat, pipelining: bool, spare: &'a mut Vec<u8>) -> Self {
        Self {
            chat,
            spare,
            chunk: Vec::new(),
            unanswered: 0,
            window: if pipelining { 2 } else { 1 },
            halt: None,
        }
    }

    /// Sends the last chunk. What is unread afterwards is the reply to it, unless the upload halted.
    pub fn finish(mut self) -> Uploaded {
        let last = std::mem::take(&mut self.chunk);
        self.send_chunk(&last, " LAST");
        *self.spare = last;
        let whole = self.halt.is_none();
        self.read_replies(1);
        Uploaded {
            whole,
            halt: self.drain(),
        }
    }

    /// When a chunk was refused, reads what the host still has to say to those behind it; the transaction is over.
    pub fn drain(mut self) -> Option<Halt> {
        while self.unanswered > 0 && matches!(self.halt, Some(Halt::Refused(_))) {
            self.unanswered -= 1;
            if let Err(broken) = self.chat.reply() {
                self.halt = Some(Halt::Broken(broken));
            }
        }
        self.halt
    }

    /// Sends what was held, and holds `next`. The last chunk is held until the end, so that it is never empty.
    fn hold(&mut self, next: Vec<u8>) -> Vec<u8> {
        let held = std::mem::replace(&mut self.chunk, next);
        if !held.is_empty() {
            self.send_chunk(&held, "");
            self.read_replies(self.window - 1);
        }
        held
    }

    fn send_chunk(&mut self, chunk: &[u8], last: &str) {
        if self.halt.is_none() {
            self.chat.queue(&format!("BDAT {}{last}", chunk.len()));
            self.unanswered += 1;
            if let Err(broken) = self.chat.flush_with_content(chunk) {
                self.halt = Some(Halt::Broken(broken));
            }
        }
    }

    /// Reads replies until at most `left` are due.
    fn read_replies(&mut self, left: usize) {
        while self.halt.is_none() && self.unanswered > left {
            self.unanswered -= 1;
            match self.chat.reply() {
                Ok(reply) if reply.is_positive() => {}
                Ok(reply) => self.halt = Some(Halt::Refused(reply)),
                Err(broken) => self.halt = Some(Halt::Broken(broken)),
            }
        }
    }
}

impl io::Write for ChunkUpload<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.chunk.len() >= CHUNK {
            self.hold(Vec::with_capacity(CHUNK));
        }
        let room = CHUNK.saturating_sub(self.chunk.len());
        let taken = buf.get(..room).unwrap_or(buf);
        self.chunk.extend_from_slice(taken);
        go_on(self.halt.as_ref(), taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet for ChunkUpload<'_> {
    fn block_size(&self) -> usize {
        CHUNK
    }

    fn buffer(&mut self) -> Vec<u8> {
        std::mem::take(self.spare)
    }

    fn take(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        if !block.is_empty() {
            *block = self.hold(std::mem::take(block));
        }
        go_on(self.halt.as_ref(), 0).map(drop)
    }
}

/// Ends the body's writing once the host's side has ended; the reason is in `halt`.
fn go_on(halt: Option<&Halt>, taken: usize) -> io::Result<usize> {
    match halt {
        None => Ok(taken),
        Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::end_mark;

    #[test]
    fn the_final_period_stands_on_a_line_of_its_own() {
        let crlf = *b"\r\n";
        assert_eq!(end_mark(b"", crlf), b".\r\n");
        assert_eq!(end_mark(b"a\r\n", crlf), b".\r\n");
        assert_eq!(end_mark(b"a", crlf), b"\r\n.\r\n");
        assert_eq!(end_mark(b"a\n", crlf), b"\r\n.\r\n");
        assert_eq!(end_mark(b"\n", *b"a\r"), b".\r\n");
        assert_eq!(end_mark(b"\n", *b"ab"), b"\r\n.\r\n");
        assert_eq!(end_mark(b"", *b"ab"), b"\r\n.\r\n");
    }
}
