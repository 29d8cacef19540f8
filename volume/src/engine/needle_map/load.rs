//! Building a map from the many rows of an index, in the order in which they were written.
//!
//! Rows of rising keys go straight into the map. The others (keys that came late, overwrites,
//! deletes) are gathered, sorted and merged, so that each block is packed once for many of them.
//! The result, and what was replaced by what, is as if each row had been inserted by itself; only
//! the rows of different keys are told in another order.

use dulse_shared::id::NeedleKey;

use super::{
    entry::{Entry, Row},
    map::NeedleMap,
};

/// Rows are gathered up to this part of the map's length: enough that a merge pays, and memory for
/// a moment that is less than the map's own (3 bytes a needle).
const LATE_PART: usize = 8;
/// At least as many, so that a small map is not merged all the time (400 KB).
const MIN_LATE: usize = 1 << 14;

/// A map in the making.
#[derive(Debug, Default)]
pub struct Loader {
    map: NeedleMap,
    /// Rows that belong below the map's tail, in the order they came.
    late: Vec<Row>,
}

impl Loader {
    /// Sets where `key` is. `moved` hears of this key or of others, now or later: what was there
    /// before, and what is there now.
    pub fn enter(
        &mut self,
        key: NeedleKey,
        entry: Entry,
        mut moved: impl FnMut(Option<Entry>, Entry),
    ) {
        // The tail's first key only rises: once a key is late, all later rows of it are.
        if self.map.is_of_tail(key.as_u64()) {
            moved(self.map.insert(key, entry), entry);
            return;
        }
        self.late.push(Row::new(key, entry));
        if self.late.len() >= MIN_LATE.max(self.map.len() / LATE_PART) {
            self.merge_late(moved);
        }
    }

    /// The map of all rows. `moved` hears of those it did not yet hear of.
    pub fn finish(mut self, moved: impl FnMut(Option<Entry>, Entry)) -> NeedleMap {
        self.merge_late(moved);
        self.map
    }

    fn merge_late(&mut self, mut moved: impl FnMut(Option<Entry>, Entry)) {
        // Stable: rows of one key stay in the order they came.
        self.late.sort_by_key(|row| row.key);
        self.map.merge(&self.late, |before, after| moved(before.map(Row::entry), after.entry()));
        self.late.clear();
    }
}
