//! Bytes that were assigned and that no volume server has reported yet.
//!
//! A heartbeat tells twice a second how large a volume is; a burst of assigns in between could
//! overfill it. So each fid is counted with the size that needles of its layout have, and forgotten
//! by halves, because it is either in the reported size soon or is not used at all. What is
//! expected steers assign and lets a layout grow sooner; it never makes a volume read-only.
//!
//! Volumes whose ids are equal modulo [`SLOTS`] share a counter. Those of one layout that gets many
//! assigns have ids in sequence, and of more than [`SLOTS`] volumes none gets many.

use std::sync::atomic::{AtomicU64, Ordering};

use dulse_shared::{clock::BootTime, id::VolumeId};

/// Counters; a power of two.
const SLOTS: usize = 4_096;
/// What is expected halves so often: a heartbeat comes twice within.
const HALF_LIFE_MILLIS: u64 = 1_000;
/// A counter keeps the time of its last change in its upper bits…
const TIME_SHIFT: u32 = 44;
/// …and bytes in the lower ones, up to 16 TiB.
const BYTES_MASK: u64 = (1 << TIME_SHIFT) - 1;

/// What is expected of each volume.
pub(crate) struct ExpectedBytes {
    slots: Box<[AtomicU64]>,
}

impl Default for ExpectedBytes {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl ExpectedBytes {
    /// Counts what was assigned in a volume.
    pub(crate) fn add(&self, volume: VolumeId, bytes: u64, now: BootTime) {
        let period = period_of(now);
        let added = |counter: u64| {
            let sum = bytes_at(counter, period).saturating_add(bytes).min(BYTES_MASK);
            Some(period << TIME_SHIFT | sum)
        };
        // It always succeeds: `added` always gives a value.
        let _ = self.slot(volume).fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    /// What is still expected of a volume.
    pub(crate) fn of(&self, volume: VolumeId, now: BootTime) -> u64 {
        bytes_at(self.slot(volume).load(Ordering::Relaxed), period_of(now))
    }

    fn slot(&self, volume: VolumeId) -> &AtomicU64 {
        let index = usize::try_from(volume.as_u32()).unwrap_or_default() % SLOTS;
        &self.slots[index]
    }
}

/// The half-life that `now` lies in, cut to the bits that a counter has for it.
fn period_of(now: BootTime) -> u64 {
    let millis = now.since(BootTime::default()).as_millis();
    let periods = u64::try_from(millis).unwrap_or(u64::MAX) / HALF_LIFE_MILLIS;
    periods & (u64::MAX >> TIME_SHIFT)
}

/// What a counter amounts to in a later period.
fn bytes_at(counter: u64, period: u64) -> u64 {
    let passed = period.wrapping_sub(counter >> TIME_SHIFT) & (u64::MAX >> TIME_SHIFT);
    (counter & BYTES_MASK).checked_shr(u32::try_from(passed).unwrap_or(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::volume;

    fn at(millis: u64) -> BootTime {
        BootTime::default().plus(Duration::from_millis(millis))
    }

    #[test]
    fn what_was_assigned_is_counted_and_forgotten_by_halves() {
        let expected = ExpectedBytes::default();
        expected.add(volume(7), 600, at(10_000));
        expected.add(volume(7), 400, at(10_900));
        assert_eq!(expected.of(volume(7), at(10_999)), 1000);
        assert_eq!(expected.of(volume(7), at(11_000)), 500);
        expected.add(volume(7), 100, at(12_000));
        assert_eq!(expected.of(volume(7), at(12_000)), 350);
        assert_eq!(expected.of(volume(7), at(30_000)), 0);
        assert_eq!(expected.of(volume(7), at(500_000)), 0);
        assert_eq!(expected.of(volume(8), at(10_000)), 0, "another volume's is its own");
    }

    #[test]
    fn more_than_a_counter_holds_stays_at_its_limit() {
        let expected = ExpectedBytes::default();
        for _ in 0..3 {
            expected.add(volume(1), u64::MAX, at(5_000));
        }
        assert_eq!(expected.of(volume(1), at(5_000)), BYTES_MASK);
        assert_eq!(expected.of(volume(1), at(6_000)), BYTES_MASK >> 1);
    }
}
