//! One row of an index file.
//!
//! A row that parses has a needle key other than 0, and a size that a record can have. Whether
//! its offset lies inside the volume file is for the reader of both files to say.

use dulse_shared::id::NeedleKey;

use super::{MAX_BODY_LEN, Offset, OffsetWidth};

/// The size of a row that says "deleted".
const TOMBSTONE_SIZE: u32 = 0xffff_ffff;

/// What an index says of a needle at the time the row was appended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IndexRow {
    /// The needle.
    pub key: NeedleKey,
    /// Where its record starts; of a tombstone, where the tombstone's record starts.
    pub offset: Offset,
    /// Body length, or that it was deleted.
    pub size: RowSize,
}

/// The size field of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RowSize {
    /// The needle lives and its record's size field is this. 0 is an empty needle.
    Live(u32),
    /// The needle was deleted.
    Tombstone,
}

/// Why bytes are not an index row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IndexRowError {
    /// The wrong number of bytes.
    #[error("an index row has {expected} bytes, not {found}")]
    Len {
        /// What the width asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Key 0.
    #[error("the index row has needle key 0")]
    KeyZero,
    /// A size that no record has.
    #[error("the index row has size {0}, more than a record can have")]
    Size(u32),
}

impl IndexRow {
    /// Reads the row that fills `bytes` exactly.
    pub fn parse(bytes: &[u8], width: OffsetWidth) -> Result<Self, IndexRowError> {
        match width {
            OffsetWidth::Four => Self::parse_four(bytes),
            OffsetWidth::Five => Self::parse_five(bytes),
        }
    }

    fn parse_four(bytes: &[u8]) -> Result<Self, IndexRowError> {
        let row: &[u8; 16] = bytes.try_into().map_err(|_| IndexRowError::Len {
            expected: OffsetWidth::Four.row_len(),
            found: bytes.len(),
        })?;
        let [k0, k1, k2, k3, k4, k5, k6, k7, o0, o1, o2, o3, s0, s1, s2, s3] = *row;
        Self::from_fields(
            [k0, k1, k2, k3, k4, k5, k6, k7],
            [0, 0, 0, 0, o0, o1, o2, o3],
            [s0, s1, s2, s3],
        )
    }

    /// The highest byte of a five-byte offset comes after the four lower ones.
    fn parse_five(bytes: &[u8]) -> Result<Self, IndexRowError> {
        let row: &[u8; 17] = bytes.try_into().map_err(|_| IndexRowError::Len {
            expected: OffsetWidth::Five.row_len(),
            found: bytes.len(),
        })?;
        let [k0, k1, k2, k3, k4, k5, k6, k7, o0, o1, o2, o3, o_high, s0, s1, s2, s3] = *row;
        Self::from_fields(
            [k0, k1, k2, k3, k4, k5, k6, k7],
            [0, 0, 0, o_high, o0, o1, o2, o3],
            [s0, s1, s2, s3],
        )
    }

    fn from_fields(key: [u8; 8], units: [u8; 8], size: [u8; 4]) -> Result<Self, IndexRowError> {
        let key = NeedleKey::new(u64::from_be_bytes(key)).ok_or(IndexRowError::KeyZero)?;
        let size = match u32::from_be_bytes(size) {
            TOMBSTONE_SIZE => RowSize::Tombstone,
            size if size <= MAX_BODY_LEN => RowSize::Live(size),
            size => return Err(IndexRowError::Size(size)),
        };
        Ok(Self { key, offset: Offset::from_units(u64::from_be_bytes(units)), size })
    }

    /// Appends the row to `rows`. An offset beyond the width's `max_bytes` would lose its upper
    /// bits: the writer keeps volumes below that.
    pub fn write_to(&self, rows: &mut Vec<u8>, width: OffsetWidth) {
        debug_assert!(self.offset.as_bytes() < width.max_bytes());
        rows.extend_from_slice(&self.key.as_u64().to_be_bytes());
        let [.., high, o0, o1, o2, o3] = self.offset.as_units().to_be_bytes();
        rows.extend_from_slice(&[o0, o1, o2, o3]);
        if width == OffsetWidth::Five {
            rows.push(high);
        }
        let size = match self.size {
            RowSize::Live(size) => size,
            RowSize::Tombstone => TOMBSTONE_SIZE,
        };
        rows.extend_from_slice(&size.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_highest_byte_of_a_wide_offset_comes_last() {
        let row = IndexRow {
            key: NeedleKey::new(0x0102).unwrap(),
            offset: Offset::from_units(0x05_0102_0304),
            size: RowSize::Tombstone,
        };
        let mut bytes = Vec::new();
        row.write_to(&mut bytes, OffsetWidth::Five);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2, 1, 2, 3, 4, 5, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(IndexRow::parse(&bytes, OffsetWidth::Five), Ok(row));
    }

    #[test]
    fn rows_with_key_zero_an_impossible_size_or_another_length_are_errors() {
        let mut row = [0_u8; 16];
        assert_eq!(IndexRow::parse(&row, OffsetWidth::Four), Err(IndexRowError::KeyZero));
        row[7] = 1;
        assert!(IndexRow::parse(&row, OffsetWidth::Four).is_ok());
        row[12] = 0x80;
        assert_eq!(IndexRow::parse(&row, OffsetWidth::Four), Err(IndexRowError::Size(0x8000_0000)));
        let error = IndexRowError::Len { expected: 17, found: 16 };
        assert_eq!(IndexRow::parse(&row, OffsetWidth::Five), Err(error));
    }

    proptest! {
        #[test]
        fn a_row_is_read_back_as_written(
            key in 1_u64..,
            units in 0_u64..1 << 40,
            size in prop::option::of(0..=MAX_BODY_LEN),
            is_wide: bool,
        ) {
            let width = if is_wide { OffsetWidth::Five } else { OffsetWidth::Four };
            let row = IndexRow {
                key: NeedleKey::new(key).unwrap(),
                offset: Offset::from_units(if is_wide { units } else { units >> 8 }),
                size: size.map_or(RowSize::Tombstone, RowSize::Live),
            };
            let mut bytes = Vec::new();
            row.write_to(&mut bytes, width);
            prop_assert_eq!(bytes.len(), width.row_len());
            prop_assert_eq!(IndexRow::parse(&bytes, width), Ok(row));
        }
    }
}
