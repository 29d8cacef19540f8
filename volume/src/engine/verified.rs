//! Which large needles were verified as a whole lately.
//!
//! One checksum covers all of a needle's data, so that a part of it cannot be verified alone. The
//! first range of a large needle costs a read of the whole; the next ones, shortly after, do not.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dulse_shared::clock::BootTime;

/// Needles remembered for one volume at a time: players and downloaders read few at once.
const MAX_REMEMBERED: usize = 256;
/// How long a verification counts.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Where a record lies: in which of a volume's files, and at which offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file's compaction revision.
    pub revision: u16,
    /// Byte position of the record.
    pub offset: u64,
}

/// Records that were verified, oldest first.
#[derive(Debug, Default)]
pub struct VerifiedLately {
    records: Mutex<VecDeque<(Place, BootTime)>>,
}

impl VerifiedLately {
    /// Takes note that the record at `place` verified at `now`.
    pub fn note(&self, place: Place, now: BootTime) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == MAX_REMEMBERED {
            records.pop_front();
        }
        records.push_back((place, now));
    }

    /// Whether the record at `place` was verified not long before `now`.
    pub fn contains(&self, place: Place, now: BootTime) -> bool {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        while records.front().is_some_and(|(_, at)| now.since(*at) >= REMEMBERED_FOR) {
            records.pop_front();
        }
        records.iter().any(|(known, _)| *known == place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_counts_for_a_minute_and_few_are_kept() {
        let verified = VerifiedLately::default();
        let at = |offset| Place { revision: 0, offset };
        let start = BootTime::default();
        verified.note(at(8), start);
        assert!(verified.contains(at(8), start.plus(Duration::from_secs(59))));
        assert!(!verified.contains(Place { revision: 1, offset: 8 }, start), "another file");
        assert!(!verified.contains(at(8), start.plus(Duration::from_secs(60))));
        for offset in 0..=MAX_REMEMBERED as u64 {
            verified.note(at(offset), start);
        }
        assert!(!verified.contains(at(0), start) && verified.contains(at(1), start));
    }
}
