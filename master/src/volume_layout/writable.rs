//! The volumes that assign picks from, and whose turn it is.
//!
//! Writes to one volume share a sync, writes to two cost a sync each, and two syncs of one disk wait
//! for each other. So all that a layout assigns within a [`Turn`] on one disk goes to one volume
//! there, and the volumes take turns: they fill evenly, and a large upload, which takes longer than a
//! turn to arrive, is seldom written to the volume that small ones go to at that moment. Disks are
//! picked at random, each as often as its share of the writable volumes. A disk is a file system: two
//! data directories on one count as one.

use std::{collections::HashMap, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::{ServerId, VolumeId},
};
use rand::{Rng, RngExt};

/// How long a disk's volume has its turn: many times what it takes to use a fid, and short beside
/// the upload of a large needle.
const TURN: Duration = Duration::from_millis(20);

/// A number that goes up by one each [`TURN`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn(pub(crate) usize);

/// A disk of the cluster: a server and one of its file systems.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct DiskId {
    /// Whose.
    pub(crate) server: ServerId,
    /// As its reports number it.
    pub(crate) device: u64,
}

/// The writable volumes of a layout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Writable {
    ids: Vec<VolumeId>,
    /// For each of `ids`, its disk's place in `on_disk`.
    disk_of: Vec<usize>,
    on_disk: Vec<Vec<VolumeId>>,
    known_disks: HashMap<DiskId, usize>,
}

impl Turn {
    /// Whose turn it is at `now`.
    pub(crate) fn at(now: BootTime) -> Self {
        let turns = now.since(BootTime::default()).as_millis() / TURN.as_millis();
        // It fits for as long as machines run; any other number would do as well.
        Self(usize::try_from(turns).unwrap_or_default())
    }
}

impl Writable {
    /// Adds a volume that lies on `disk`; of several copies, where the first of its members has it.
    pub(crate) fn push(&mut self, id: VolumeId, disk: DiskId) {
        let new = self.on_disk.len();
        let disk = *self.known_disks.entry(disk).or_insert(new);
        if disk == new {
            self.on_disk.push(Vec::new());
        }
        self.on_disk[disk].push(id);
        self.disk_of.push(disk);
        self.ids.push(id);
    }

    /// All of them.
    pub(crate) fn ids(&self) -> &[VolumeId] {
        &self.ids
    }

    /// The volume of a random disk that has its turn; if that is one of `avoid`, another one, of the
    /// same disk if possible. In constant time, unless many are avoided.
    pub(crate) fn pick(
        &self,
        avoid: &[VolumeId],
        Turn(turn): Turn,
        rng: &mut impl Rng,
    ) -> Option<VolumeId> {
        if self.ids.is_empty() {
            return None;
        }
        let start = rng.random_range(0..self.ids.len());
        let beside = &self.on_disk[self.disk_of[start]];
        // Those of the disk first; that they come again among all the others does no harm.
        let in_turn = around(beside, turn % beside.len());
        in_turn.chain(around(&self.ids, start)).find(|id| !avoid.contains(id))
    }
}

/// All of them, from the one at `start` on.
fn around(ids: &[VolumeId], start: usize) -> impl Iterator<Item = VolumeId> {
    let (before, from) = ids.split_at(start);
    from.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::testing::{server, volume};

    /// Volumes 1 to 6 on two disks of one server, 7 to 9 on one of another.
    fn three_disks() -> Writable {
        let mut writable = Writable::default();
        for n in 1..=9 {
            let (of, device) = if n > 6 { (2, 0) } else { (1, u64::from(n % 2)) };
            writable.push(volume(n), DiskId { server: server(of), device });
        }
        writable
    }

    fn picked(writable: &Writable, avoid: &[VolumeId], turn: usize) -> HashSet<VolumeId> {
        let mut rng = SmallRng::seed_from_u64(1);
        (0..200).filter_map(|_| writable.pick(avoid, Turn(turn), &mut rng)).collect()
    }

    #[test]
    fn a_turn_picks_one_volume_of_each_disk_and_all_have_theirs() {
        let writable = three_disks();
        let volumes = |ns: [u32; 3]| HashSet::from(ns.map(volume));
        assert_eq!(picked(&writable, &[], 0), volumes([1, 2, 7]));
        assert_eq!(picked(&writable, &[], 4), volumes([3, 4, 8]));
        let all: HashSet<_> = (0..3).flat_map(|turn| picked(&writable, &[], turn)).collect();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn disks_are_picked_as_often_as_they_have_volumes() {
        let mut writable = Writable::default();
        for n in 1..=10 {
            writable.push(volume(n), DiskId { server: server(1), device: u64::from(n == 10) });
        }
        let mut rng = SmallRng::seed_from_u64(1);
        let picks = (0..2000).filter_map(|_| writable.pick(&[], Turn(3), &mut rng));
        let on_small = picks.filter(|id| *id == volume(10)).count();
        assert!((120..280).contains(&on_small), "{on_small} of 2000, where 200 are due");
    }

    #[test]
    fn a_volume_that_refuses_leaves_its_turn_to_another_of_its_disk() {
        let writable = three_disks();
        let avoid = [volume(1), volume(2)];
        let expected = HashSet::from([3, 4, 7].map(volume));
        assert_eq!(picked(&writable, &avoid, 0), expected);
        let avoid: Vec<_> = (1..=8).map(volume).collect();
        assert_eq!(picked(&writable, &avoid, 5), HashSet::from([volume(9)]), "other disks too");
        let avoid: Vec<_> = (1..=9).map(volume).collect();
        assert!(picked(&writable, &avoid, 5).is_empty());
        assert!(picked(&Writable::default(), &[], 5).is_empty());
    }

    #[test]
    fn turns_follow_each_other() {
        let at = |ms| Turn::at(BootTime::default().plus(Duration::from_millis(ms)));
        assert_eq!((at(0), at(19), at(20), at(50)), (Turn(0), Turn(0), Turn(1), Turn(2)));
    }
}
