//! Bytes that can be read at any offset: a small message in memory or a large one on the disk.

use std::io;

/// Random access to the bytes of a message. Reading twice gives the same bytes: a claimed file is never changed.
pub trait ReadAt: Send + Sync {
    /// Fills `buf` from `offset` as far as it can; `Ok(0)` only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// All bytes there are.
    fn len(&self) -> u64;

    /// All of them, where they lie in memory.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..))
            .unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl ReadAt for std::sync::Arc<[u8]> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}
