//! The map of a volume: packed blocks below, the highest keys as plain rows above.
//!
//! Keys mostly come in nearly rising order. They go into the *tail*, sorted rows that are not
//! packed; once it is full its lower half becomes a block, so that a key that comes a little late
//! still finds its neighbours unpacked. Any other new key packs one block anew. Every key of the
//! tail is above every packed one. Deleted keys stay, as tombstones, until the volume is compacted.

use dulse_shared::id::NeedleKey;

use super::{
    block::BLOCK_LEN,
    directory::{Directory, Place},
    entry::{Entry, Row},
};

/// Rows of the tail at most: two blocks' worth.
pub(super) const TAIL_LEN: usize = 2 * BLOCK_LEN;

/// Rows that are merged into a block at once: the result is at most two blocks.
const MERGE_LEN: usize = BLOCK_LEN;

/// The sorted map of a volume's needles.
#[derive(Clone, Debug, Default)]
pub struct NeedleMap {
    pub(super) packed: Directory,
    /// The highest keys, in order; empty only while the map is.
    pub(super) tail: Vec<Row>,
    pub(super) len: usize,
    /// Rows on their way from one block to the next, kept for its room.
    merged: Vec<Row>,
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
        self.tail.last().map_or(0, |row| row.key)
    }

    /// The highest key below `bound`; 0 if there is none. Slow where there are keys from there on.
    pub fn max_key_below(&self, bound: u64) -> u64 {
        if self.max_key() < bound {
            return self.max_key();
        }
        let rows = self.packed.rows().chain(self.tail.iter().copied());
        rows.take_while(|row| row.key < bound).last().map_or(0, |row| row.key)
    }

    /// Where `key` is; a tombstone says that it was deleted.
    pub fn lookup(&self, key: NeedleKey) -> Option<Entry> {
        let key = key.as_u64();
        let row = if self.is_of_tail(key) {
            self.tail_position(key).ok().map(|index| self.tail[index])
        } else {
            self.packed.lookup(key)
        };
        row.map(Row::entry)
    }

    /// Sets where `key` is; what was there before.
    pub fn insert(&mut self, key: NeedleKey, entry: Entry) -> Option<Entry> {
        let row = Row::new(key, entry);
        let before = match self.packed.place_of(row.key) {
            Some(place) if !self.is_of_tail(row.key) => self.insert_packed(place, row),
            _ => self.insert_tail(row),
        };
        before.map(Row::entry)
    }

    /// All entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = (NeedleKey, Entry)> + '_ {
        let rows = self.packed.rows().chain(self.tail.iter().copied());
        rows.filter_map(|row| Some((NeedleKey::new(row.key)?, row.entry())))
    }

    /// The entries from `key` on, in key order.
    pub fn iter_from(&self, key: NeedleKey) -> impl Iterator<Item = (NeedleKey, Entry)> + '_ {
        let first = key.as_u64();
        let rows = self.packed.rows_from(first).chain(self.tail.iter().copied());
        let rows = rows.skip_while(move |row| row.key < first);
        rows.filter_map(|row| Some((NeedleKey::new(row.key)?, row.entry())))
    }

    /// Whether `key` belongs into the tail, which has no upper end.
    pub(super) fn is_of_tail(&self, key: u64) -> bool {
        self.packed.is_empty() || self.tail.first().is_none_or(|first| key >= first.key)
    }

    /// Sets rows that belong below the tail, in order of keys; of equal keys the later wins.
    /// `replaced` hears of each.
    pub(super) fn merge(&mut self, rows: &[Row], mut replaced: impl FnMut(Option<Row>, Row)) {
        let mut left = rows;
        while let Some(first) = left.first()
            && let Some(place) = self.packed.place_of(first.key)
        {
            let ends_before = |row: &Row| place.end_key.is_none_or(|end| row.key < end);
            let count = left.iter().take(MERGE_LEN).take_while(|row| ends_before(row)).count();
            let (run, rest) = left.split_at(count);
            self.merge_run(place, run, &mut replaced);
            left = rest;
        }
    }

    fn merge_run(
        &mut self,
        place: Place,
        run: &[Row],
        replaced: &mut impl FnMut(Option<Row>, Row),
    ) {
        self.merged.clear();
        let block = self.packed.block(place);
        block.merge(place.first_key, run, &mut self.merged, replaced);
        self.len += self.merged.len() - block.len();
        self.packed.replace(place, &self.merged);
    }

    fn insert_packed(&mut self, place: Place, row: Row) -> Option<Row> {
        let block = self.packed.block_mut(place);
        let first_key = place.first_key;
        if row.key >= first_key {
            match block.position(first_key, place.end_key, row.key) {
                Ok(index) => {
                    let before = block.row(first_key, index);
                    if block.replace(first_key, index, row) {
                        return Some(before);
                    }
                }
                Err(index) if block.insert(first_key, index, row) => {
                    self.len += 1;
                    return None;
                }
                Err(_) => {}
            }
        }
        let mut before = None;
        self.merge_run(place, &[row], &mut |replaced, _| before = replaced);
        before
    }

    fn insert_tail(&mut self, row: Row) -> Option<Row> {
        match self.tail_position(row.key) {
            Ok(index) => return Some(std::mem::replace(&mut self.tail[index], row)),
            Err(index) => self.tail.insert(index, row),
        }
        self.len += 1;
        if self.tail.len() == TAIL_LEN {
            self.packed.push(&self.tail[..BLOCK_LEN]);
            self.tail.drain(..BLOCK_LEN);
        }
        None
    }

    fn tail_position(&self, key: u64) -> Result<usize, usize> {
        match self.tail.last() {
            Some(last) if key <= last.key => self.tail.binary_search_by_key(&key, |row| row.key),
            _ => Err(self.tail.len()),
        }
    }
}
