//! Chunks of a body on their way to one piece, summed as they come.
//!
//! A body that comes in one chunk, as small ones do, is not copied.

use bytes::{Bytes, BytesMut};

/// What was received so far.
#[derive(Debug, Default)]
pub(super) struct Collector {
    first: Bytes,
    joined: BytesMut,
    checksum: u32,
}

impl Collector {
    /// Adds a chunk; `expected` is the length of the whole, if it is known.
    pub(super) fn push(&mut self, chunk: Bytes, expected: Option<u64>) {
        self.checksum = crc32c::crc32c_append(self.checksum, &chunk);
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            let expected = expected.and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
            self.joined.reserve(expected.max(self.first.len() + chunk.len()));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&chunk);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        (self.first.len() + self.joined.len()) as u64
    }

    /// All bytes and their CRC-32C.
    pub(super) fn finish(self) -> (Bytes, u32) {
        if self.joined.is_empty() {
            (self.first, self.checksum)
        } else {
            (self.joined.freeze(), self.checksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_is_not_copied_and_several_are_joined() {
        let chunk = Bytes::from(b"hello ".to_vec());
        let mut collector = Collector::default();
        collector.push(Bytes::new(), None);
        collector.push(chunk.clone(), None);
        assert_eq!(collector.len(), 6);
        let (data, checksum) = collector.finish();
        assert_eq!((data.as_ptr(), checksum), (chunk.as_ptr(), crc32c::crc32c(b"hello ")));

        let mut collector = Collector::default();
        for part in ["hello ", "wide", " world"] {
            collector.push(Bytes::from_static(part.as_bytes()), Some(16));
        }
        let (data, checksum) = collector.finish();
        assert_eq!(data, "hello wide world");
        assert_eq!(checksum, crc32c::crc32c(b"hello wide world"));
        assert_eq!(Collector::default().finish(), (Bytes::new(), 0));
    }
}
