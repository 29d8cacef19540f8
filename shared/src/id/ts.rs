//! The version stamp of a write.

use serde::{Deserialize, Serialize};

/// A write's version stamp: nanoseconds since 1970 in the upper 56 bits, the member slot of the
/// server that coordinated the write in the lower 8, so that two servers never stamp alike. The
/// lowest bit above the slot says whether the write began a batch: see [`BatchPlace`].
///
/// Stored as a record's `append_at_ns`. Of two versions of a needle the higher stamp wins.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ts(pub u64);

/// Where a write stands among those that were appended, and synced, together.
///
/// A record that begins a batch was written after everything before it was durable; one that
/// follows was written together with the record before it. So after a crash the stamps tell a batch
/// that was torn from needles that were damaged later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchPlace {
    /// The first of its batch.
    First,
    /// Any other.
    Later,
}

impl Ts {
    /// The bit that is set in the stamp of a batch's first write.
    const FIRST: u64 = 1 << 8;

    /// The stamp of a write at `now_ns` by the member in `slot`, above everything in `floor`: the
    /// highest stamp the server gave or saw, and the needle's own.
    pub const fn next(now_ns: u64, floor: Self, slot: u8, place: BatchPlace) -> Self {
        let highest = if now_ns > floor.0 { now_ns } else { floor.0 };
        // A stamp from a foreign file may be anything: at the very top time stands still.
        let above =
            if highest >> 8 >= (u64::MAX >> 8) - 1 { highest } else { highest + Self::FIRST };
        let is_first = above & Self::FIRST != 0;
        let wants_first = matches!(place, BatchPlace::First);
        let above = if is_first == wants_first { above } else { above.saturating_add(Self::FIRST) };
        Self(above >> 8 << 8 | slot as u64)
    }

    /// Where its write stood in its batch.
    pub const fn place(self) -> BatchPlace {
        if self.0 & Self::FIRST == 0 { BatchPlace::Later } else { BatchPlace::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_above_the_clock_and_the_floor_and_carries_its_slot() {
        let first = Ts::next(1_000_000, Ts(0), 3, BatchPlace::First);
        assert!(first.0 > 1_000_000 && first.0 & 0xff == 3);
        let second = Ts::next(5, first, 0, BatchPlace::First);
        assert!(second > first, "a clock that went back does not matter");
    }

    #[test]
    fn a_stamp_says_whether_it_began_a_batch() {
        let mut last = Ts(0);
        for place in [BatchPlace::First, BatchPlace::Later, BatchPlace::Later, BatchPlace::First] {
            let next = Ts::next(1_000_000, last, 7, place);
            assert!(next > last && next.place() == place && next.0 & 0xff == 7);
            assert!(next.0 <= last.0.max(1_000_000) + (2 << 8) + 0xff, "not far above");
            last = next;
        }
        let top = Ts::next(u64::MAX, Ts(u64::MAX), 0, BatchPlace::Later);
        assert!(top >= Ts(u64::MAX >> 9 << 9), "at the top nothing wraps");
    }
}
