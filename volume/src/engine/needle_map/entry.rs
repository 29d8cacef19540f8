//! What the map says of a needle, and the same as the plain numbers that blocks pack.

use dulse_shared::id::NeedleKey;

use crate::format::{Offset, RowSize};

/// Where a needle is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of its record (of a deleted needle: of the tombstone's).
    pub offset: Offset,
    /// The size in its record's header, or that it was deleted.
    pub size: RowSize,
}

/// A key and its entry as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) key: u64,
    /// The offset in units of 8 bytes.
    pub(super) units: u64,
    /// [`TOMBSTONE`], or one more than the size.
    pub(super) coded_size: u32,
}

/// The coded size of a deleted needle. That it is the lowest lets a block keep its few deleted
/// needles beside the others without a wider column.
pub(super) const TOMBSTONE: u32 = 0;

impl Row {
    pub(super) fn new(key: NeedleKey, entry: Entry) -> Self {
        // A record's size is far below `u32::MAX`, which would be taken for a tombstone.
        let coded_size = match entry.size {
            RowSize::Live(size) => size.wrapping_add(1),
            RowSize::Tombstone => TOMBSTONE,
        };
        Self { key: key.as_u64(), units: entry.offset.as_units(), coded_size }
    }

    pub(super) fn entry(self) -> Entry {
        let size = match self.coded_size {
            TOMBSTONE => RowSize::Tombstone,
            coded => RowSize::Live(coded - 1),
        };
        Entry { offset: Offset::from_units(self.units), size }
    }
}
