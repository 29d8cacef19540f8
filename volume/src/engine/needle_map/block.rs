//! Up to 256 rows in key order, packed: each column as its distances from the column's lowest
//! value, in as many bits as the largest distance needs.
//!
//! The columns lie behind each other (keys, offsets, sizes) in one exact allocation: a search
//! touches the key column only. A block is never empty and never changes its shape; what does not
//! fit into it is packed anew. Which block a key belongs into is the directory's business.

use super::{
    bits::{self, Packer},
    entry::{Row, TOMBSTONE},
};

/// Rows of a block at most. The fixed part then costs a third of a byte a needle; packing takes a
/// microsecond.
pub(super) const BLOCK_LEN: usize = 256;

/// Rows on either side of the place where a key would be if keys were spread evenly: twice the
/// deviation of keys that are handed out in sequence and dealt to volumes at random.
const GUESS_REACH: usize = 16;

/// Packed rows.
#[derive(Clone, Debug)]
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

const _: () = assert!(size_of::<Block>() == 56);

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
        block.words = block.pack_columns(rows);
        block
    }

    fn pack_columns(&self, rows: &[Row]) -> Box<[u64]> {
        let widths = [self.key_width, self.units_width, self.size_width];
        let row_width: usize = widths.into_iter().map(usize::from).sum();
        let mut packer = Packer::new(rows.len() * row_width);
        for row in rows {
            packer.push(row.key - self.key_base, self.key_width);
        }
        for row in rows {
            packer.push(row.units - self.units_base, self.units_width);
        }
        for row in rows {
            packer.push(u64::from(row.coded_size.saturating_sub(self.size_base)), self.size_width);
        }
        packer.finish()
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
        let key = self.key_base + self.key_distance(index);
        let units =
            self.units_base + bits::read(&self.words, self.units_bit(index), self.units_width);
        let size = bits::read(&self.words, self.size_bit(index), self.size_width);
        #[expect(clippy::cast_possible_truncation, reason = "the column is at most 32 bits wide")]
        let size = size as u32;
        let coded_size = if size == TOMBSTONE { TOMBSTONE } else { self.size_base + size };
        Row { key, units, coded_size }
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
        let (mut low, mut count) = self.window(distance);
        // `low` never is above the last row whose distance is at most this one.
        while count > 1 {
            let half = count / 2;
            let middle = low + half;
            low = if self.key_distance(middle) <= distance { middle } else { low };
            count -= half;
        }
        if self.key_distance(low) == distance { Ok(low) } else { Err(low + 1) }
    }

    /// Rows among which the last one of at most `distance` is: first and number. A few around the
    /// guess, which lie in one or two cache lines; all of them where keys are not spread evenly.
    fn window(&self, distance: u64) -> (usize, usize) {
        let len = self.len();
        let guess = self.guess(distance);
        let low = guess.saturating_sub(GUESS_REACH);
        let high = (guess + GUESS_REACH).min(len);
        let starts_before = low == 0 || self.key_distance(low) <= distance;
        let ends_behind = high == len || self.key_distance(high) > distance;
        if starts_before && ends_behind { (low, high - low) } else { (0, len) }
    }

    /// The row that a key of the block would have if keys were spread evenly.
    fn guess(&self, distance: u64) -> usize {
        // Without their lowest byte, where needed, so that the product does not overflow.
        let shift = self.key_width.saturating_sub(56);
        let span = (self.last_key - self.key_base >> shift) + 1;
        let guess = (distance >> shift) * u64::from(self.len) / span;
        #[expect(clippy::cast_possible_truncation, reason = "below the number of rows")]
        let guess = guess as usize;
        guess
    }

    /// Puts another offset and size at row number `index`, if they fit.
    pub(super) fn replace(&mut self, index: usize, row: Row) -> bool {
        let units = row.units.checked_sub(self.units_base);
        let units = units.filter(|units| *units <= bits::highest(self.units_width));
        let size = match row.coded_size {
            TOMBSTONE => Some(TOMBSTONE),
            coded => coded.checked_sub(self.size_base).filter(|size| *size != TOMBSTONE),
        };
        let size = size.map(u64::from).filter(|size| *size <= bits::highest(self.size_width));
        let (Some(units), Some(size)) = (units, size) else {
            return false;
        };
        let (units_bit, size_bit) = (self.units_bit(index), self.size_bit(index));
        bits::overwrite(&mut self.words, units_bit, self.units_width, units);
        bits::overwrite(&mut self.words, size_bit, self.size_width, size);
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

    #[inline]
    fn key_distance(&self, index: usize) -> u64 {
        bits::read(&self.words, index * usize::from(self.key_width), self.key_width)
    }

    fn units_bit(&self, index: usize) -> usize {
        self.len() * usize::from(self.key_width) + index * usize::from(self.units_width)
    }

    fn size_bit(&self, index: usize) -> usize {
        let before = usize::from(self.key_width) + usize::from(self.units_width);
        self.len() * before + index * usize::from(self.size_width)
    }
}

#[cfg(test)]
impl Block {
    pub(super) fn words_len(&self) -> usize {
        self.words.len()
    }
}
