//! Up to 256 rows in key order, packed: each column as its distances from the column's lowest
//! value, in as many bits as the largest distance needs.
//!
//! Rows lie behind each other in one exact allocation, key, offset and size of each together: a
//! search that guesses well touches one or two cache lines. A block is never empty. What does not
//! fit into its columns is packed anew. Which block a key belongs into is the directory's business.

use super::{
    bits::{self, Packer},
    entry::{Row, TOMBSTONE},
    search::{Slope, last_at_most},
};

/// Rows of a block at most. The fixed part then costs a third of a byte a needle; packing takes a
/// microsecond.
pub(super) const BLOCK_LEN: usize = 256;

/// Packed rows. Their first key is not in it but listed beside it, so that the many blocks of a
/// volume, which every search touches at random, are half as large and fit into a cache.
#[derive(Clone, Debug)]
pub(super) struct Block {
    words: Box<[u64]>,
    /// The lowest offset.
    units_base: u64,
    /// One less than the lowest coded size of a live needle, so that 0 stays the tombstone's.
    size_base: u32,
    /// The number of the last row.
    last: u8,
    key_width: u8,
    units_width: u8,
    size_width: u8,
}

const _: () = assert!(size_of::<Block>() == 32);
const _: () = assert!(BLOCK_LEN == u8::MAX as usize + 1);

impl Block {
    /// Packs rows, at least one and at most [`BLOCK_LEN`], in rising order of distinct keys.
    pub(super) fn pack(rows: &[Row]) -> Self {
        let first_key = rows.first().map_or(0, |row| row.key);
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
        let last = rows.len().saturating_sub(1) as u8;
        let mut block = Self {
            words: Box::default(),
            units_base,
            size_base,
            last,
            key_width: bits::width_of(last_key - first_key),
            units_width: bits::width_of(max_units.saturating_sub(units_base)),
            size_width: bits::width_of(u64::from(max_size.saturating_sub(size_base))),
        };
        let mut packer = Packer::new(rows.len() * block.stride());
        for row in rows {
            block.push_row(&mut packer, first_key, *row);
        }
        block.words = packer.finish();
        block
    }

    /// Rows in it.
    pub(super) fn len(&self) -> usize {
        usize::from(self.last) + 1
    }

    /// Row number `index`, below the length.
    #[inline]
    pub(super) fn row(&self, first_key: u64, index: usize) -> Row {
        let (key, units, size) = self.distances(index);
        #[expect(clippy::cast_possible_truncation, reason = "the column is at most 32 bits wide")]
        let size = size as u32;
        let coded_size = if size == TOMBSTONE { TOMBSTONE } else { self.size_base + size };
        Row { key: first_key + key, units: self.units_base + units, coded_size }
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
    pub(super) fn rows(&self, first_key: u64) -> impl Iterator<Item = Row> + '_ {
        (0..self.len()).map(move |index| self.row(first_key, index))
    }

    /// The row of `key`, which is not below the first: its number, or the one it would get.
    /// `end_key` is where the next block begins, if there is one.
    #[inline]
    pub(super) fn position(
        &self,
        first_key: u64,
        end_key: Option<u64>,
        key: u64,
    ) -> Result<usize, usize> {
        let distance = key - first_key;
        let stride = self.stride();
        let at = |index: usize| bits::read(&self.words, index * stride, self.key_width);
        let span = end_key.map_or_else(|| at(self.len() - 1), |end| end - first_key);
        let slope = Slope::new(self.len(), span);
        let found = last_at_most(distance, self.len(), slope, at);
        if at(found) == distance { Ok(found) } else { Err(found + 1) }
    }

    /// Puts another offset and size at row number `index`, if they fit.
    pub(super) fn replace(&mut self, first_key: u64, index: usize, row: Row) -> bool {
        if !self.fits(first_key, row) {
            return false;
        }
        let (units_bit, size_bit) = self.columns(index * self.stride());
        let (units, size) = (row.units - self.units_base, self.size_distance(row));
        bits::overwrite(&mut self.words, units_bit, self.units_width, units);
        bits::overwrite(&mut self.words, size_bit, self.size_width, size);
        true
    }

    /// Puts a new row before row number `index`, if it fits.
    pub(super) fn insert(&mut self, first_key: u64, index: usize, row: Row) -> bool {
        if self.len() == BLOCK_LEN || !self.fits(first_key, row) {
            return false;
        }
        let (at, end) = (index * self.stride(), self.len() * self.stride());
        let mut packer = Packer::new(end + self.stride());
        packer.copy(&self.words, 0, at);
        self.push_row(&mut packer, first_key, row);
        packer.copy(&self.words, at, end - at);
        self.words = packer.finish();
        self.last += 1;
        true
    }

    /// Appends to `merged` the block's rows with `newer` among them. Both are in order of keys;
    /// of equal keys the later in `newer` wins, and `replaced` hears of each change.
    pub(super) fn merge(
        &self,
        first_key: u64,
        newer: &[Row],
        merged: &mut Vec<Row>,
        replaced: &mut impl FnMut(Option<Row>, Row),
    ) {
        let mut own = self.rows(first_key).peekable();
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
    fn fits(&self, first_key: u64, row: Row) -> bool {
        let within = |value: u64, base: u64, width| {
            value.checked_sub(base).is_some_and(|distance| distance <= bits::highest(width))
        };
        // A live needle's distance is at least 1.
        let is_size_above = row.coded_size == TOMBSTONE || row.coded_size > self.size_base;
        within(row.key, first_key, self.key_width)
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
    fn push_row(&self, packer: &mut Packer, first_key: u64, row: Row) {
        let (key, units) = (row.key - first_key, row.units - self.units_base);
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
