//! Where each needle of a volume is: key → offset and size, in memory.
//!
//! Keys are sorted in blocks of up to 256 whose columns lie apart, so that an entry takes its 16
//! bytes and little more (17 past 32 GiB). Keys mostly come in rising order: the last block then
//! fills to the brim and a new one is begun. A key in the middle splits a full block in halves.
//! Deleted keys stay, as tombstones, until the volume is compacted.

use dulse_shared::id::NeedleKey;

use crate::format::{Offset, RowSize};

/// Entries of a block at most: a search within fits in few cache lines, an insert moves 4 KB.
const BLOCK_LEN: usize = 256;

/// Where a needle is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of its record (of a deleted needle: of the tombstone's).
    pub offset: Offset,
    /// The size in its record's header, or that it was deleted.
    pub size: RowSize,
}

/// The sorted map of a volume's needles.
#[derive(Clone, Debug, Default)]
pub struct NeedleMap {
    /// The lowest key of each block: what a search walks first.
    first_keys: Vec<u64>,
    blocks: Vec<Block>,
    len: usize,
}

/// Columns of equal length, sorted by key.
#[derive(Clone, Debug, Default)]
struct Block {
    keys: Vec<u64>,
    /// Offsets in units of 8 bytes, lower 32 bits.
    offsets: Vec<u32>,
    /// Their upper 8 bits; empty while all are 0.
    offset_highs: Vec<u8>,
    sizes: Vec<u32>,
}

impl NeedleMap {
    /// Keys in the map, tombstones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The highest key; 0 if there is none.
    pub fn max_key(&self) -> u64 {
        self.blocks.last().and_then(|block| block.keys.last()).copied().unwrap_or(0)
    }

    /// Where `key` is; a tombstone says that it was deleted.
    pub fn lookup(&self, key: NeedleKey) -> Option<Entry> {
        let block = &self.blocks[self.block_of(key.as_u64())?];
        block.position(key.as_u64()).ok().map(|index| block.entry(index))
    }

    /// Sets where `key` is; what was there before.
    pub fn insert(&mut self, key: NeedleKey, entry: Entry) -> Option<Entry> {
        let key = key.as_u64();
        let mut index = self.block_of(key).unwrap_or(0);
        if self.blocks.is_empty() {
            self.push_block(Block::default(), key);
        }
        match self.blocks[index].position(key) {
            Ok(position) => return Some(self.blocks[index].replace(position, entry)),
            Err(_) if self.blocks[index].keys.len() == BLOCK_LEN => {
                index = self.make_room(index, key);
            }
            Err(_) => {}
        }
        let block = &mut self.blocks[index];
        let position = block.position(key).unwrap_or_else(|position| position);
        block.insert(position, key, entry);
        self.first_keys[index] = block.keys[0];
        self.len += 1;
        None
    }

    /// All entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = (NeedleKey, Entry)> + '_ {
        self.blocks.iter().flat_map(|block| {
            let entries =
                (0..block.keys.len()).map(|index| (block.keys[index], block.entry(index)));
            entries.filter_map(|(key, entry)| Some((NeedleKey::new(key)?, entry)))
        })
    }

    /// The block that holds `key` or would; `None` only while the map is empty.
    fn block_of(&self, key: u64) -> Option<usize> {
        let after = self.first_keys.partition_point(|first| *first <= key);
        if self.blocks.is_empty() { None } else { Some(after.saturating_sub(1)) }
    }

    /// Makes room for `key` at a full block; the block it then belongs into.
    fn make_room(&mut self, index: usize, key: u64) -> usize {
        let is_last = index + 1 == self.blocks.len();
        if is_last && key > self.max_key() {
            self.push_block(Block::default(), key);
            return index + 1;
        }
        let upper = self.blocks[index].split_off(BLOCK_LEN / 2);
        let first_of_upper = upper.keys[0];
        self.first_keys.insert(index + 1, first_of_upper);
        self.blocks.insert(index + 1, upper);
        if key < first_of_upper { index } else { index + 1 }
    }

    fn push_block(&mut self, block: Block, first_key: u64) {
        self.first_keys.push(first_key);
        self.blocks.push(block);
    }
}

impl Block {
    fn position(&self, key: u64) -> Result<usize, usize> {
        self.keys.binary_search(&key)
    }

    fn entry(&self, index: usize) -> Entry {
        let high = self.offset_highs.get(index).copied().unwrap_or(0);
        let units = u64::from(high) << 32 | u64::from(self.offsets[index]);
        Entry { offset: Offset::from_units(units), size: size_from_raw(self.sizes[index]) }
    }

    fn replace(&mut self, index: usize, entry: Entry) -> Entry {
        let before = self.entry(index);
        let (low, high) = split_offset(entry.offset);
        self.offsets[index] = low;
        self.sizes[index] = raw_size(entry.size);
        self.widen_for(high);
        if let Some(slot) = self.offset_highs.get_mut(index) {
            *slot = high;
        }
        before
    }

    fn insert(&mut self, index: usize, key: u64, entry: Entry) {
        let (low, high) = split_offset(entry.offset);
        self.widen_for(high);
        if !self.offset_highs.is_empty() {
            self.offset_highs.insert(index, high);
        } else if high != 0 {
            // Only a block without entries has no column after widening.
            self.offset_highs.push(high);
        }
        self.keys.insert(index, key);
        self.offsets.insert(index, low);
        self.sizes.insert(index, raw_size(entry.size));
    }

    /// Adds the column of upper bits once one is not 0.
    fn widen_for(&mut self, high: u8) {
        if high != 0 && self.offset_highs.is_empty() {
            self.offset_highs = vec![0; self.keys.len()];
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        let offset_highs =
            if self.offset_highs.is_empty() { Vec::new() } else { self.offset_highs.split_off(at) };
        let upper = Self {
            keys: self.keys.split_off(at),
            offsets: self.offsets.split_off(at),
            sizes: self.sizes.split_off(at),
            offset_highs,
        };
        self.keys.shrink_to(BLOCK_LEN / 2);
        self.offsets.shrink_to(BLOCK_LEN / 2);
        self.sizes.shrink_to(BLOCK_LEN / 2);
        upper
    }
}

/// A size that no live needle has.
const TOMBSTONE: u32 = u32::MAX;

fn raw_size(size: RowSize) -> u32 {
    match size {
        RowSize::Live(size) => size,
        RowSize::Tombstone => TOMBSTONE,
    }
}

fn size_from_raw(raw: u32) -> RowSize {
    if raw == TOMBSTONE { RowSize::Tombstone } else { RowSize::Live(raw) }
}

fn split_offset(offset: Offset) -> (u32, u8) {
    let units = offset.as_units();
    #[expect(clippy::cast_possible_truncation, reason = "an offset has 40 bits of units")]
    let halves = (units as u32, (units >> 32) as u8);
    halves
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(units: u64, size: RowSize) -> Entry {
        Entry { offset: Offset::from_units(units), size }
    }

    fn key(key: u64) -> NeedleKey {
        NeedleKey::new(key).unwrap()
    }

    fn check(inserts: impl IntoIterator<Item = (u64, Entry)>) {
        let mut map = NeedleMap::default();
        let mut model = BTreeMap::new();
        for (k, entry) in inserts {
            assert_eq!(map.insert(key(k), entry), model.insert(k, entry), "key {k}");
        }
        assert_eq!(map.len(), model.len());
        assert_eq!(map.max_key(), model.keys().last().copied().unwrap_or(0));
        let all: Vec<_> = map.iter().map(|(k, entry)| (k.as_u64(), entry)).collect();
        assert_eq!(all, model.iter().map(|(k, entry)| (*k, *entry)).collect::<Vec<_>>());
        for k in model.keys().flat_map(|k| [k.saturating_sub(1).max(1), *k, k.saturating_add(1)]) {
            assert_eq!(map.lookup(key(k)), model.get(&k).copied(), "key {k}");
        }
    }

    #[test]
    fn rising_and_falling_keys_are_found() {
        let at = |n: u64| entry(n * 3, RowSize::Live(7));
        check((1..2000).map(|n| (n, at(n))));
        check((1..2000).rev().map(|n| (n, at(n))));
    }

    #[test]
    fn a_needle_in_order_takes_sixteen_bytes() {
        let mut map = NeedleMap::default();
        for n in 1..=256 * 100 {
            map.insert(key(n), entry(n, RowSize::Live(1)));
        }
        let bytes: usize = map
            .blocks
            .iter()
            .map(|b| b.keys.capacity() * 8 + (b.offsets.capacity() + b.sizes.capacity()) * 4)
            .sum();
        assert_eq!(bytes, 256 * 100 * 16);
    }

    proptest! {
        #[test]
        fn the_map_agrees_with_a_tree(
            inserts in proptest::collection::vec(
                (1_u64..600, 0_u64..1 << 40, proptest::option::of(0_u32..1000)),
                0..2500,
            )
        ) {
            check(inserts.into_iter().map(|(key, units, size)| {
                (key, entry(units, size.map_or(RowSize::Tombstone, RowSize::Live)))
            }));
        }
    }
}
