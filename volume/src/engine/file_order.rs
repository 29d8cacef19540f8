//! Entries of a needle map in the order of the file, a bounded number at a time.
//!
//! The map is in the order of keys, and a volume may have more needles than a second list of them
//! has room for. So each pass over it picks those that come next in the file, while writes go on. What
//! is written meanwhile lies behind the end of what is asked for, so that an entry below it can vanish
//! during a pass but not appear. Passing over the map is left to the caller.

use std::ops::Range;

/// Something that lies at a place in the file.
pub(super) trait InFile {
    /// The place, in bytes.
    fn offset(&self) -> u64;
}

/// What lies in a stretch of the file.
#[derive(Debug)]
pub(super) struct InOrder<E> {
    /// By offset.
    pub(super) entries: Vec<E>,
    /// Where the stretch ends: all entries before are listed.
    pub(super) end: u64,
}

/// The first entries of a stretch, whatever the order in which they come.
pub(super) struct Picked<E> {
    entries: Vec<E>,
    from: u64,
    end: u64,
    limit: usize,
}

impl<E: InFile> Picked<E> {
    /// Nothing yet of `stretch`, and later its first `limit` entries; twice that many are in memory
    /// at times.
    pub(super) fn new(stretch: Range<u64>, limit: usize) -> Self {
        Self { entries: Vec::new(), from: stretch.start, end: stretch.end, limit }
    }

    pub(super) fn push(&mut self, entry: E) {
        if (self.from..self.end).contains(&entry.offset()) {
            self.entries.push(entry);
            if self.entries.len() >= 2 * self.limit {
                self.shorten();
            }
        }
    }

    /// Keeps those that come first, and everything at the offset of the last of them.
    fn shorten(&mut self) {
        if self.entries.len() > self.limit {
            let (_, last, _) = self.entries.select_nth_unstable_by_key(self.limit - 1, E::offset);
            self.end = last.offset() + 1;
            let end = self.end;
            self.entries.retain(|entry| entry.offset() < end);
        }
    }

    pub(super) fn finish(mut self) -> InOrder<E> {
        self.shorten();
        self.entries.sort_unstable_by_key(E::offset);
        InOrder { entries: self.entries, end: self.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl InFile for u64 {
        fn offset(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn passes_of_bounded_length_list_every_entry_once() {
        // Out of order, as keys and offsets are after overwrites.
        let entry = |n: u64| 8 + n * 7919 % 1000 * 8;
        let end = 8 + 1000 * 8;
        let (mut from, mut offsets, mut passes) = (8, Vec::new(), 0);
        while from < end {
            let mut picked = Picked::new(from..end, 64);
            (0..1000).for_each(|n| picked.push(entry(n)));
            let found = picked.finish();
            assert!(found.entries.len() <= 64);
            offsets.extend(found.entries);
            (from, passes) = (found.end, passes + 1);
        }
        assert_eq!(offsets, (0..1000).map(|n| 8 + n * 8).collect::<Vec<_>>());
        assert_eq!(passes, 16);
    }
}
