//! The ids of volumes that were deleted: never used again, so the set only grows.
//!
//! Kept as ranges that neither overlap nor touch, written as `[[first, last], …]`: between two
//! deleted volumes with an id in between lies one that exists or never did, so there are about as
//! many ranges as volumes at most, however many were deleted.

use std::collections::BTreeMap;

use dulse_shared::id::VolumeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of volume ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeletedIds {
    /// The last id of each range by its first.
    ranges: BTreeMap<u32, u32>,
}

impl DeletedIds {
    /// Whether nothing was deleted yet.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a volume of this id was deleted.
    pub fn contains(&self, id: VolumeId) -> bool {
        let id = id.as_u32();
        self.ranges.range(..=id).next_back().is_some_and(|(_, last)| *last >= id)
    }

    /// Adds an id.
    pub(super) fn insert(&mut self, id: VolumeId) {
        self.insert_range(id.as_u32(), id.as_u32());
    }

    /// Adds a range, joined with those that it overlaps or touches.
    fn insert_range(&mut self, mut first: u32, mut last: u32) {
        let up_to = last.saturating_add(1);
        while let Some((near_first, near_last)) = self.last_range_from(up_to)
            && near_last.saturating_add(1) >= first
        {
            self.ranges.remove(&near_first);
            (first, last) = (first.min(near_first), last.max(near_last));
        }
        self.ranges.insert(first, last);
    }

    /// The last of the ranges that begin at or before `id`.
    fn last_range_from(&self, id: u32) -> Option<(u32, u32)> {
        self.ranges.range(..=id).next_back().map(|(first, last)| (*first, *last))
    }
}

impl Serialize for DeletedIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.ranges)
    }
}

impl<'de> Deserialize<'de> for DeletedIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ids = Self::default();
        for (first, last) in Vec::<(u32, u32)>::deserialize(deserializer)? {
            if first == 0 || first > last {
                let text = format!("{first} to {last} is no range of volume ids");
                return Err(serde::de::Error::custom(text));
            }
            ids.insert_range(first, last);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn id(id: u32) -> VolumeId {
        VolumeId::new(id).unwrap()
    }

    fn text(ids: &DeletedIds) -> String {
        serde_json::to_string(ids).unwrap()
    }

    #[test]
    fn ids_in_sequence_are_one_range_in_whatever_order_they_come() {
        let mut ids = DeletedIds::default();
        for (added, ranges) in [
            (5, "[[5,5]]"),
            (7, "[[5,5],[7,7]]"),
            (6, "[[5,7]]"),
            (6, "[[5,7]]"),
            (u32::MAX, "[[5,7],[4294967295,4294967295]]"),
            (u32::MAX - 1, "[[5,7],[4294967294,4294967295]]"),
            (1, "[[1,1],[5,7],[4294967294,4294967295]]"),
        ] {
            ids.insert(id(added));
            assert_eq!(text(&ids), ranges, "after {added}");
        }
        assert!(ids.contains(id(6)) && !ids.contains(id(4)) && !ids.contains(id(8)));
        assert_eq!(serde_json::from_str::<DeletedIds>(&text(&ids)).unwrap(), ids);
    }

    #[test]
    fn it_is_the_set_of_what_was_added_and_its_ranges_never_touch() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..200 {
            let (mut ids, mut reference) = (DeletedIds::default(), BTreeSet::new());
            for _ in 0..40 {
                let added = rng.random_range(1..60);
                ids.insert(id(added));
                reference.insert(added);
            }
            let found = (1..70).filter(|n| ids.contains(id(*n))).collect::<BTreeSet<u32>>();
            assert_eq!(found, reference);
            let ranges: Vec<(u32, u32)> = ids.ranges.clone().into_iter().collect();
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        }
    }

    #[test]
    fn ranges_that_overlap_are_read_and_what_is_no_range_is_not() {
        let read = |text| serde_json::from_str::<DeletedIds>(text);
        assert_eq!(text(&read("[[4,9],[1,3],[8,12]]").unwrap()), "[[1,12]]");
        for bad in ["[[0,3]]", "[[5,4]]", "[[1]]", "[1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
