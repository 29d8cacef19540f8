//! Whether a map is what its parts take it for; for tests and measuring programs.

use super::{
    block::BLOCK_LEN,
    directory::{Directory, LEAF_LEN, Leaf},
    map::{NeedleMap, TAIL_LEN},
};

/// An invariant that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// Keys are not strictly rising, within a block or from one part to the next.
    #[error("key {0:x} does not come after the one before it")]
    Order(u64),
    /// A search for a key of the map does not find its entry.
    #[error("key {0:x} is not found where it is")]
    Search(u64),
    /// A block or leaf is empty or longer than it may be.
    #[error("the part that begins with key {0:x} has {1} members")]
    Size(u64, usize),
    /// An array of first keys does not list the parts.
    #[error("the parts from key {0:x} on are listed otherwise")]
    Listing(u64),
    /// The map does not have as many keys as it says.
    #[error("the map says it has {says} keys and has {has}")]
    Len {
        /// What it says.
        says: usize,
        /// What it has.
        has: usize,
    },
}

impl NeedleMap {
    /// Verifies the map's invariants; takes about a tenth of a microsecond a key.
    pub fn check(&self) -> Result<(), Broken> {
        self.packed.check()?;
        let first = self.tail.first().map_or(0, |row| row.key);
        if self.tail.len() >= TAIL_LEN || (self.tail.is_empty() && self.len > 0) {
            return Err(Broken::Size(first, self.tail.len()));
        }
        let (mut last, mut has) = (0, 0);
        for (key, entry) in self.iter() {
            // No key is 0, so this holds for the first one too.
            if key.as_u64() <= last {
                return Err(Broken::Order(key.as_u64()));
            }
            if self.lookup(key) != Some(entry) {
                return Err(Broken::Search(key.as_u64()));
            }
            last = key.as_u64();
            has += 1;
        }
        if has == self.len { Ok(()) } else { Err(Broken::Len { says: self.len, has }) }
    }
}

impl Directory {
    fn check(&self) -> Result<(), Broken> {
        let listed = self.first_keys.as_slice();
        if !listed.iter().copied().eq(self.leaves.iter().map(Leaf::first_key)) {
            return Err(Broken::Listing(listed.first().copied().unwrap_or(0)));
        }
        self.leaves.iter().try_for_each(Leaf::check)
    }
}

impl Leaf {
    fn check(&self) -> Result<(), Broken> {
        let listed = self.first_keys.as_slice();
        check_size(self.first_key(), self.blocks.len(), LEAF_LEN)?;
        if listed.len() != self.blocks.len() {
            return Err(Broken::Listing(self.first_key()));
        }
        let mut blocks = listed.iter().zip(&self.blocks);
        blocks.try_for_each(|(first_key, block)| check_size(*first_key, block.len(), BLOCK_LEN))
    }
}

fn check_size(first_key: u64, len: usize, max: usize) -> Result<(), Broken> {
    if (1..=max).contains(&len) { Ok(()) } else { Err(Broken::Size(first_key, len)) }
}
