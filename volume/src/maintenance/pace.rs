//! How fast background work reads: a number of bytes a second, never in bursts.

use std::{num::NonZeroU64, time::Duration};

use dulse_shared::clock::BootTime;

/// When the next bytes may be read.
#[derive(Debug)]
pub(super) struct Pacer {
    bytes_per_sec: NonZeroU64,
    next_at: Option<BootTime>,
}

impl Pacer {
    pub(super) fn new(bytes_per_sec: NonZeroU64) -> Self {
        Self { bytes_per_sec, next_at: None }
    }

    /// How long to wait at `now` before `bytes` are read. What was slow before is not made good.
    pub(super) fn wait(&mut self, bytes: u64, now: BootTime) -> Duration {
        let start = self.next_at.map_or(now, |next_at| next_at.max(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_sec.get());
        let length = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next_at = Some(start.plus(length));
        start.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_evenly_and_what_was_slow_is_not_made_good() {
        let mut pacer = Pacer::new(NonZeroU64::new(1000).unwrap());
        let start = BootTime::default();
        let secs = Duration::from_secs;
        assert_eq!(pacer.wait(2000, start), Duration::ZERO);
        assert_eq!(pacer.wait(2000, start), secs(2));
        assert_eq!(pacer.wait(500, start.plus(secs(3))), secs(1));
        let late = start.plus(secs(100));
        assert_eq!(pacer.wait(1000, late), Duration::ZERO);
        assert_eq!(pacer.wait(1000, late), secs(1));
    }
}
