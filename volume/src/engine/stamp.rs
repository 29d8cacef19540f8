//! The stamps of a server's writes.

use std::sync::atomic::{AtomicU64, Ordering};

use dulse_shared::{
    clock::Clock,
    id::{BatchPlace, Ts},
};

/// Gives every write of this server a stamp above all it gave or saw before, whatever its clock
/// does.
#[derive(Debug)]
pub struct StampSource {
    clock: Clock,
    last: AtomicU64,
}

impl StampSource {
    /// A source that has seen nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: AtomicU64::new(0) }
    }

    /// The clock that the stamps follow.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes note of a stamp found on disk: later ones are above it.
    pub fn saw(&self, ts: Ts) {
        self.last.fetch_max(ts.0, Ordering::Relaxed);
    }

    /// The stamp of a write by the member in `slot`, above `known` as well.
    pub fn next(&self, known: Ts, slot: u8, place: BatchPlace) -> Ts {
        let now_ns = self.clock.wall_ns();
        let mut given = Ts::default();
        // The closure never refuses, so the update always happens.
        let _ = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            given = Ts::next(now_ns, Ts(last.max(known.0)), slot, place);
            Some(given.0)
        });
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_while_the_clock_stands_still() {
        let stamps = StampSource::new(Clock::manual(1000));
        let first = stamps.next(Ts(0), 0, BatchPlace::First);
        stamps.saw(Ts(1 << 20));
        let second = stamps.next(Ts(0), 0, BatchPlace::First);
        let third = stamps.next(Ts(1 << 30), 0, BatchPlace::Later);
        assert!(first < second && second > Ts(1 << 20) && third > Ts(1 << 30));
    }
}
