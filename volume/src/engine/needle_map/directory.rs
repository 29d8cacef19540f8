//! The packed blocks in key order, in leaves of up to 256 blocks.
//!
//! Two levels of sorted first keys, each in an array of its own: a search walks two small arrays,
//! and a block that becomes two moves one leaf's blocks, not those of the volume. Blocks do not
//! overlap; neither a block nor a leaf is empty.

use super::{
    block::{BLOCK_LEN, Block},
    entry::Row,
    first_keys::FirstKeys,
};

/// Blocks of a leaf at most. Ten million needles then have some 200 leaves.
pub(super) const LEAF_LEN: usize = 256;

/// The packed blocks of a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// The lowest key of each leaf.
    pub(super) first_keys: FirstKeys,
    pub(super) leaves: Vec<Leaf>,
}

/// Neighbouring blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    /// The lowest key of each block.
    pub(super) first_keys: FirstKeys,
    pub(super) blocks: Vec<Block>,
}

/// Which block of which leaf; void after the directory changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    leaf: usize,
    block: usize,
    /// The block's lowest key.
    pub(super) first_key: u64,
    /// The lowest key that belongs into the next block; `None` at the last.
    pub(super) end_key: Option<u64>,
}

impl Directory {
    /// Whether there is no block.
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The row of `key`.
    pub(super) fn lookup(&self, key: u64) -> Option<Row> {
        let place = self.place_of(key).filter(|place| place.first_key <= key)?;
        let block = self.block(place);
        let index = block.position(place.first_key, place.end_key, key).ok()?;
        Some(block.row(place.first_key, index))
    }

    /// The block that holds `key` or would; `None` while there is no block.
    pub(super) fn place_of(&self, key: u64) -> Option<Place> {
        let leaf = self.first_keys.part_of(key);
        let first_keys = &self.leaves.get(leaf)?.first_keys;
        let block = first_keys.part_of(key);
        let (blocks, leaves) = (first_keys.as_slice(), self.first_keys.as_slice());
        let next = blocks.get(block + 1).or_else(|| leaves.get(leaf + 1));
        Some(Place { leaf, block, first_key: blocks[block], end_key: next.copied() })
    }

    /// The block at `place`.
    pub(super) fn block(&self, place: Place) -> &Block {
        &self.leaves[place.leaf].blocks[place.block]
    }

    /// The same, to replace entries in it.
    pub(super) fn block_mut(&mut self, place: Place) -> &mut Block {
        &mut self.leaves[place.leaf].blocks[place.block]
    }

    /// Adds a block of rows whose keys are above all others.
    pub(super) fn push(&mut self, rows: &[Row]) {
        let Some(first) = rows.first() else {
            return;
        };
        if self.leaves.last().is_none_or(|leaf| leaf.blocks.len() == LEAF_LEN) {
            self.first_keys.push(first.key);
            self.leaves.push(Leaf::default());
        }
        if let Some(leaf) = self.leaves.last_mut() {
            leaf.first_keys.push(first.key);
            leaf.blocks.push(Block::pack(rows));
        }
    }

    /// Puts `rows` in the place of a block: in one block if they fit, else in several of about
    /// equal length.
    pub(super) fn replace(&mut self, place: Place, rows: &[Row]) {
        let leaf = &mut self.leaves[place.leaf];
        let count = rows.len().div_ceil(BLOCK_LEN).max(1);
        let pieces = || rows.chunks(rows.len().div_ceil(count).max(1));
        let replaced = place.block..=place.block;
        leaf.blocks.splice(replaced.clone(), pieces().map(Block::pack));
        leaf.first_keys.replace(replaced, pieces().map(|piece| piece[0].key));
        self.first_keys.replace(place.leaf..=place.leaf, std::iter::once(leaf.first_key()));
        if leaf.blocks.len() > LEAF_LEN {
            let upper = leaf.split();
            self.first_keys.insert(place.leaf + 1, upper.first_key());
            self.leaves.insert(place.leaf + 1, upper);
        }
    }

    /// The rows in key order, but for blocks that lie before that of `key`.
    pub(super) fn rows_from(&self, key: u64) -> impl Iterator<Item = Row> + '_ {
        let (leaf, block) = self.place_of(key).map_or((0, 0), |place| (place.leaf, place.block));
        let (first, others) = match self.leaves.get(leaf..).unwrap_or_default() {
            [first, others @ ..] => (Some(first), others),
            [] => (None, &[][..]),
        };
        let first = first.into_iter().flat_map(move |leaf| leaf.rows_from(block));
        first.chain(others.iter().flat_map(Leaf::rows))
    }

    /// All rows in key order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.leaves.iter().flat_map(Leaf::rows)
    }
}

impl Leaf {
    /// The lowest key; 0 if there is none.
    pub(super) fn first_key(&self) -> u64 {
        self.first_keys.as_slice().first().copied().unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows_from(0)
    }

    fn rows_from(&self, block: usize) -> impl Iterator<Item = Row> + '_ {
        let blocks = self.first_keys.as_slice().iter().zip(&self.blocks).skip(block);
        blocks.flat_map(|(first_key, block)| block.rows(*first_key))
    }

    /// Gives away the upper half, and the room that it took.
    fn split(&mut self) -> Self {
        let middle = self.blocks.len() / 2;
        let upper = Self {
            first_keys: self.first_keys.split_off(middle),
            blocks: self.blocks.split_off(middle),
        };
        self.blocks.shrink_to_fit();
        upper
    }
}
