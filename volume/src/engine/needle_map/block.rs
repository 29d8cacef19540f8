//! Up to 256 rows in key order, packed: each column as its distances from the column's lowest
//! value, in as many bits as the largest distance needs.
//!
//! Rows lie behind each other in one exact allocation, key, offset and size of each together: a
//! search that guesses well touches one or two cache lines. A block is never empty. What does not
//! fit into its columns is packed anew. Which block a key belongs into is the directory's business.

use super::{
    bits::{self, Packer},
    entry::{Row, TOMBSTONE},
    search::last_at_most,
};

/// Rows of a block at most. The fixed part then costs a third of a byte a needle; packing takes a
/// microsecond.
pub(super) const BLOCK_LEN: usize = 256;

/// Packed rows. In a cache line of its own, since this is the first that a search touches.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Block {
    words: Box<[u64]>,
    /// The lowest key and the highest.
    key_base: u64,
    last_key: u64,
    /// The lowest offset.
    units_base: u64,
    /// One less than the lowest coded size of a live needle, so that 0 stays the tombstone's.
    size_base: u32,
    len: u16,
    key_width: u8,
    units_width: u8,
    size_width: u8,
}

const _: () = assert!(size_of::<Block>() == 64);

impl Block {
    /// Packs rows, at least one and at most [`BLOCK_LEN`], in rising order of distinct keys.
    pub(super) fn pack(rows: &[Row]) -> Self {
        let key_base = rows.first().map_or(0, |row| row.key);
        let last_key = rows.last().map_or(0, |row| row.key);
        let (mut units_base, mut max_units) = (u64::MAX, 0);
        let (mut min_size, mut max_size) = (u32::MAX, TOMBSTONE);
        for row in rows {
            units_base = units_base.min(row.units);
            max_units = max_units.max(row.units);
            max_size = max_size.max(row.coded_size);
            // A tombstone wraps around to the highest number and so is never the lowest.
            min_size = min_size.min(row.coded_size.wrapping_sub(1));
        }
        let size_base = if max_size == TOMBSTONE { 0 } else { min_size };
        #[expect(clippy::cast_possible_truncation, reason = "the caller gives at most 256")]
        let len = rows.len() as u16;
        let mut block = Self {
            words: Box::default(),
            key_base,
            last_key,
            units_base,
            size_base,
            len,
            key_width: bits::width_of(last_key - key_base),
            units_width: bits::width_of(max_units.saturating_sub(units_base)),
            size_width: bits::width_of(u64::from(max_size.saturating_sub(size_base))),
        };
        let mut packer = Packer::new(rows.len() * block.stride());
        for row in rows {
            block.push_row(&mut packer, *row);
        }
        block.words = packer.finish();
        block
    }

    /// Rows in it.
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The lowest key.
    pub(super) fn first_key(&self) -> u64 {
        self.key_base
    }

    /// Row number `index`, below the length.
    #[inline]
    pub(super) fn row(&self, index: usize) -> Row {
        let (key, units, size) = self.distances(index);
        #[expect(clippy::cast_possible_truncation, reason = "the column is at most 32 bits wide")]
        let size = size as u32;
        let coded_size = if size == TOMBSTONE { TOMBSTONE } else { self.size_base + size };
        Row { key: self.key_base + key, units: self.units_base + units, coded_size }
    }

    #[inline]
    fn distances(&self, index: usize) -> (u64, u64, u64) {
        let (words, stride) = (&self.words, self.stride());
        let bit = index * stride;
        let (units_bit, size_bit) = self.columns(bit);
        let (key, units, size) = (self.key_width, self.units_width, self.size_width);
        if stride > 64 {
            let key = bits::read(words, bit, key);
            return (key, bits::read(words, units_bit, units), bits::read(words, size_bit, size));
        }
        // At once: most rows are this short.
        let row = bits::read(words, bit, key + units + size);
        let rest = row.unbounded_shr(u32::from(key));
        let units_distance = rest & bits::highest(units);
        (row & bits::highest(key), units_distance, rest.unbounded_shr(u32::from(units)))
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.len()).map(|index| self.row(index))
    }

    /// The row of `key`: its number, or the one it would get.
    pub(super) fn position(&self, key: u64) -> Result<usize, usize> {
        if key < self.key_base {
            return Err(0);
        }
        if key > self.last_key {
            return Err(self.len());
        }
        let distance = key - self.key_base;
        let stride = self.stride();
        let at = |index: usize| bits::read(&self.words, index * stride, self.key_width);
        let last = last_at_most(distance, self.len(), self.last_key - self.key_base, at);
        if at(last) == distance { Ok(last) } else { Err(last + 1) }
    }

    /// Puts another offset and size at row number `index`, if they fit.
    pub(super) fn replace(&mut self, index: usize, row: Row) -> bool {
        if !self.fits(row) {
            return false;
        }
        let (units_bit, size_bit) = self.columns(index * self.stride());
        let (units, size) = (row.units - self.units_base, self.size_distance(row));
        bits::overwrite(&mut self.words, units_bit, self.units_width, units);
        bits::overwrite(&mut self.words, size_bit, self.size_width, size);
        true
    }

    /// Puts a new row before row number `index`, if it fits.
    pub(super) fn insert(&mut self, index: usize, row: Row) -> bool {
        if self.len() == BLOCK_LEN || !self.fits(row) {
            return false;
        }
        let (at, end) = (index * self.stride(), self.len() * self.stride());
        let mut packer = Packer::new(end + self.stride());
        packer.copy(&self.words, 0, at);
        self.push_row(&mut packer, row);
        packer.copy(&self.words, at, end - at);
        self.words = packer.finish();
        self.last_key = self.last_key.max(row.key);
        self.len += 1;
        true
    }

    /// Appends to `merged` the block's rows with `newer` among them. Both are in order of keys;
    /// of equal keys the later in `newer` wins, and `replaced` hears of each change.
    pub(super) fn merge(
        &self,
        newer: &[Row],
        merged: &mut Vec<Row>,
        replaced: &mut impl FnMut(Option<Row>, Row),
    ) {
        let mut own = self.rows().peekable();
        for row in newer {
            while let Some(own) = own.next_if(|own| own.key <= row.key) {
                merged.push(own);
            }
            match merged.last_mut().filter(|last| last.key == row.key) {
                Some(last) => replaced(Some(std::mem::replace(last, *row)), *row),
                None => {
                    replaced(None, *row);
                    merged.push(*row);
                }
            }
        }
        merged.extend(own);
    }

    /// Whether the columns are wide enough for `row`, whose key is not below the first.
    fn fits(&self, row: Row) -> bool {
        let within = |value: u64, base: u64, width| {
            value.checked_sub(base).is_some_and(|distance| distance <= bits::highest(width))
        };
        // A live needle's distance is at least 1.
        let is_size_above = row.coded_size == TOMBSTONE || row.coded_size > self.size_base;
        within(row.key, self.key_base, self.key_width)
            && within(row.units, self.units_base, self.units_width)
            && is_size_above
            && self.size_distance(row) <= bits::highest(self.size_width)
    }

    /// 0 for a tombstone.
    fn size_distance(&self, row: Row) -> u64 {
        u64::from(row.coded_size.saturating_sub(self.size_base))
    }

    /// Packs a row that fits.
    #[inline]
    fn push_row(&self, packer: &mut Packer, row: Row) {
        let (key, units) = (row.key - self.key_base, row.units - self.units_base);
        let size = self.size_distance(row);
        let (key_width, units_width) = (self.key_width, self.units_width);
        if self.stride() > 64 {
            packer.push(key, key_width);
            packer.push(units, units_width);
            packer.push(size, self.size_width);
            return;
        }
        let rest = units | size.unbounded_shl(u32::from(units_width));
        let row = key | rest.unbounded_shl(u32::from(key_width));
        packer.push(row, key_width + units_width + self.size_width);
    }

    /// Bits of a row.
    #[inline]
    fn stride(&self) -> usize {
        usize::from(self.key_width) + usize::from(self.units_width) + usize::from(self.size_width)
    }

    /// Where offset and size of the row at `bit` are.
    #[inline]
    fn columns(&self, bit: usize) -> (usize, usize) {
        let units_bit = bit + usize::from(self.key_width);
        (units_bit, units_bit + usize::from(self.units_width))
    }
}

#[cfg(test)]
impl Block {
    pub(super) fn words_len(&self) -> usize {
        self.words.len()
    }
}
