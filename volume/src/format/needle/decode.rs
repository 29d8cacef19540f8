//! Records to needles.
//!
//! [`Head`] and [`Tail`] are the two ends of a record, for needles too large to hold; a
//! [`Needle`] is a whole one. A needle that decodes is structurally sound, its data has the
//! checksum that was stored, and, when the record is our own, so has everything else.

use bytes::Bytes;
use dulse_shared::id::{Cookie, NeedleKey, Ts};

use super::{
    HEAD_LEN, HEADER_LEN, MAX_TAIL_BYTES, NeedleHeader, NeedleMeta, Version, checksum, layout,
};

/// Why bytes are not a sound record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not have the length that the record says it has.
    #[error("the record should have {expected} bytes, {found} are there")]
    Len {
        /// What the size field asks for.
        expected: u64,
        /// What was given.
        found: u64,
    },
    /// Key 0, as in a stretch of zeros.
    #[error("the record has needle key 0")]
    KeyZero,
    /// A size field that no record can have.
    #[error("the record says that its body has {0} bytes, more than the format allows")]
    Size(u32),
    /// The length of the data does not fit into the body.
    #[error("the record's data length {data_len} does not fit its body of {size} bytes")]
    DataLen {
        /// The field's value.
        data_len: u32,
        /// Length of the body.
        size: u32,
    },
    /// More follows the data than metadata can be.
    #[error(
        "the record's body of {size} bytes leaves more room for metadata after {data_len} bytes of \
         data than any has"
    )]
    TailLen {
        /// Length of the data.
        data_len: u32,
        /// Length of the body.
        size: u32,
    },
    /// The fields that the flags announce do not fit into the body.
    #[error("the record's body ends within its metadata")]
    BodyTooShort,
    /// Bytes are left over after the fields that the flags announce.
    #[error("the record's body has {0} bytes after its metadata")]
    BodyTooLong(usize),
    /// A ttl of an unknown unit.
    #[error("the record's ttl has the unknown unit {unit} (count {count})")]
    Ttl {
        /// The count.
        count: u8,
        /// The unit that nobody knows.
        unit: u8,
    },
    /// The data is not what was written.
    #[error("the data's checksum is {computed:08x}, the record says {stored:08x}")]
    Checksum {
        /// In the record.
        stored: u32,
        /// Of the data that is there.
        computed: u32,
    },
    /// Header or metadata are not what was written.
    #[error("the sums in the record's padding do not match its header and metadata")]
    Padding,
}

/// The start of a record: enough to know where its data and its end are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    header: NeedleHeader,
    version: Version,
    data_len: u32,
    bytes: [u8; HEAD_LEN],
}

impl Head {
    /// Reads the first 20 bytes of a record. What it says of the tail is within [`MAX_TAIL_BYTES`],
    /// so that a tail can be read as a whole.
    pub fn parse(bytes: &[u8; HEAD_LEN], version: Version) -> Result<Self, DecodeError> {
        let [header @ .., d0, d1, d2, d3] = bytes;
        let header = NeedleHeader::parse(header)?;
        let data_len = match (header.size, version) {
            (0, _) | (_, Version::V1) => header.size,
            (size, Version::V2 | Version::V3) => {
                let data_len = u32::from_be_bytes([*d0, *d1, *d2, *d3]);
                // The body has this field and the flags besides.
                if u64::from(data_len).saturating_add(5) > u64::from(size) {
                    return Err(DecodeError::DataLen { data_len, size });
                }
                data_len
            }
        };
        let head = Self { header, version, data_len, bytes: *bytes };
        if head.tail_len() > MAX_TAIL_BYTES {
            return Err(DecodeError::TailLen { data_len, size: header.size });
        }
        Ok(head)
    }

    /// The bytes it was read from.
    pub fn as_bytes(&self) -> &[u8; HEAD_LEN] {
        &self.bytes
    }

    /// Cookie, key and size.
    pub fn header(&self) -> &NeedleHeader {
        &self.header
    }

    /// Length of the data in bytes.
    pub fn data_len(&self) -> u32 {
        self.data_len
    }

    /// Whether there is no body: a tombstone, or an empty needle in foreign files.
    pub fn is_without_body(&self) -> bool {
        self.header.size == 0
    }

    /// Length of the whole record in bytes.
    pub fn record_len(&self) -> u64 {
        self.header.record_len(self.version)
    }

    /// Where the data starts, in bytes from the start of the record.
    pub fn data_start(&self) -> u64 {
        self.before_data().len() as u64
    }

    /// Where the tail starts, in bytes from the start of the record.
    pub fn tail_start(&self) -> u64 {
        self.data_start().saturating_add(u64::from(self.data_len))
    }

    /// Length of the tail in bytes: all that follows the data, padding included.
    pub fn tail_len(&self) -> u64 {
        self.record_len().saturating_sub(self.tail_start())
    }

    fn before_data(&self) -> &[u8] {
        let [header @ .., _, _, _, _] = &self.bytes;
        let _: &[u8; HEADER_LEN] = header;
        if self.has_meta() { &self.bytes } else { header }
    }

    fn has_meta(&self) -> bool {
        self.header.size > 0 && self.version > Version::V1
    }

    /// Reads what follows the data: [`Head::tail_len`] bytes. With `own` the sums in the padding
    /// are checked. The fields share the memory of `tail`.
    pub fn parse_tail(&self, mut tail: Bytes, own: bool) -> Result<Tail, DecodeError> {
        if tail.len() as u64 != self.tail_len() {
            return Err(DecodeError::Len { expected: self.tail_len(), found: tail.len() as u64 });
        }
        let unpadded = layout::unpadded_len(self.header.size, self.version);
        // At most the tail's length, because the record's length is more than `unpadded`.
        let padding = tail.split_off(unpadded.saturating_sub(self.tail_start()) as usize);
        if own {
            self.check_padding(&tail, &padding)?;
        }
        let trailer_at = tail.len().saturating_sub(self.trailer_len());
        let trailer = tail.split_off(trailer_at);
        let (stored_checksum, ts) = parse_trailer(&trailer)?;
        let meta = if self.has_meta() { NeedleMeta::parse(tail)? } else { NeedleMeta::default() };
        Ok(Tail { meta, stored_checksum, ts, own, is_without_body: self.is_without_body() })
    }

    /// Whether the metadata fills what the header leaves for it, by the few bytes of it that tell:
    /// `byte_at` reads one, at so many bytes from the start of the record. In bytes that are no record
    /// it hardly ever does, and this is all that has to be read of them.
    pub fn fits_its_fields<E>(
        &self,
        mut byte_at: impl FnMut(u64) -> Result<u8, E>,
    ) -> Result<bool, E> {
        if !self.has_meta() {
            return Ok(true);
        }
        let start = self.tail_start();
        let before_padding = layout::unpadded_len(self.header.size, self.version);
        let room = before_padding.saturating_sub(start).saturating_sub(self.trailer_len() as u64);
        let mut is_beyond = false;
        let len = NeedleMeta::len_by(|at| {
            is_beyond |= at as u64 >= room;
            // What lies behind does not count any more.
            if is_beyond { Ok(0) } else { byte_at(start.saturating_add(at as u64)) }
        })?;
        Ok(!is_beyond && len as u64 == room)
    }

    fn trailer_len(&self) -> usize {
        match self.version {
            Version::V1 | Version::V2 => 4,
            Version::V3 => 12,
        }
    }

    fn check_padding(&self, after_data: &[u8], padding: &[u8]) -> Result<(), DecodeError> {
        let sums = checksum::padding(self.before_data(), after_data);
        if sums.starts_with(padding) { Ok(()) } else { Err(DecodeError::Padding) }
    }
}

fn parse_trailer(trailer: &[u8]) -> Result<(u32, Ts), DecodeError> {
    let (checksum, stamp) = trailer.split_first_chunk::<4>().ok_or(DecodeError::BodyTooShort)?;
    let stamp = stamp.first_chunk::<8>().copied().unwrap_or_default();
    Ok((u32::from_be_bytes(*checksum), Ts(u64::from_be_bytes(stamp))))
}

/// The end of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Metadata; empty where the record has none.
    pub meta: NeedleMeta,
    /// The checksum field as it lies there: raw, or in old files in another form.
    pub stored_checksum: u32,
    /// The stamp; 0 before version 3.
    pub ts: Ts,
    own: bool,
    is_without_body: bool,
}

impl Tail {
    /// Whether data with the CRC-32C `crc_of_data` is what was written. A record without body has
    /// no data to sum, and foreign tombstones repeat the sum of what they delete.
    pub fn checksum_matches(&self, crc_of_data: u32) -> bool {
        self.is_without_body
            || self.stored_checksum == crc_of_data
            || (!self.own && self.stored_checksum == checksum::legacy(crc_of_data))
    }
}

/// A needle as read from its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needle {
    /// The cookie.
    pub cookie: Cookie,
    /// The key.
    pub key: NeedleKey,
    /// The record's size field: the length of the body in bytes. 0 is a tombstone, or an empty
    /// needle in foreign files; the index knows which.
    pub size: u32,
    /// The data as stored, perhaps gzipped; shares the record's memory.
    pub data: Bytes,
    /// CRC-32C of `data`.
    pub checksum: u32,
    /// The rest.
    pub meta: NeedleMeta,
    /// The stamp; 0 before version 3.
    pub ts: Ts,
}

impl Needle {
    /// Reads and verifies a whole record. With `own` header and metadata are verified too, and
    /// only a raw checksum is accepted.
    pub fn decode(record: Bytes, version: Version, own: bool) -> Result<Self, DecodeError> {
        let found = record.len() as u64;
        let bytes = record
            .first_chunk::<HEAD_LEN>()
            .ok_or(DecodeError::Len { expected: HEAD_LEN as u64, found })?;
        let head = Head::parse(bytes, version)?;
        let expected = head.record_len();
        if found != expected {
            return Err(DecodeError::Len { expected, found });
        }
        let mut data = record;
        // Both positions lie inside the record, whose length was compared just now.
        let tail = data.split_off(head.tail_start() as usize);
        let data = data.split_off(head.data_start() as usize);
        let tail = head.parse_tail(tail, own)?;
        let computed = crc32c::crc32c(&data);
        if !tail.checksum_matches(computed) {
            return Err(DecodeError::Checksum { stored: tail.stored_checksum, computed });
        }
        let NeedleHeader { cookie, key, size } = *head.header();
        Ok(Self { cookie, key, size, data, checksum: computed, meta: tail.meta, ts: tail.ts })
    }
}
