//! Bytes in and out in large blocks: one read per block of the source, few writes per message.

use crate::mail::ReadAt;
use crate::smtp::body::Outlet;
use std::cell::Cell;
use std::io;
use std::ops::Range;

/// How much is read at once.
pub(super) const BLOCK: usize = 128 * 1024;

thread_local! {
    /// The room that nobody uses now.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for a block that is read: lent by the thread when it is first needed.
#[derive(Default)]
pub(super) struct Room(Vec<u8>);

impl Room {
    fn block(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = SPARE.take();
            self.0.resize(BLOCK, 0);
        }
        &mut self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // A thread that is ending has no use for it.
            let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.0)));
        }
    }
}

/// Hands the bytes of `range` on: all at once when they lie in memory, else block by block. A source that ends early is
/// an error, never a shorter message.
pub(super) fn each_block(
    source: &dyn ReadAt,
    range: Range<u64>,
    room: &mut Room,
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(bytes) = source.bytes() {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let wanted = bytes.get(place(range.start)..place(range.end));
        return to(wanted.ok_or_else(|| ends_early(source.len()))?);
    }
    let mut at = range.start;
    while at < range.end {
        let bytes = fill(source, at..range.end, room.block())?;
        to(bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Reads once into `block`, as much as there is up to the end of a range that is not empty.
pub(super) fn fill<'b>(source: &dyn ReadAt, range: Range<u64>, block: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let want = usize::try_from(range.end - range.start)
        .unwrap_or(usize::MAX)
        .min(block.len());
    loop {
        let Some(space) = block.get_mut(..want) else {
            return Ok(&[]);
        };
        match source.read_at(space, range.start) {
            Ok(0) => return Err(ends_early(range.start)),
            Ok(n) => return block.get(..n.min(want)).ok_or_else(|| ends_early(range.start)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn ends_early(at: u64) -> io::Error {
    let words = format!("the message file ends at byte {at}, earlier than when it was first read");
    io::Error::new(io::ErrorKind::UnexpectedEof, words)
}

/// Some ranges of a source as one text.
pub(super) struct Joined<'s> {
    source: &'s dyn ReadAt,
    /// Where each range begins in the text, and the range; none is empty.
    ranges: Vec<(u64, Range<u64>)>,
    len: u64,
}

impl<'s> Joined<'s> {
    pub(super) fn new(source: &'s dyn ReadAt, ranges: impl Iterator<Item = Range<u64>>) -> Self {
        let mut joined = Self {
            source,
            ranges: Vec::new(),
            len: 0,
        };
        for range in ranges {
            let begin = joined.len;
            joined.len += range.end - range.start;
            joined.ranges.push((begin, range));
        }
        joined
    }
}

impl ReadAt for Joined<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let after = self.ranges.partition_point(|(begin, _)| *begin <= offset);
        let Some((begin, range)) = after.checked_sub(1).and_then(|i| self.ranges.get(i)) else {
            return Ok(0);
        };
        let from = range.start + (offset - begin);
        if from >= range.end || buf.is_empty() {
            return Ok(0);
        }
        fill(self.source, from..range.end, buf).map(<[u8]>::len)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Gathers short runs, so that a socket sees few writes. Not flushed on drop: after an error nothing more is sent.
pub(super) struct Sink<'o> {
    out: &'o mut dyn Outlet,
    /// Always of that size.
    block: Vec<u8>,
    size: usize,
    /// So much of it is written.
    held: usize,
}

impl<'o> Sink<'o> {
    pub(super) fn new(out: &'o mut dyn Outlet, expected: usize) -> Self {
        let size = expected.min(out.block_size());
        let mut block = out.buffer();
        block.resize(size, 0);
        Self {
            out,
            block,
            size,
            held: 0,
        }
    }

    /// Room for what comes next, to be filled from its begin; there can be none.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.block.get_mut(self.held..).unwrap_or_default()
    }

    /// So much of the room was filled.
    pub(super) fn fill(&mut self, count: usize) {
        self.held = (self.held + count).min(self.block.len());
    }

    /// Writes what is held; must be called last.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.block.truncate(self.held);
        self.out.take(&mut self.block)
    }

    /// A run as long as that goes out as it lies.
    #[cold]
    fn overflow(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.empty()?;
        match self.block.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.held = bytes.len();
                Ok(())
            }
            None => self.out.write_all(bytes),
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        self.block.truncate(self.held);
        self.held = 0;
        let taken = self.out.take(&mut self.block);
        self.block.resize(self.size, 0);
        taken
    }
}

impl io::Write for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    /// Called for each line, if not more often.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.held + bytes.len();
        match self.block.get_mut(self.held..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.held = end;
                Ok(())
            }
            None => self.overflow(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.empty()
    }
}

/// Only counts.
#[derive(Default)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) eight_bit: bool,
}

impl Outlet for Count {}

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.eight_bit = self.eight_bit || !bytes.is_ascii();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
