//! One record, read from its first byte to its last and verified as a read would.
//!
//! [`crate::engine::scan::Scanner`] looks at the end of a record first, which pays when most of what
//! it looks at is none. Here nearly all are good, and each byte is to be read from the disk once.

use std::io;

use bytes::Bytes;

use super::cold_file::ColdFile;
use crate::{
    disk::read_exact_at,
    engine::scan::{ScanError, Scanned},
    format::{DecodeError, HEAD_LEN, Head, Version},
};

/// Bytes whose checksum is computed at once.
const PIECE_BYTES: usize = 64 << 10;

/// Where records lie and how they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    pub(super) cold: &'a ColdFile<'a>,
    pub(super) version: Version,
    pub(super) own_from: u64,
}

impl Records<'_> {
    /// The record at `offset`, which ends at `end` at the latest.
    pub(super) fn record_at(
        &self,
        offset: u64,
        end: u64,
    ) -> io::Result<Result<Scanned, ScanError>> {
        let left = end.saturating_sub(offset);
        if left < HEAD_LEN as u64 {
            return Ok(Err(ScanError::PastEnd));
        }
        let head = match self.head_at(offset)? {
            Ok(head) if head.record_len() <= left => head,
            Ok(_) => return Ok(Err(ScanError::PastEnd)),
            Err(error) => return Ok(Err(error.into())),
        };
        let computed = self.data_crc(offset + head.data_start(), u64::from(head.data_len()))?;
        let mut tail = vec![0; usize::try_from(head.tail_len()).map_err(io::Error::other)?];
        read_exact_at(self.cold, &mut tail, offset + head.tail_start())?;
        let bytes = Bytes::from(tail);
        let tail = match head.parse_tail(bytes.clone(), self.is_own(offset)) {
            Ok(tail) => tail,
            Err(error) => return Ok(Err(error.into())),
        };
        if !tail.checksum_matches(computed) {
            let stored = tail.stored_checksum;
            return Ok(Err(DecodeError::Checksum { stored, computed }.into()));
        }
        Ok(Ok(Scanned::new(offset, &head, &bytes, &tail, computed)))
    }

    /// What a record at `offset` would begin with.
    pub(super) fn head_at(&self, offset: u64) -> io::Result<Result<Head, DecodeError>> {
        let mut head = [0; HEAD_LEN];
        read_exact_at(self.cold, &mut head, offset)?;
        Ok(Head::parse(&head, self.version))
    }

    /// Whether header and metadata of a record there have sums of their own.
    pub(super) fn is_own(&self, offset: u64) -> bool {
        offset >= self.own_from
    }

    fn data_crc(&self, start: u64, len: u64) -> io::Result<u32> {
        let mut piece = [0; PIECE_BYTES];
        let (mut crc, mut done) = (0, 0);
        while done < len {
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            let piece = &mut piece[..left.min(PIECE_BYTES)];
            read_exact_at(self.cold, piece, start + done)?;
            crc = crc32c::crc32c_append(crc, piece);
            done += piece.len() as u64;
        }
        Ok(crc)
    }
}
