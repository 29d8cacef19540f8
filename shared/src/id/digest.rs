//! What two replicas of a volume compare to learn whether they hold the same live needles.
//!
//! A sum over the needles, so that the order in which they were written does not matter and each
//! write changes it in constant time. Taking away what was added gives the digest from before.

use serde::{Deserialize, Serialize};

/// The digest of a set of live needles. Tombstones and records without outcome are not in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Digest {
    /// How many.
    pub live_needles: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// The sum of their hashes, modulo 2¹²⁸.
    pub sum: u128,
}

impl Digest {
    /// Of no needles.
    pub const EMPTY: Self = Self { live_needles: 0, live_bytes: 0, sum: 0 };

    /// The digest with those of `part` as well.
    #[must_use]
    pub const fn plus(self, part: Self) -> Self {
        Self {
            live_needles: self.live_needles.wrapping_add(part.live_needles),
            live_bytes: self.live_bytes.wrapping_add(part.live_bytes),
            sum: self.sum.wrapping_add(part.sum),
        }
    }

    /// The digest without those of `part`.
    #[must_use]
    pub const fn minus(self, part: Self) -> Self {
        Self {
            live_needles: self.live_needles.wrapping_sub(part.live_needles),
            live_bytes: self.live_bytes.wrapping_sub(part.live_bytes),
            sum: self.sum.wrapping_sub(part.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_what_was_added_can_be_taken_away() {
        let a = Digest { live_needles: 1, live_bytes: 40, sum: u128::MAX };
        let b = Digest { live_needles: 1, live_bytes: 64, sum: 9 };
        assert_eq!(a.plus(b), b.plus(a));
        assert_eq!(a.plus(b).minus(a), b);
        assert_eq!(a.minus(a), Digest::EMPTY);
    }
}
