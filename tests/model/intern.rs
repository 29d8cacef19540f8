//! Values as small numbers: a world of the model then is a few words, quickly copied and hashed.

use std::{collections::HashMap, hash::BuildHasherDefault, hash::Hash, hash::Hasher};

/// Multiplies and folds: fast, and good enough for tables of hundreds of thousands.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fold(u64);

/// Mixes a word into a state; the halves of the product are folded, so that high bits count too.
pub(crate) fn fold(state: u64, word: u64) -> u64 {
    let product =
        u128::from(state ^ word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xa076_1d64_78bd_642f_u64);
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        fold(self.0, 0x1234_5678)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = fold(self.0, u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, word: u8) {
        self.0 = fold(self.0, u64::from(word));
    }
    fn write_u16(&mut self, word: u16) {
        self.0 = fold(self.0, u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.0 = fold(self.0, u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0, word);
    }
    fn write_usize(&mut self, word: usize) {
        self.0 = fold(self.0, word as u64);
    }
}

/// A map with that hash.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// Every different value once, numbered in the order of their coming.
pub(crate) struct Interner<T> {
    values: Vec<T>,
    numbers: FastMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: FastMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap();
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    pub(crate) fn value(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}
