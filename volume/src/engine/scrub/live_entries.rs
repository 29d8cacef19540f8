//! A volume's live needles in the order of the file, a bounded number at a time.

use dulse_shared::id::NeedleKey;

use crate::{
    engine::{
        file_order::{InFile, InOrder, Picked},
        volume::Volume,
    },
    format::RowSize,
};

/// Entries of one pass at most; twice that many are in memory at times, 24 bytes each.
const MAX_ENTRIES: usize = 1 << 18;

/// A live needle, as the map says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LiveEntry {
    pub(super) offset: u64,
    pub(super) key: NeedleKey,
    pub(super) size: u32,
}

impl InFile for LiveEntry {
    fn offset(&self) -> u64 {
        self.offset
    }
}

/// The live needles from `from` on, up to `end` or as far as there is room for them; `None` if the
/// volume has another file than that of `revision` by now.
pub(super) fn live_entries(
    volume: &Volume,
    revision: u16,
    from: u64,
    end: u64,
) -> Option<InOrder<LiveEntry>> {
    let mut picked = Picked::new(from..end, MAX_ENTRIES);
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
