//! What a needle's body says beside the data: flags, and the fields they announce, in the order
//! name, mime type, last modified, ttl, pairs.
//!
//! What is written is read back the same, down to a field that is present and empty; what is read
//! fills the body exactly. What the fields mean to a client is decided elsewhere.

use bytes::{Buf, Bytes};
use dulse_shared::id::Ttl;

use super::{
    DecodeError, EncodeError, MAX_MIME_LEN, MAX_NAME_LEN, MAX_PAIRS_LEN,
    encode::{LimitKind, check_len},
};

const IS_GZIPPED: u8 = 0x01;
const HAS_NAME: u8 = 0x02;
const HAS_MIME: u8 = 0x04;
const HAS_LAST_MODIFIED: u8 = 0x08;
const HAS_TTL: u8 = 0x10;
const HAS_PAIRS: u8 = 0x20;
const IS_CHUNK_MANIFEST: u8 = 0x80;

/// Bytes of the last-modified field.
const LAST_MODIFIED_LEN: usize = 5;
const TTL_LEN: usize = 2;
const MAX_LAST_MODIFIED: u64 = (1 << (8 * LAST_MODIFIED_LEN)) - 1;

/// A needle's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NeedleMeta {
    /// The data is gzipped; readers that cannot take it get it decompressed.
    pub is_gzipped: bool,
    /// The data is the JSON manifest of a file in chunks.
    pub is_chunk_manifest: bool,
    /// The file name, at most 255 bytes, UTF-8 by custom only. Present and empty is possible.
    pub name: Option<Bytes>,
    /// The mime type, at most 255 bytes. Present and empty is possible.
    pub mime: Option<Bytes>,
    /// Seconds since 1970, below 2⁴⁰.
    pub last_modified_secs: Option<u64>,
    /// How long after its last modification the needle is gone.
    pub ttl: Ttl,
    /// JSON object of names and values that are sent as headers, at most 65,535 bytes; or empty.
    pub pairs: Bytes,
}

impl NeedleMeta {
    /// Bytes of flags and fields.
    pub(super) fn encoded_len(&self) -> usize {
        let short = |field: &Option<Bytes>| match field {
            Some(field) => field.len().saturating_add(1),
            None => 0,
        };
        let lens = [
            1,
            short(&self.name),
            short(&self.mime),
            self.last_modified_secs.map_or(0, |_| LAST_MODIFIED_LEN),
            if self.ttl.is_none() { 0 } else { TTL_LEN },
            match self.pairs.len() {
                0 => 0,
                len => len.saturating_add(2),
            },
        ];
        lens.iter().sum()
    }

    /// Every limit of the fields.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        let len = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len) as u64;
        check_len(LimitKind::Name, len(&self.name), MAX_NAME_LEN as u64)?;
        check_len(LimitKind::Mime, len(&self.mime), MAX_MIME_LEN as u64)?;
        check_len(LimitKind::Pairs, self.pairs.len() as u64, MAX_PAIRS_LEN as u64)?;
        let last_modified = self.last_modified_secs.unwrap_or(0);
        check_len(LimitKind::LastModified, last_modified, MAX_LAST_MODIFIED)
    }

    fn flags(&self) -> u8 {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        flag(self.is_gzipped, IS_GZIPPED)
            | flag(self.name.is_some(), HAS_NAME)
            | flag(self.mime.is_some(), HAS_MIME)
            | flag(self.last_modified_secs.is_some(), HAS_LAST_MODIFIED)
            | flag(!self.ttl.is_none(), HAS_TTL)
            | flag(!self.pairs.is_empty(), HAS_PAIRS)
            | flag(self.is_chunk_manifest, IS_CHUNK_MANIFEST)
    }

    /// Appends flags and fields. The limits were checked: what is beyond them would be cut.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.flags());
        for field in [&self.name, &self.mime].into_iter().flatten() {
            out.push(field.len() as u8);
            out.extend_from_slice(field);
        }
        if let Some(seconds) = self.last_modified_secs {
            let [_, _, _, low @ ..] = seconds.to_be_bytes();
            out.extend_from_slice(&low);
        }
        if !self.ttl.is_none() {
            out.extend_from_slice(&self.ttl.as_bytes());
        }
        if !self.pairs.is_empty() {
            out.extend_from_slice(&(self.pairs.len() as u16).to_be_bytes());
            out.extend_from_slice(&self.pairs);
        }
    }

    /// How many bytes flags and fields take by what a few of them say: `byte_at` reads one.
    pub(super) fn len_by<E>(mut byte_at: impl FnMut(usize) -> Result<u8, E>) -> Result<usize, E> {
        let flags = byte_at(0)?;
        let has = |bit: u8| flags & bit != 0;
        let mut len: usize = 1;
        for bit in [HAS_NAME, HAS_MIME] {
            if has(bit) {
                len = len.saturating_add(1).saturating_add(usize::from(byte_at(len)?));
            }
        }
        let fixed = [(HAS_LAST_MODIFIED, LAST_MODIFIED_LEN), (HAS_TTL, TTL_LEN)];
        for (_, field_len) in fixed.into_iter().filter(|(bit, _)| has(*bit)) {
            len = len.saturating_add(field_len);
        }
        if has(HAS_PAIRS) {
            let pairs = u16::from_be_bytes([byte_at(len)?, byte_at(len.saturating_add(1))?]);
            len = len.saturating_add(2).saturating_add(usize::from(pairs));
        }
        Ok(len)
    }

    /// Reads flags and fields that fill `rest` exactly. The fields share its memory.
    pub(super) fn parse(mut rest: Bytes) -> Result<Self, DecodeError> {
        let rest = &mut rest;
        let flags = take_u8(rest)?;
        let has = |bit: u8| flags & bit != 0;
        let meta = Self {
            is_gzipped: has(IS_GZIPPED),
            is_chunk_manifest: has(IS_CHUNK_MANIFEST),
            name: has(HAS_NAME).then(|| take_short(rest)).transpose()?,
            mime: has(HAS_MIME).then(|| take_short(rest)).transpose()?,
            last_modified_secs: has(HAS_LAST_MODIFIED)
                .then(|| take_last_modified(rest))
                .transpose()?,
            ttl: if has(HAS_TTL) { take_ttl(rest)? } else { Ttl::NONE },
            pairs: if has(HAS_PAIRS) { take_pairs(rest)? } else { Bytes::new() },
        };
        if rest.is_empty() { Ok(meta) } else { Err(DecodeError::BodyTooLong(rest.len())) }
    }
}

fn take_array<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], DecodeError> {
    let bytes = *rest.first_chunk::<N>().ok_or(DecodeError::BodyTooShort)?;
    rest.advance(N);
    Ok(bytes)
}

fn take_u8(rest: &mut Bytes) -> Result<u8, DecodeError> {
    let [byte] = take_array(rest)?;
    Ok(byte)
}

fn take(rest: &mut Bytes, len: usize) -> Result<Bytes, DecodeError> {
    if len > rest.len() {
        return Err(DecodeError::BodyTooShort);
    }
    Ok(rest.split_to(len))
}

fn take_short(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = take_u8(rest)?;
    take(rest, usize::from(len))
}

fn take_last_modified(rest: &mut Bytes) -> Result<u64, DecodeError> {
    let [b0, b1, b2, b3, b4] = take_array(rest)?;
    Ok(u64::from_be_bytes([0, 0, 0, b0, b1, b2, b3, b4]))
}

fn take_ttl(rest: &mut Bytes) -> Result<Ttl, DecodeError> {
    let [count, unit] = take_array(rest)?;
    Ttl::from_bytes([count, unit]).ok_or(DecodeError::Ttl { count, unit })
}

fn take_pairs(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = u16::from_be_bytes(take_array(rest)?);
    take(rest, usize::from(len))
}
