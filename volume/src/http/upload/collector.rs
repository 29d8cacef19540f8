//! Chunks of a body on their way to one piece, summed as they come.
//!
//! Up to a megabyte they are kept in memory, and a body that comes in one chunk, as small ones do,
//! is not copied. What grows beyond that goes into a spool file.

use bytes::{Bytes, BytesMut};
use dulse_shared::wire::Problem;

use super::{budget::SPOOLED_ABOVE_BYTES, spooler::Spooler};
use crate::{disk::DataDir, needle_data::NeedleData};

/// What was received so far.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    /// Where a spool file would be made.
    dir: &'a DataDir,
    /// The length of the whole, if it is known.
    expected: Option<u64>,
    first: Bytes,
    joined: BytesMut,
    checksum: u32,
    spooler: Option<Spooler>,
}

impl<'a> Collector<'a> {
    /// Nothing yet.
    pub(super) fn new(dir: &'a DataDir, expected: Option<u64>) -> Self {
        let (first, joined) = (Bytes::new(), BytesMut::new());
        Self { dir, expected, first, joined, checksum: 0, spooler: None }
    }

    /// Adds a chunk.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<(), Problem> {
        let len = self.len() + chunk.len() as u64;
        if let Some(spooler) = &mut self.spooler {
            return spooler.push(chunk).await;
        }
        if len > SPOOLED_ABOVE_BYTES {
            let mut spooler = Spooler::create(self.dir).await?;
            spooler.push(std::mem::take(&mut self.first)).await?;
            spooler.push(std::mem::take(&mut self.joined).freeze()).await?;
            spooler.push(chunk).await?;
            self.spooler = Some(spooler);
            return Ok(());
        }
        self.join(chunk);
        Ok(())
    }

    fn join(&mut self, chunk: Bytes) {
        self.checksum = crc32c::crc32c_append(self.checksum, &chunk);
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            let expected = self.expected.unwrap_or(0).min(SPOOLED_ABOVE_BYTES) as usize;
            self.joined.reserve(expected.max(self.first.len() + chunk.len()));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&chunk);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        let in_memory = (self.first.len() + self.joined.len()) as u64;
        in_memory + self.spooler.as_ref().map_or(0, Spooler::len)
    }

    /// All bytes and their CRC-32C.
    pub(super) async fn finish(self) -> Result<(NeedleData, u32), Problem> {
        match self.spooler {
            Some(spooler) => spooler.finish().await,
            None if self.joined.is_empty() => Ok((self.first.into(), self.checksum)),
            None => Ok((self.joined.freeze().into(), self.checksum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{super::test_dir::test_dir, *};

    #[tokio::test]
    async fn one_chunk_is_not_copied_and_several_are_joined() {
        let (disk, dir) = test_dir();
        let chunk = Bytes::from(b"hello ".to_vec());
        let mut collector = Collector::new(&dir, None);
        collector.push(Bytes::new()).await.unwrap();
        collector.push(chunk.clone()).await.unwrap();
        assert_eq!(collector.len(), 6);
        let (data, checksum) = collector.finish().await.unwrap();
        let NeedleData::Memory(data) = data else { panic!("it is small") };
        assert_eq!((data.as_ptr(), checksum), (chunk.as_ptr(), crc32c::crc32c(b"hello ")));

        let mut collector = Collector::new(&dir, Some(16));
        for part in ["hello ", "wide", " world"] {
            collector.push(Bytes::from_static(part.as_bytes())).await.unwrap();
        }
        let (data, checksum) = collector.finish().await.unwrap();
        assert!(matches!(data, NeedleData::Memory(data) if data == "hello wide world"));
        assert_eq!(checksum, crc32c::crc32c(b"hello wide world"));
        let (data, checksum) = Collector::new(&dir, None).finish().await.unwrap();
        assert!(matches!(data, NeedleData::Memory(data) if data.is_empty()) && checksum == 0);
        assert_eq!(disk.paths().len(), 2, "the directory's lock and identity");
    }

    #[tokio::test]
    async fn what_is_longer_than_a_megabyte_is_in_a_file_whether_its_length_was_known() {
        let (_, dir) = test_dir();
        for (len, is_spooled) in [(SPOOLED_ABOVE_BYTES, false), (SPOOLED_ABOVE_BYTES + 1, true)] {
            let whole: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
            for expected in [None, Some(len)] {
                let mut collector = Collector::new(&dir, expected);
                for chunk in whole.chunks(70_000) {
                    collector.push(Bytes::copy_from_slice(chunk)).await.unwrap();
                }
                assert_eq!(collector.len(), len);
                let (data, checksum) = collector.finish().await.unwrap();
                assert_eq!((data.is_spooled(), checksum), (is_spooled, crc32c::crc32c(&whole)));
                let mut read = Vec::new();
                data.reader().read_to_end(&mut read).unwrap();
                assert!(read == whole);
            }
        }
    }
}
