//! The first eight bytes of a volume file.
//!
//! A superblock that parses has a known version, a known ttl unit and a first needle on an
//! 8-byte boundary; anything else is an error for that volume alone.

use dulse_shared::id::{ReplicaPlacement, Ttl};

use super::{Offset, Version};

/// Length of a superblock in bytes, without the extra bytes it may announce.
pub const SUPERBLOCK_LEN: usize = 8;

const _: () = assert!(SUPERBLOCK_LEN == 1 + 1 + 2 + 2 + 2);

/// What a volume file says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The version of every needle record in the file.
    pub version: Version,
    /// The replica placement that the volume was made with.
    pub placement: ReplicaPlacement,
    /// The ttl of the whole volume.
    pub ttl: Ttl,
    /// How often the volume was compacted; wraps around.
    pub compaction_revision: u16,
    /// Bytes between the superblock and the first needle; 0 in files we make.
    pub extra_len: u16,
}

/// Why eight bytes are not a superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockError {
    /// The first byte.
    #[error("the superblock says version {0}; versions 1 to 3 can be read")]
    Version(u8),
    /// Bytes 2 and 3.
    #[error("the superblock's ttl has the unknown unit {unit} (count {count})")]
    Ttl {
        /// The count.
        count: u8,
        /// The unit that nobody knows.
        unit: u8,
    },
    /// Bytes 6 and 7.
    #[error("{0} extra bytes after the superblock put the first needle off an 8-byte boundary")]
    ExtraLen(u16),
}

impl Superblock {
    /// Reads a superblock.
    pub fn parse(bytes: &[u8; SUPERBLOCK_LEN]) -> Result<Self, SuperblockError> {
        let [version, placement, count, unit, rev_high, rev_low, extra_high, extra_low] = *bytes;
        let extra_len = u16::from_be_bytes([extra_high, extra_low]);
        if !extra_len.is_multiple_of(8) {
            return Err(SuperblockError::ExtraLen(extra_len));
        }
        Ok(Self {
            version: Version::from_byte(version).ok_or(SuperblockError::Version(version))?,
            placement: ReplicaPlacement::from_byte(placement),
            ttl: Ttl::from_bytes([count, unit]).ok_or(SuperblockError::Ttl { count, unit })?,
            compaction_revision: u16::from_be_bytes([rev_high, rev_low]),
            extra_len,
        })
    }

    /// The eight bytes.
    pub fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let [count, unit] = self.ttl.as_bytes();
        let [rev_high, rev_low] = self.compaction_revision.to_be_bytes();
        let [extra_high, extra_low] = self.extra_len.to_be_bytes();
        [
            self.version.as_byte(),
            self.placement.as_byte(),
            count,
            unit,
            rev_high,
            rev_low,
            extra_high,
            extra_low,
        ]
    }

    /// Where the first needle starts.
    pub fn first_needle_offset(&self) -> Offset {
        // The sum is a multiple of 8: `parse` refuses other lengths.
        Offset::from_units(u64::from(self.extra_len / 8).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_is_read_back_as_written() {
        let superblock = Superblock {
            version: Version::V3,
            placement: "001".parse().unwrap(),
            ttl: "3d".parse().unwrap(),
            compaction_revision: 0x0102,
            extra_len: 16,
        };
        let bytes = superblock.encode();
        assert_eq!(bytes, [3, 1, 3, 3, 1, 2, 0, 16]);
        assert_eq!(Superblock::parse(&bytes), Ok(superblock));
        assert_eq!(superblock.first_needle_offset().as_bytes(), 24);
    }

    #[test]
    fn unknown_versions_units_and_unaligned_extras_are_errors() {
        for (bytes, error) in [
            ([0, 0, 0, 0, 0, 0, 0, 0], SuperblockError::Version(0)),
            ([4, 0, 0, 0, 0, 0, 0, 0], SuperblockError::Version(4)),
            ([3, 0, 1, 9, 0, 0, 0, 0], SuperblockError::Ttl { count: 1, unit: 9 }),
            ([3, 0, 0, 0, 0, 0, 0, 5], SuperblockError::ExtraLen(5)),
        ] {
            assert_eq!(Superblock::parse(&bytes), Err(error));
        }
    }
}
