//! Positions of records in a volume file, and how wide the index stores them.
//!
//! Every record starts on an 8-byte boundary, so the index counts in units of 8 bytes.

use std::fmt;

/// Bytes in a unit.
const UNIT: u64 = 8;

/// The position of a record in its volume file: a multiple of 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(u64);

impl Offset {
    /// The start of the file.
    pub const ZERO: Self = Self(0);

    /// From units of 8 bytes. The highest five-byte offset is far below the limit of 2⁶¹ units, at
    /// which this saturates.
    pub const fn from_units(units: u64) -> Self {
        Self(units.saturating_mul(UNIT))
    }

    /// From a byte position; `None` off an 8-byte boundary.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes.is_multiple_of(UNIT) { Some(Self(bytes)) } else { None }
    }

    /// The position `units` of 8 bytes further on.
    pub const fn after(self, units: u32) -> Self {
        Self(self.0.saturating_add((units as u64).saturating_mul(UNIT)))
    }

    /// The position in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The position in units of 8 bytes.
    pub const fn as_units(self) -> u64 {
        self.0 / UNIT
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offset({})", self.0)
    }
}

/// How many bytes an offset takes in a volume's index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OffsetWidth {
    /// Volumes up to 32 GiB.
    #[default]
    Four,
    /// Volumes up to 8 TiB.
    Five,
}

impl OffsetWidth {
    /// The longest volume file whose every record the index can address, in bytes.
    pub const fn max_bytes(self) -> u64 {
        match self {
            Self::Four => UNIT << 32,
            Self::Five => UNIT << 40,
        }
    }

    /// Where a record of `len` bytes at `offset` ends; `None` beyond what the index can address.
    pub fn end_of(self, offset: Offset, len: u64) -> Option<u64> {
        offset.as_bytes().checked_add(len).filter(|end| *end <= self.max_bytes())
    }

    /// Length of an index row in bytes.
    pub const fn row_len(self) -> usize {
        match self {
            Self::Four => 16,
            Self::Five => 17,
        }
    }

    /// The number of bytes, as `bytesOffset` in the `.vif` has it.
    pub const fn as_number(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// From `bytesOffset`; `None` for another number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            4 => Some(Self::Four),
            5 => Some(Self::Five),
            _ => None,
        }
    }
}

const _: () = assert!(OffsetWidth::Four.max_bytes() == 32 << 30);
const _: () = assert!(OffsetWidth::Five.max_bytes() == 8 << 40);
const _: () = assert!(OffsetWidth::Four.row_len() == 8 + 4 + 4);
const _: () = assert!(OffsetWidth::Five.row_len() == 8 + 5 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_multiple_of_eight() {
        assert_eq!(Offset::from_bytes(7), None);
        let offset = Offset::from_bytes(48).unwrap();
        assert_eq!((offset.as_units(), offset), (6, Offset::from_units(6)));
    }

    #[test]
    fn a_record_ends_where_the_width_reaches_and_no_further() {
        for width in [OffsetWidth::Four, OffsetWidth::Five] {
            let max = width.max_bytes();
            let last = Offset::from_bytes(max - 32).unwrap();
            assert_eq!(width.end_of(last, 32), Some(max));
            assert_eq!(width.end_of(last, 40), None);
            assert_eq!(width.end_of(last, u64::MAX), None);
        }
    }
}
