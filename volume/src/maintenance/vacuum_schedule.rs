//! Which volume is compacted next: pure.

use std::time::Duration;

use dulse_shared::{clock::BootTime, id::VolumeId};

/// The part that is garbage before a volume is compacted, unless somebody says otherwise.
const DEFAULT_THRESHOLD: f64 = 0.3;
/// A volume with less garbage is left alone, however small it is: little is gained.
const MIN_GARBAGE_BYTES: u64 = 4 << 20;
/// A volume rests this long after a vacuum, whether it went well or not: young tombstones stay and
/// count as garbage, and what stood in the way is mostly still there a moment later.
pub(super) const REST: Duration = Duration::from_secs(15 * 60);

/// Vacuums that nobody asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RoutineVacuum {
    /// The part of a volume file, above 0 and below 1, that is garbage before it is compacted; none
    /// compacts only what is asked for.
    pub garbage_threshold: Option<f64>,
}

impl RoutineVacuum {
    /// The threshold of what is asked for without one.
    pub(super) fn threshold(self) -> f64 {
        self.garbage_threshold.unwrap_or(DEFAULT_THRESHOLD)
    }
}

/// A volume as the schedule sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) volume: VolumeId,
    pub(super) size_bytes: u64,
    pub(super) garbage_bytes: u64,
    /// When its last vacuum of this run of the server ended.
    pub(super) vacuumed_at: Option<BootTime>,
}

impl Candidate {
    /// Whether more of it than `threshold` is garbage.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn is_above(&self, threshold: f64) -> bool {
        self.garbage_bytes > 0
            && self.garbage_bytes as f64 > threshold * self.size_bytes.max(1) as f64
    }

    fn is_due(&self, threshold: f64, now: BootTime) -> bool {
        let has_rested = self.vacuumed_at.is_none_or(|at| now.since(at) >= REST);
        has_rested && self.garbage_bytes >= MIN_GARBAGE_BYTES && self.is_above(threshold)
    }
}

/// The volume with the most garbage among those that are due at `now`.
pub(super) fn due(
    candidates: &[Candidate],
    routine: RoutineVacuum,
    now: BootTime,
) -> Option<VolumeId> {
    let threshold = routine.garbage_threshold?;
    let due = candidates.iter().filter(|candidate| candidate.is_due(threshold, now));
    due.max_by_key(|candidate| candidate.garbage_bytes).map(|candidate| candidate.volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn due_of(volumes: &[(u32, u64, u64, Option<u64>)], threshold: Option<f64>) -> Option<u32> {
        let at = |secs| BootTime::default().plus(Duration::from_secs(secs));
        let candidates: Vec<_> = volumes
            .iter()
            .map(|(volume, size, garbage, vacuumed)| Candidate {
                volume: VolumeId::new(*volume).unwrap(),
                size_bytes: size * MB,
                garbage_bytes: garbage * MB,
                vacuumed_at: vacuumed.map(at),
            })
            .collect();
        let routine = RoutineVacuum { garbage_threshold: threshold };
        due(&candidates, routine, at(10_000)).map(VolumeId::as_u32)
    }

    #[test]
    fn the_one_with_the_most_garbage_above_the_threshold_is_due() {
        let volumes = [(1, 100, 31, None), (2, 1000, 301, None), (3, 10_000, 3000, None)];
        assert_eq!(due_of(&volumes, Some(0.3)), Some(2));
        assert_eq!(due_of(&volumes, Some(0.29)), Some(3));
        assert_eq!(due_of(&volumes, Some(0.5)), None);
        assert_eq!(due_of(&volumes, None), None);
    }

    #[test]
    fn little_garbage_and_what_was_just_compacted_is_left_alone() {
        assert_eq!(due_of(&[(1, 4, 3, None)], Some(0.3)), None);
        assert_eq!(due_of(&[(1, 5, 4, None)], Some(0.3)), Some(1));
        assert_eq!(due_of(&[(1, 9, 9, Some(9_101))], Some(0.3)), None);
        assert_eq!(due_of(&[(1, 9, 9, Some(9_100))], Some(0.3)), Some(1));
    }
}
