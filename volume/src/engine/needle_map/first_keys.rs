//! The lowest keys of neighbouring parts (blocks or leaves), and which part a key belongs into.
//!
//! The slope of the keys is kept beside them, so that a search does not divide.

use std::ops::RangeInclusive;

use super::search::{self, Slope};

/// Sorted keys.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstKeys {
    keys: Vec<u64>,
    slope: Slope,
}

impl FirstKeys {
    /// All of them.
    pub(super) fn as_slice(&self) -> &[u64] {
        &self.keys
    }

    /// The number of the last key that is at most `key`; 0 if there is none.
    #[inline]
    pub(super) fn part_of(&self, key: u64) -> usize {
        let Some(first) = self.keys.first() else {
            return 0;
        };
        let at = |index: usize| self.keys[index] - first;
        search::last_at_most(key.saturating_sub(*first), self.keys.len(), self.slope, at)
    }

    /// Adds a key above all others.
    pub(super) fn push(&mut self, key: u64) {
        self.keys.push(key);
        self.set_slope();
    }

    /// Puts a key before that of number `index`.
    pub(super) fn insert(&mut self, index: usize, key: u64) {
        self.keys.insert(index, key);
        self.set_slope();
    }

    /// Puts keys in the place of others.
    pub(super) fn replace(
        &mut self,
        replaced: RangeInclusive<usize>,
        keys: impl Iterator<Item = u64>,
    ) {
        self.keys.splice(replaced, keys);
        self.set_slope();
    }

    /// Gives away the keys from number `middle` on, and the room that they took.
    pub(super) fn split_off(&mut self, middle: usize) -> Self {
        let mut upper = Self { keys: self.keys.split_off(middle), slope: Slope::default() };
        self.keys.shrink_to_fit();
        self.set_slope();
        upper.set_slope();
        upper
    }

    fn set_slope(&mut self) {
        if let (Some(first), Some(last)) = (self.keys.first(), self.keys.last()) {
            self.slope = Slope::new(self.keys.len() - 1, last - first);
        }
    }
}
