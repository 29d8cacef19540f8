//! How many needles and bytes of a volume live.

use dulse_shared::id::Ts;

use super::needle_map::Entry;
use crate::format::{RowSize, Version, record_len};

/// Counts over a volume's committed records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Needles that can be read.
    pub live_needles: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Needles that were overwritten or deleted.
    pub garbage_needles: u64,
    /// The highest stamp.
    pub max_ts: Ts,
    /// Seconds since 1970 of the last write; 0 if there was none.
    pub modified_at_secs: u64,
}

impl Counters {
    /// Takes note that a key went from `before` to `after`.
    pub fn moved(&mut self, before: Option<Entry>, after: Entry, version: Version) {
        if let Some(Entry { size: RowSize::Live(size), .. }) = before {
            self.live_needles = self.live_needles.saturating_sub(1);
            self.live_bytes = self.live_bytes.saturating_sub(record_len(size, version));
            self.garbage_needles += 1;
        }
        if let RowSize::Live(size) = after.size {
            self.live_needles += 1;
            self.live_bytes += record_len(size, version);
        }
    }

    /// Takes note of a write's stamp.
    pub fn stamped(&mut self, ts: Ts) {
        self.max_ts = self.max_ts.max(ts);
        self.modified_at_secs = self.modified_at_secs.max(ts.0 / 1_000_000_000);
    }
}
