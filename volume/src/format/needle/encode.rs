//! Needles and tombstones to records. Records are always written in the current version.
//!
//! The data is never copied: a record is a head, the caller's data and a tail, for one vectored
//! write. Everything that can be refused is refused before anything is built.

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts};

use super::{
    CURRENT_VERSION, HEAD_LEN, HEADER_LEN, MAX_BODY_LEN, NeedleHeader, NeedleMeta, TOMBSTONE_LEN,
    checksum, layout, record_len,
};

/// Data that a record is made around: nothing needs to be known of it but its length, so that it
/// may lie anywhere.
pub trait DataLen {
    /// Length in bytes.
    fn data_len(&self) -> u64;
}

impl DataLen for Bytes {
    fn data_len(&self) -> u64 {
        self.len() as u64
    }
}

/// A needle to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewNeedle<D = Bytes> {
    /// The key.
    pub key: NeedleKey,
    /// The cookie.
    pub cookie: Cookie,
    /// The data, as it is to be stored.
    pub data: D,
    /// CRC-32C of `data`.
    pub checksum: u32,
    /// The rest.
    pub meta: NeedleMeta,
}

/// A record in three pieces that are written one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<D = Bytes> {
    /// Header and length of the data.
    pub head: [u8; HEAD_LEN],
    /// The data.
    pub data: D,
    /// Metadata, checksum, stamp and padding.
    pub tail: Vec<u8>,
}

impl<D: DataLen> Record<D> {
    /// Length in bytes, a multiple of 8.
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> u64 {
        let around = self.head.len().saturating_add(self.tail.len());
        (around as u64).saturating_add(self.data.data_len())
    }
}

/// Why a needle cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} is {found}, more than the format's {limit}")]
pub struct EncodeError {
    /// What is too large.
    pub what: LimitKind,
    /// How large it is.
    pub found: u64,
    /// How large it may be.
    pub limit: u64,
}

/// What the format limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitKind {
    /// Data and metadata together, in bytes.
    Body,
    /// The name, in bytes.
    Name,
    /// The mime type, in bytes.
    Mime,
    /// The pairs, in bytes of JSON.
    Pairs,
    /// The time of modification, in seconds since 1970.
    LastModified,
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Body => "the length of data and metadata",
            Self::Name => "the length of the name",
            Self::Mime => "the length of the mime type",
            Self::Pairs => "the length of the pairs",
            Self::LastModified => "the time of modification",
        })
    }
}

pub(super) fn check_len(what: LimitKind, found: u64, limit: u64) -> Result<(), EncodeError> {
    if found > limit {
        return Err(EncodeError { what, found, limit });
    }
    Ok(())
}

impl<D: DataLen + Clone> NewNeedle<D> {
    /// The size field: bytes of data and metadata. Never 0: an empty needle has flags.
    pub fn body_size(&self) -> Result<u32, EncodeError> {
        self.meta.check()?;
        let around = 4_u64.saturating_add(self.meta.encoded_len() as u64);
        let size = around.saturating_add(self.data.data_len());
        check_len(LimitKind::Body, size, u64::from(MAX_BODY_LEN))?;
        Ok(size as u32)
    }

    /// Length of the record in bytes, known before the stamp is.
    pub fn record_len(&self) -> Result<u64, EncodeError> {
        Ok(record_len(self.body_size()?, CURRENT_VERSION))
    }

    /// The record. `ts` becomes its stamp.
    pub fn encode(&self, ts: Ts) -> Result<Record<D>, EncodeError> {
        let header = NeedleHeader { cookie: self.cookie, key: self.key, size: self.body_size()? };
        let mut head = [0; HEAD_LEN];
        let (header_bytes, data_len) = head.split_at_mut(HEADER_LEN);
        header_bytes.copy_from_slice(&header.encode());
        data_len.copy_from_slice(&(self.data.data_len() as u32).to_be_bytes());

        let total = record_len(header.size, CURRENT_VERSION);
        let padding_len = total.saturating_sub(layout::unpadded_len(header.size, CURRENT_VERSION));
        let capacity = self.meta.encoded_len().saturating_add(20);
        let mut tail = Vec::with_capacity(capacity);
        self.meta.write_to(&mut tail);
        tail.extend_from_slice(&self.checksum.to_be_bytes());
        tail.extend_from_slice(&ts.0.to_be_bytes());
        let padding = checksum::padding(&head, &tail);
        tail.extend(padding.into_iter().take(padding_len as usize));
        Ok(Record { head, data: self.data.clone(), tail })
    }
}

/// The record that deletes a needle.
pub fn encode_tombstone(key: NeedleKey, cookie: Cookie, ts: Ts) -> [u8; TOMBSTONE_LEN] {
    encode_without_body(key, cookie, 0, ts)
}

/// A record of size 0. Its checksum sums nothing: other programs leave that of the needle they
/// delete.
pub(in crate::format) fn encode_without_body(
    key: NeedleKey,
    cookie: Cookie,
    checksum: u32,
    ts: Ts,
) -> [u8; TOMBSTONE_LEN] {
    let size = 0;
    let header = NeedleHeader { cookie, key, size }.encode();
    let mut record = [0; TOMBSTONE_LEN];
    let (head, rest) = record.split_at_mut(HEADER_LEN);
    head.copy_from_slice(&header);
    let (trailer, padding) = rest.split_at_mut(12);
    let (sum, stamp) = trailer.split_at_mut(4);
    sum.copy_from_slice(&checksum.to_be_bytes());
    stamp.copy_from_slice(&ts.0.to_be_bytes());
    let sums = checksum::padding(head, trailer);
    for (byte, sum) in padding.iter_mut().zip(sums) {
        *byte = sum;
    }
    record
}
