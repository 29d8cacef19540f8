//! The version stamp of a write.

use serde::{Deserialize, Serialize};

/// A write's version stamp: nanoseconds since 1970 in the upper 56 bits, the member slot of the
/// server that coordinated the write in the lower 8, so that two servers never stamp alike.
///
/// Stored as a record's `append_at_ns`. Of two versions of a needle the higher stamp wins.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ts(pub u64);

impl Ts {
    /// The stamp of a write at `now_ns` by the member in `slot`, above everything in `floor`: the
    /// highest stamp the server gave or saw, and the needle's own.
    pub const fn next(now_ns: u64, floor: Self, slot: u8) -> Self {
        let highest = if now_ns > floor.0 { now_ns } else { floor.0 };
        // A stamp from a foreign file may be anything: at the very top time stands still.
        let above = if highest >> 8 == u64::MAX >> 8 { highest >> 8 } else { (highest >> 8) + 1 };
        Self(above << 8 | slot as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_above_the_clock_and_the_floor_and_carries_its_slot() {
        let first = Ts::next(1_000_000, Ts(0), 3);
        assert!(first.0 > 1_000_000 && first.0 & 0xff == 3);
        let second = Ts::next(5, first, 0);
        assert!(second > first, "a clock that went back does not matter");
    }
}
