//! A record as the protocol sees it: whose, when, how long; never its bytes.

use dulse_shared::{
    id::{Cookie, Digest, NeedleKey, Ts},
    wire::{Unresolved, WriteId},
};

use crate::format::Offset;

/// Length of a record in units of 8 bytes, padding included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Units(pub u32);

impl Units {
    const fn as_bytes(self) -> u64 {
        (self.0 as u64) * 8
    }
}

/// Whether a record stores a needle or deletes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// It stores one.
    Needle,
    /// It deletes one.
    Tombstone,
}

/// One record of a volume file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Of which needle.
    pub key: NeedleKey,
    /// The write's stamp.
    pub ts: Ts,
    /// The needle's cookie; a tombstone has it too.
    pub cookie: Cookie,
    /// What it does.
    pub kind: Kind,
    /// Its length.
    pub len: Units,
    /// A hash of header, metadata and data; with the stamp it makes the needle's part of the
    /// digest.
    pub content: u128,
}

impl Record {
    /// The write it belongs to.
    pub const fn id(&self) -> WriteId {
        WriteId { key: self.key, ts: self.ts }
    }

    /// Whether it deletes.
    pub const fn is_tombstone(&self) -> bool {
        matches!(self.kind, Kind::Tombstone)
    }

    /// What it adds to the digest when it is the newest of its key.
    pub const fn part(&self) -> Digest {
        match self.kind {
            Kind::Tombstone => Digest::EMPTY,
            Kind::Needle => Digest {
                live_needles: 1,
                live_bytes: self.len.as_bytes(),
                sum: mixed(self.content, self.ts),
            },
        }
    }

    pub(super) const fn unresolved(&self) -> Unresolved {
        Unresolved { id: self.id(), is_tombstone: self.is_tombstone(), part: self.part() }
    }
}

/// The hash of a needle and its stamp, from a hash of the needle: each half is mixed with the
/// stamp on its own, so that equal needles with other stamps, or stamps that changed places, do
/// not add up to the same sum.
const fn mixed(content: u128, ts: Ts) -> u128 {
    let high = avalanche((content >> 64) as u64 ^ avalanche(ts.0));
    let low = avalanche(content as u64 ^ avalanche(ts.0 ^ 0x9e37_79b9_7f4a_7c15));
    (high as u128) << 64 | low as u128
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection in which each bit of the
/// input moves half of the output's.
const fn avalanche(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A record and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placed {
    /// The record.
    pub record: Record,
    /// Where it starts.
    pub at: Offset,
}

impl Placed {
    /// Where the next one starts.
    pub const fn end(&self) -> Offset {
        self.at.after(self.record.len.0)
    }
}

/// The committed versions: in the program the needle map, the index file and the counters.
///
/// A lookup cannot fail: an implementation that reads the record for its stamp and cookie reads it
/// before the step, and turns away by itself a write whose key it cannot read.
pub trait Versions {
    /// The newest committed version of a key, tombstones included.
    fn newest(&self, key: NeedleKey) -> Option<Record>;

    /// Makes a record, which is durable, the newest of its key.
    fn publish(&mut self, placed: &Placed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_that_change_places_change_the_digest() {
        let needle = |content, ts| {
            let key = NeedleKey::new(1).unwrap();
            let (cookie, len) = (Cookie(1), Units(5));
            Record { key, ts: Ts(ts), cookie, kind: Kind::Needle, len, content }.part()
        };
        assert_ne!(needle(7, 1).plus(needle(8, 2)), needle(7, 2).plus(needle(8, 1)));
        assert_ne!(needle(7, 1), needle(7, 2));
        assert_eq!(needle(7, 1).live_bytes, 40);
    }
}
