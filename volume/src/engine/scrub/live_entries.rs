//! A volume's live needles in the order of the file, a bounded number at a time.
//!
//! The map is in the order of keys, and a volume may have more needles than a second list of them
//! has room for. So each pass over it picks those that come next in the file, while writes go on. What
//! is written meanwhile lies behind the end of what is asked for, so that an entry below it can vanish
//! during a pass but not appear.

use dulse_shared::id::NeedleKey;

use crate::{engine::volume::Volume, format::RowSize};

/// Entries of one pass at most; twice that many are in memory at times, 24 bytes each.
const MAX_ENTRIES: usize = 1 << 18;

/// A live needle, as the map says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LiveEntry {
    pub(super) offset: u64,
    pub(super) key: NeedleKey,
    pub(super) size: u32,
}

/// The live needles of a stretch of the file.
#[derive(Debug)]
pub(super) struct LiveEntries {
    /// By offset.
    pub(super) entries: Vec<LiveEntry>,
    /// Where the stretch ends: all entries before are listed.
    pub(super) end: u64,
}

/// The live needles from `from` on, up to `end` or as far as there is room for them; `None` if the
/// volume has another file than that of `revision` by now.
pub(super) fn live_entries(
    volume: &Volume,
    revision: u16,
    from: u64,
    end: u64,
) -> Option<LiveEntries> {
    let mut picked = Picked::new(from, end, MAX_ENTRIES);
    let mut next = NeedleKey::new(1);
    while let Some(first) = next {
        let piece = volume.map_piece(first);
        if piece.revision != revision {
            return None;
        }
        for (key, entry) in piece.entries {
            if let RowSize::Live(size) = entry.size {
                picked.push(LiveEntry { offset: entry.offset.as_bytes(), key, size });
            }
        }
        next = piece.next;
    }
    Some(picked.finish())
}

/// The first entries of a stretch, whatever the order in which they come.
struct Picked {
    entries: Vec<LiveEntry>,
    from: u64,
    end: u64,
    limit: usize,
}

impl Picked {
    fn new(from: u64, end: u64, limit: usize) -> Self {
        Self { entries: Vec::new(), from, end, limit }
    }

    fn push(&mut self, entry: LiveEntry) {
        if (self.from..self.end).contains(&entry.offset) {
            self.entries.push(entry);
            if self.entries.len() >= 2 * self.limit {
                self.shorten();
            }
        }
    }

    /// Keeps those that come first, and everything at the offset of the last of them.
    fn shorten(&mut self) {
        if self.entries.len() > self.limit {
            let (_, last, _) =
                self.entries.select_nth_unstable_by_key(self.limit - 1, |entry| entry.offset);
            self.end = last.offset + 1;
            let end = self.end;
            self.entries.retain(|entry| entry.offset < end);
        }
    }

    fn finish(mut self) -> LiveEntries {
        self.shorten();
        self.entries.sort_unstable_by_key(|entry| entry.offset);
        LiveEntries { entries: self.entries, end: self.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_of_bounded_length_list_every_entry_once() {
        let entry = |n: u64| LiveEntry {
            // Out of order, as keys and offsets are after overwrites.
            offset: 8 + n * 7919 % 1000 * 8,
            key: NeedleKey::new(n + 1).unwrap(),
            size: 1,
        };
        let end = 8 + 1000 * 8;
        let (mut from, mut offsets, mut passes) = (8, Vec::new(), 0);
        while from < end {
            let mut picked = Picked::new(from, end, 64);
            (0..1000).for_each(|n| picked.push(entry(n)));
            let found = picked.finish();
            assert!(found.entries.len() <= 64);
            offsets.extend(found.entries.iter().map(|entry| entry.offset));
            (from, passes) = (found.end, passes + 1);
        }
        assert_eq!(offsets, (0..1000).map(|n| 8 + n * 8).collect::<Vec<_>>());
        assert_eq!(passes, 16);
    }
}
