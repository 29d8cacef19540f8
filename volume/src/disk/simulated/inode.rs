//! A file of the simulated disk: what reads see, what the disk surely has, and what lies between.
//!
//! The page cache writes back when it likes, sector by sector and in any order. So what a crash
//! leaves of each sector is what some of its writes made of it, oldest first, whatever became of
//! its neighbours; and the length is one of those the file had since its last sync.

use std::{collections::BTreeSet, ops::Range};

use super::random::Random;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) cache: Vec<u8>,
    /// What survives a crash for certain.
    disk: Vec<u8>,
    /// What the disk may or may not have.
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

impl Inode {
    /// A file that holds `bytes`, durably.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { cache: bytes.clone(), disk: bytes, pending: Vec::new() }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        let change = Change::Write { offset, bytes };
        change.apply(&mut self.cache);
        self.pending.push(change);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let change = Change::Truncate { len };
        change.apply(&mut self.cache);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.disk);
        }
    }

    /// Reads come from the disk again where the cache holds nothing that is still to be written.
    pub(super) fn forget_cached(&mut self, range: Range<usize>) {
        let mut fresh = self.disk.clone();
        for change in &self.pending {
            change.apply(&mut fresh);
        }
        // The length is kept in memory as long as the file is known.
        fresh.resize(self.cache.len(), 0);
        let range = range.start..range.end.min(fresh.len());
        if let (Some(cache), Some(fresh)) = (self.cache.get_mut(range.clone()), fresh.get(range)) {
            cache.copy_from_slice(fresh);
        }
    }

    /// A sync that fails: some of what was to be written is on the disk, and the kernel takes all
    /// of it for written. The cache keeps what it held, or reads the disk again.
    pub(super) fn lose_pages(&mut self, keeps_cache: bool, random: &mut Random) {
        self.settle(random);
        if !keeps_cache {
            self.forget_cached(0..usize::MAX);
        }
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, random: &mut Random) {
        self.settle(random);
        self.cache.clone_from(&self.disk);
    }

    /// Flips a bit on the disk and in the cache.
    pub(super) fn flip(&mut self, bit: usize) {
        flip_in(&mut self.cache, bit);
        flip_in(&mut self.disk, bit);
    }

    /// Flips a bit on the disk.
    pub(super) fn flip_beneath_cache(&mut self, bit: usize) {
        flip_in(&mut self.disk, bit);
    }

    /// Some of what is pending reaches the disk, the rest never will.
    fn settle(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let mood = Mood::draw(random);
        let len = self.some_len(&pending, mood, random);
        let mut torn = self.disk.clone();
        for sector in touched_sectors(&pending, self.disk.len()) {
            let applied = mood.some_of(pending.len(), random);
            let mut bytes = sector_of(&self.disk, sector);
            for change in &pending[..applied] {
                change.apply_to_sector(sector, &mut bytes);
            }
            let start = sector * SECTOR_BYTES;
            torn.resize(torn.len().max(start + SECTOR_BYTES), 0);
            torn[start..start + SECTOR_BYTES].copy_from_slice(&bytes);
        }
        torn.resize(len, 0);
        self.disk = torn;
    }

    /// The length after some of the changes.
    fn some_len(&self, pending: &[Change], mood: Mood, random: &mut Random) -> usize {
        let mut len = self.disk.len();
        for change in &pending[..mood.some_of(pending.len(), random)] {
            len = match change {
                Change::Write { offset, bytes } => len.max(offset + bytes.len()),
                Change::Truncate { len } => *len,
            };
        }
        len
    }
}

/// How much of the pending changes survives: the extremes are as likely as what lies between.
#[derive(Clone, Copy)]
enum Mood {
    Nothing,
    Everything,
    Some,
}

impl Mood {
    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    fn some_of(self, all: usize, random: &mut Random) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => all,
            Self::Some => random.below(all + 1),
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate { len } => file.resize(*len, 0),
        }
    }

    fn apply_to_sector(&self, sector: usize, bytes_of_sector: &mut [u8; SECTOR_BYTES]) {
        let start = sector * SECTOR_BYTES;
        match self {
            Self::Write { offset, bytes } => {
                let from = start.max(*offset);
                let to = (start + SECTOR_BYTES).min(offset + bytes.len());
                if from < to {
                    bytes_of_sector[from - start..to - start]
                        .copy_from_slice(&bytes[from - offset..to - offset]);
                }
            }
            Self::Truncate { len } => {
                bytes_of_sector[len.saturating_sub(start).min(SECTOR_BYTES)..].fill(0);
            }
        }
    }
}

fn flip_in(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

/// The sectors that the changes reach into. A cut reaches into all that lay behind it.
fn touched_sectors(pending: &[Change], disk_len: usize) -> BTreeSet<usize> {
    let mut sectors = BTreeSet::new();
    for change in pending {
        let (from, to) = match change {
            Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
            Change::Truncate { len } => (*len, disk_len.max(*len)),
        };
        sectors.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
    }
    sectors
}

fn sector_of(file: &[u8], sector: usize) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    let start = (sector * SECTOR_BYTES).min(file.len());
    let held = &file[start..file.len().min(start + SECTOR_BYTES)];
    bytes[..held.len()].copy_from_slice(held);
    bytes
}
