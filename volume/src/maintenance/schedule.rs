//! Which volume is scrubbed next, and when: pure.
//!
//! Every volume is read again within the interval. All of a disk take some time at the given rate,
//! so a volume is due that much before its interval is over: whichever order they come due in, the
//! last one is not late.

use std::{num::NonZeroU64, time::Duration};

use dulse_shared::id::VolumeId;

/// Scrubs that nobody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoutineScrub {
    /// Within this time every volume is read again; none scrubs only what is asked for.
    pub interval: Option<Duration>,
    /// Bytes read in a second, at most, from each disk.
    pub bytes_per_sec: NonZeroU64,
    /// After a start, nothing routine is done for this long.
    pub quiet_after_start: Duration,
}

/// A volume as the schedule sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) volume: VolumeId,
    /// When its last scrub was complete, in seconds since 1970; 0 if none ever was.
    pub(super) completed_at_secs: u64,
    pub(super) size_bytes: u64,
}

/// The volume whose scrub is due at `now_secs`, and longest so.
pub(super) fn due(
    candidates: &[Candidate],
    routine: &RoutineScrub,
    now_secs: u64,
) -> Option<VolumeId> {
    let interval_secs = routine.interval?.as_secs();
    let all_bytes: u64 = candidates.iter().map(|candidate| candidate.size_bytes).sum();
    let all_secs = all_bytes / routine.bytes_per_sec;
    let age_secs = interval_secs.saturating_sub(all_secs);
    let oldest = candidates.iter().min_by_key(|candidate| candidate.completed_at_secs)?;
    let due_at_secs = oldest.completed_at_secs.saturating_add(age_secs);
    // A clock that was set back must not put it off for good.
    let is_from_the_future = oldest.completed_at_secs > now_secs;
    let is_due = oldest.completed_at_secs == 0 || due_at_secs <= now_secs || is_from_the_future;
    is_due.then_some(oldest.volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const NOW: u64 = 20_000 * DAY;

    fn due_of(volumes: &[(u32, u64, u64)], days: Option<u64>) -> Option<u32> {
        let candidate = |(volume, completed_at_secs, size_bytes): &(u32, u64, u64)| Candidate {
            volume: VolumeId::new(*volume).unwrap(),
            completed_at_secs: *completed_at_secs,
            size_bytes: *size_bytes,
        };
        let candidates: Vec<_> = volumes.iter().map(candidate).collect();
        let routine = RoutineScrub {
            interval: days.map(|days| Duration::from_secs(days * DAY)),
            bytes_per_sec: NonZeroU64::new(1000).unwrap(),
            quiet_after_start: Duration::ZERO,
        };
        due(&candidates, &routine, NOW).map(VolumeId::as_u32)
    }

    #[test]
    fn the_oldest_is_due_once_its_interval_is_over_and_one_that_never_was_at_once() {
        let (young, old) = ((1, NOW - DAY, 8), (2, NOW - 14 * DAY, 8));
        assert_eq!(due_of(&[young, old], Some(14)), Some(2));
        assert_eq!(due_of(&[young, old], Some(15)), None);
        assert_eq!(due_of(&[young, old, (3, 0, 8)], Some(15)), Some(3));
        assert_eq!(due_of(&[young, old, (3, 0, 8)], None), None);
        assert_eq!(due_of(&[], Some(1)), None);
    }

    #[test]
    fn it_begins_early_enough_for_the_last_to_be_in_time() {
        // Ten days of reading: the first is due four days after it was complete.
        let half = 5 * DAY * 1000;
        let volumes = |age: u64| [(1, NOW - age, half), (2, NOW - age + 1, half)];
        assert_eq!(due_of(&volumes(4 * DAY), Some(14)), Some(1));
        assert_eq!(due_of(&volumes(4 * DAY - 1), Some(14)), None);
        // More than the interval has room for: one after the other, without a pause.
        let much = [(1, NOW - 1, 20 * half), (2, NOW - 2, half)];
        assert_eq!(due_of(&much, Some(14)), Some(2));
    }

    #[test]
    fn a_time_that_lies_ahead_counts_for_nothing() {
        assert_eq!(due_of(&[(1, NOW + DAY, 8)], Some(14)), Some(1));
    }
}
