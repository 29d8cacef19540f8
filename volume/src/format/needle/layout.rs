//! Lengths and positions within a needle record, and its header.
//!
//! A record is header, body, checksum, from version 3 on a stamp, and 1 to 8 bytes of padding
//! that make its length a multiple of 8. Lengths are computed in 64 bits from 32-bit fields, so
//! they cannot overflow.

use dulse_shared::id::{Cookie, NeedleKey};

use super::DecodeError;

/// The format version of a volume's records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    /// The body is the data, nothing else.
    V1 = 1,
    /// The body has metadata.
    V2 = 2,
    /// A stamp follows the checksum.
    V3 = 3,
}

/// The version of the volumes we make.
pub const CURRENT_VERSION: Version = Version::V3;

impl Version {
    /// From the superblock's byte; `None` for a version nobody knows.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// The superblock's byte.
    pub const fn as_byte(self) -> u8 {
        self as u8
    }

    /// Bytes between body and padding.
    const fn trailer_len(self) -> u64 {
        match self {
            Self::V1 | Self::V2 => CHECKSUM_LEN,
            Self::V3 => CHECKSUM_LEN + TS_LEN,
        }
    }
}

/// Length of a header in bytes: cookie, key, size.
pub const HEADER_LEN: usize = 4 + 8 + 4;
/// Length of a header and the length of the data: what must be read to find the record's end and
/// that of its data. No record is shorter.
pub const HEAD_LEN: usize = HEADER_LEN + 4;
/// Length of a record without body, in bytes.
pub const TOMBSTONE_LEN: usize = 32;
/// The longest body: the size is kept as a signed number by other programs.
pub const MAX_BODY_LEN: u32 = i32::MAX as u32;
/// The longest name, in bytes.
pub const MAX_NAME_LEN: usize = 255;
/// The longest mime type, in bytes.
pub const MAX_MIME_LEN: usize = 255;
/// The longest JSON of pairs, in bytes.
pub const MAX_PAIRS_LEN: usize = 65_535;

/// The longest tail of a record, which is all that follows its data: the fields at their longest,
/// and some 40 bytes of flags, lengths, checksum, stamp and padding.
pub const MAX_TAIL_BYTES: u64 = 66_144;

const CHECKSUM_LEN: u64 = 4;
const TS_LEN: u64 = 8;
/// Records start and end on multiples of this many bytes.
const ALIGNMENT: u64 = 8;

const _: () = assert!(
    MAX_TAIL_BYTES >= (MAX_NAME_LEN + MAX_MIME_LEN + MAX_PAIRS_LEN + 40) as u64,
    "lengths of the three (4), flags, last modified (5), ttl (2), trailer (12), padding (8)"
);
const _: () = assert!(HEADER_LEN == 16 && HEAD_LEN == 20);
const _: () = assert!(MAX_NAME_LEN == u8::MAX as usize && MAX_MIME_LEN == u8::MAX as usize);
const _: () = assert!(MAX_PAIRS_LEN == u16::MAX as usize);
const _: () = assert!(record_len(0, Version::V3) == TOMBSTONE_LEN as u64);
const _: () = assert!(record_len(4, Version::V3) == 40, "padding is 8 bytes, never 0");
const _: () = assert!(record_len(3, Version::V3) == 32, "padding is 1 byte");
const _: () = assert!(record_len(0, Version::V2) == 24);
const _: () = assert!(record_len(0, Version::V1) >= HEAD_LEN as u64);

/// Length of a record whose size field says `size`, padding included, in bytes.
pub const fn record_len(size: u32, version: Version) -> u64 {
    let unpadded = unpadded_len(size, version);
    unpadded.saturating_add(ALIGNMENT.saturating_sub(unpadded % ALIGNMENT))
}

/// The same without padding.
pub(super) const fn unpadded_len(size: u32, version: Version) -> u64 {
    (HEADER_LEN as u64).saturating_add(size as u64).saturating_add(version.trailer_len())
}

/// The first 16 bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeedleHeader {
    /// The cookie.
    pub cookie: Cookie,
    /// The key.
    pub key: NeedleKey,
    /// Length of the body in bytes; 0 is a tombstone, or an empty needle in foreign files.
    pub size: u32,
}

impl NeedleHeader {
    /// Reads a header. Key 0 and sizes over [`MAX_BODY_LEN`] are errors.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let [c0, c1, c2, c3, k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3] = *bytes;
        let key = u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if size > MAX_BODY_LEN {
            return Err(DecodeError::Size(size));
        }
        Ok(Self {
            cookie: Cookie(u32::from_be_bytes([c0, c1, c2, c3])),
            key: NeedleKey::new(key).ok_or(DecodeError::KeyZero)?,
            size,
        })
    }

    /// The 16 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let [c0, c1, c2, c3] = self.cookie.0.to_be_bytes();
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.key.as_u64().to_be_bytes();
        let [s0, s1, s2, s3] = self.size.to_be_bytes();
        [c0, c1, c2, c3, k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3]
    }

    /// Length of the whole record in bytes.
    pub const fn record_len(&self, version: Version) -> u64 {
        record_len(self.size, version)
    }
}
