//! A needle too large to hold: its data as a stream of chunks, in bounded memory.
//!
//! Whoever receives the whole stream has received what was written: the last chunk leaves only
//! when the checksum of all is right, and otherwise the stream ends with an error.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use dulse_shared::id::NeedleKey;
use futures_util::{Stream, stream};
use tokio::task::JoinHandle;

use crate::{
    disk::read_exact_at,
    engine::volume::{Located, Volume},
    format::{DataLen, Head, NeedleMeta, Tail},
    needle_data::NeedleData,
    reader::{Context, ReadError, on_blocking_pool},
};

/// Bytes of a chunk; a stream holds three of them: one on its way out, one held back, one being read.
const CHUNK_BYTES: u64 = 512 << 10;

/// A needle whose head and tail were read and verified, its data not yet.
#[derive(Debug)]
pub struct LargeNeedle {
    volume: Arc<Volume>,
    key: NeedleKey,
    located: Located,
    data_start: u64,
    data_len: u64,
    tail: Tail,
}

impl LargeNeedle {
    pub(crate) fn new(volume: Arc<Volume>, located: Located, head: &Head, tail: Tail) -> Self {
        Self {
            volume,
            key: head.header().key,
            data_start: located.offset + head.data_start(),
            data_len: u64::from(head.data_len()),
            located,
            tail,
        }
    }

    /// Name, type and the like.
    pub fn meta(&self) -> &NeedleMeta {
        &self.tail.meta
    }

    /// Length of the data in bytes.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// The raw CRC-32C of the data as stored.
    pub fn checksum(&self) -> u32 {
        self.tail.stored_checksum
    }

    /// The first bytes of the data, up to `len` of them, not verified.
    pub async fn start(&self, len: u64) -> Result<Bytes, ReadError> {
        let context = Context { volume: &self.volume, key: self.key };
        self.chunk(0, len.min(self.data_len)).await.map_err(|error| context.io(error))
    }

    /// All of the data.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let walk = Walk { needle: self, position: 0, crc: 0, held_back: None, reading: None };
        stream::try_unfold(walk, Walk::next)
    }

    /// A part of the data. The whole is read and verified first, unless that was done within the
    /// last minute. Either way the bytes of the part are then read anew and not verified a second
    /// time, since one checksum covers all of the data: a bit that goes bad between the two reads
    /// is not noticed.
    pub async fn stream_range(
        self,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, ReadError> {
        self.verify_whole().await?;
        let end = range.end.min(self.data_len);
        Ok(stream::try_unfold((self, range.start), move |(needle, position)| async move {
            if position >= end {
                return Ok(None);
            }
            let chunk = needle.chunk(position, end).await?;
            let next = position + chunk.len() as u64;
            Ok(Some((chunk, (needle, next))))
        }))
    }

    async fn verify_whole(&self) -> Result<(), ReadError> {
        let now = self.volume.clock().boot();
        if self.volume.verified.contains(self.located.place(), now) {
            return Ok(());
        }
        let context = Context { volume: &self.volume, key: self.key };
        let (mut position, mut crc) = (0, 0);
        while position < self.data_len {
            let chunk = self.chunk(position, self.data_len).await.map_err(|e| context.io(e))?;
            crc = crc32c::crc32c_append(crc, &chunk);
            position += chunk.len() as u64;
        }
        if !self.tail.checksum_matches(crc) {
            let (volume, key) = (self.volume.id(), self.key);
            return Err(ReadError::Corrupt { volume, key, reason: self.mismatch(crc) });
        }
        self.volume.verified.note(self.located.place(), now);
        Ok(())
    }

    /// Whether the data is this, which has that checksum. Only data of the same length and checksum
    /// is read.
    pub(crate) async fn has_data(self, data: &NeedleData, checksum: u32) -> bool {
        if self.data_len != data.data_len() || !self.tail.checksum_matches(checksum) {
            return false;
        }
        let mut position = 0;
        while position < self.data_len {
            let Ok(chunk) = self.chunk(position, self.data_len).await else {
                return false;
            };
            let (data, from) = (data.clone(), position);
            position += chunk.len() as u64;
            if !matches!(on_blocking_pool(move || data.has_at(from, &chunk)).await, Ok(true)) {
                return false;
            }
        }
        true
    }

    async fn chunk(&self, position: u64, end: u64) -> io::Result<Bytes> {
        on_blocking_pool(self.reading(position, end)).await
    }

    /// What reads a chunk.
    fn reading(
        &self,
        position: u64,
        end: u64,
    ) -> impl FnOnce() -> io::Result<Bytes> + Send + 'static {
        let (dat, offset) = (self.located.dat.clone(), self.data_start + position);
        move || {
            let len =
                usize::try_from((end - position).min(CHUNK_BYTES)).map_err(io::Error::other)?;
            let mut buffer = vec![0; len];
            read_exact_at(&*dat, &mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        }
    }

    fn mismatch(&self, crc: u32) -> String {
        format!("its data has checksum {crc:08x}, stored is {:08x}", self.tail.stored_checksum)
    }
}

/// A whole needle on its way out.
struct Walk {
    needle: LargeNeedle,
    position: u64,
    crc: u32,
    held_back: Option<Bytes>,
    /// The chunk at `position`: it is read while the one before it goes out.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Walk {
    fn read_on(&self) -> JoinHandle<io::Result<Bytes>> {
        tokio::task::spawn_blocking(self.needle.reading(self.position, self.needle.data_len))
    }

    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while self.position < self.needle.data_len {
            let reading = self.reading.take().unwrap_or_else(|| self.read_on());
            let chunk = reading.await.map_err(io::Error::other)??;
            self.position += chunk.len() as u64;
            if self.position < self.needle.data_len {
                self.reading = Some(self.read_on());
            }
            self.crc = crc32c::crc32c_append(self.crc, &chunk);
            if let Some(before) = self.held_back.replace(chunk) {
                return Ok(Some((before, self)));
            }
        }
        let Some(last) = self.held_back.take() else {
            return Ok(None);
        };
        if !self.needle.tail.checksum_matches(self.crc) {
            let reason = self.needle.mismatch(self.crc);
            tracing::error!(volume = %self.needle.volume.id(), key = %self.needle.key, "a needle does not verify: {reason}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(Some((last, self)))
    }
}
