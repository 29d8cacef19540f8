//! Stamps in records of other programs, which no sum covers.
//!
//! The server's stamps rise above every stamp it meets, and ttls run from them. So one that a flipped
//! bit or another clock put far into the future would be passed on to everything that is written
//! from then on. Such a stamp raises nothing; it still tells the version that it belongs to. What is
//! written over such a needle may then have a lower stamp: within a file the later record wins.

use std::sync::atomic::{AtomicBool, Ordering};

use dulse_shared::id::{Ts, VolumeId};

/// How far clocks may differ: more than clocks that somebody looks after do, and little enough for
/// a needle to live that much too long.
const MAX_AHEAD_NS: u64 = 3600 * 1_000_000_000;

/// Whether the stamp of a record is one to rise above at `now_ns`.
pub(super) fn counts(ts: Ts, is_own: bool, now_ns: u64) -> bool {
    is_own || ts.0 <= now_ns.saturating_add(MAX_AHEAD_NS)
}

/// What a volume's log says of stamps that do not count: once, however many there are.
#[derive(Debug, Default)]
pub(super) struct ForeignStamps {
    is_told: AtomicBool,
}

impl ForeignStamps {
    /// `count` more of them were met.
    pub(super) fn ignored(&self, volume: VolumeId, count: u64) {
        if count > 0 && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%volume, count, "stamps of records that another program wrote lie more than an hour ahead of this server's clock: they are not believed, the records are");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stamps_of_others_that_are_far_ahead_do_not_count() {
        let now_ns = 1_795_305_600_000_000_000;
        let ahead = |secs: u64| Ts(now_ns + secs * 1_000_000_000);
        assert!(counts(Ts(0), false, now_ns) && counts(ahead(3600), false, now_ns));
        assert!(!counts(ahead(3601), false, now_ns) && !counts(Ts(u64::MAX), false, now_ns));
        assert!(counts(ahead(3601), true, now_ns), "ours are covered by a sum");
        assert!(counts(Ts(u64::MAX), false, u64::MAX), "nothing wraps");
    }
}
