use super::*;
/// A source that never gives more than so many bytes at once.
pub(super) struct ShortReads<'a>(pub(super) &'a [u8], pub(super) usize);

impl ReadAt for ShortReads<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = buf.len().min(self.1);
        self.0.read_at(&mut buf[..n], offset)
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}
