//! A volume's needle map in pieces, for whoever looks at all of it while writes go on.
//!
//! The map is let go between the pieces. What is written meanwhile may be seen or not, and lies
//! behind the end that the file had before.

use dulse_shared::id::NeedleKey;

use super::{needle_map::Entry, volume::Volume};

/// Entries of a piece: some hundred microseconds for which a write may have to wait.
const ENTRIES_AT_ONCE: usize = 4096;

/// Neighbouring keys of a map.
#[derive(Debug)]
pub(super) struct MapPiece {
    /// Counts the compactions so far: offsets are those of this file.
    pub(super) revision: u16,
    /// In the order of keys.
    pub(super) entries: Vec<(NeedleKey, Entry)>,
    /// Where the next piece begins; `None` behind the last.
    pub(super) next: Option<NeedleKey>,
}

impl Volume {
    /// The entries from `first` on.
    pub(super) fn map_piece(&self, first: NeedleKey) -> MapPiece {
        let snapshot = self.snapshot();
        let entries: Vec<_> = snapshot.map.iter_from(first).take(ENTRIES_AT_ONCE).collect();
        let last = entries.last().map(|(key, _)| key.as_u64());
        let next = last.and_then(|last| NeedleKey::new(last.checked_add(1)?));
        MapPiece { revision: snapshot.revision, entries, next }
    }
}
