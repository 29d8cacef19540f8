//! The volumes that assign picks from, and whose turn it is.
//!
//! Writes to one volume share a sync, writes to two cost a sync each, and two syncs of one disk wait
//! for each other. So all that a layout assigns within a [`Turn`] on one disk goes to one volume
//! there, and the volumes take turns, each as often as its share of the room left on the disk: they
//! become full together. A large upload, which takes longer than a turn to arrive, is seldom written
//! to the volume that small ones go to at that moment. Disks are picked at random, by their share of
//! the room left. A disk is a file system: two data directories on one count as one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::{ServerId, VolumeId},
};
use rand::{Rng, RngExt};

use super::Place;
use crate::placement::LocationWish;

/// How long a disk's volume has its turn: many times what it takes to use a fid, and short beside
/// the upload of a large needle.
const TURN: Duration = Duration::from_millis(20);
/// Volumes looked at for one that is not expected to be full by now. If all of so many are, a burst
/// is under way that the layout grows for, and the next heartbeats tell what is so.
const MAX_LOOKED_AT: usize = 16;
/// 2⁶⁴ divided by the golden ratio. Multiples of it, modulo 2⁶⁴, lie evenly however many there are.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Room is weighed in units of so many bytes, so that sums of it never overflow.
const WEIGHT_UNIT: u64 = 1 << 10;

/// A number that goes up by one each [`TURN`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn(pub(crate) u64);

/// A disk of the cluster: a server and one of its file systems.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct DiskId {
    /// Whose.
    pub(crate) server: ServerId,
    /// As its reports number it.
    pub(crate) device: u64,
}

/// A volume that takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomyVolume {
    /// Which.
    pub(crate) id: VolumeId,
    /// Bytes that still fit.
    pub(crate) room_bytes: u64,
    /// Bytes until it counts as nearly full; 0 if it does.
    pub(crate) until_crowded_bytes: u64,
}

/// The writable volumes of a layout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Writable {
    /// Sorted as they were added.
    ids: Vec<VolumeId>,
    disks: Vec<Disk>,
    /// For each disk, its weight and that of those before it.
    weight_up_to: Vec<u64>,
    stock: Stock,
}

/// The writable volumes of one disk.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Disk {
    /// Where it is.
    place: Arc<Place>,
    volumes: Vec<RoomyVolume>,
    /// For each volume, its weight and that of those before it.
    weight_up_to: Vec<u64>,
    /// How many are nearly full.
    crowded: usize,
}

/// How many volumes there are to pick from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stock {
    /// All.
    pub(crate) volumes: usize,
    /// Those that are nearly full.
    pub(crate) crowded: usize,
}

/// What is wanted of a pick, beside the layout.
pub(crate) struct Wanted<'a> {
    /// Volumes that just refused a write.
    pub(crate) avoid: &'a [VolumeId],
    /// Where the first copy is to be.
    pub(crate) wish: &'a LocationWish,
    /// Whose turn it is.
    pub(crate) turn: Turn,
    /// What was assigned in a volume and is not in its size yet.
    pub(crate) expected_bytes: &'a dyn Fn(VolumeId) -> u64,
}

impl Turn {
    /// Whose turn it is at `now`.
    pub(crate) fn at(now: BootTime) -> Self {
        let turns = now.since(BootTime::default()).as_millis() / TURN.as_millis();
        // It fits for as long as machines run; any other number would do as well.
        Self(u64::try_from(turns).unwrap_or_default())
    }
}

impl Writable {
    /// Those of `volumes`, each with its disk and where that is; of several copies, where the first
    /// of its members has it.
    pub(crate) fn of(volumes: impl IntoIterator<Item = (RoomyVolume, DiskId, Arc<Place>)>) -> Self {
        let mut writable = Self::default();
        let mut known_disks = HashMap::new();
        for (volume, disk, place) in volumes {
            let new = writable.disks.len();
            let index = *known_disks.entry(disk).or_insert(new);
            if index == new {
                writable.disks.push(Disk::at(place));
            }
            if let Some(disk) = writable.disks.get_mut(index) {
                disk.push(volume);
            }
            writable.ids.push(volume.id);
        }
        writable.weight_up_to = running_sums(writable.disks.iter().map(Disk::weight));
        writable.stock = sum_of_stocks(writable.disks.iter());
        writable
    }

    /// All of them.
    pub(crate) fn ids(&self) -> &[VolumeId] {
        &self.ids
    }

    /// All of them, disk by disk.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &RoomyVolume> {
        self.disks.iter().flat_map(|disk| &disk.volumes)
    }

    /// How many have their first copy as wished; counted beforehand if any place will do.
    pub(crate) fn stock(&self, wish: &LocationWish) -> Stock {
        match wish.is_none() {
            true => self.stock,
            false => sum_of_stocks(self.disks.iter().filter(|disk| disk.is_at(wish))),
        }
    }

    /// The volume of a random disk that has its turn, and where its first copy is. If that one is to
    /// be avoided, or may be full by now, another one, of the same disk if possible. In logarithmic
    /// time if any place will do.
    pub(crate) fn pick(
        &self,
        wanted: &Wanted<'_>,
        rng: &mut impl Rng,
    ) -> Option<(RoomyVolume, &Arc<Place>)> {
        if wanted.wish.is_none() {
            let start = draw(&self.weight_up_to, rng)?;
            let (before, from) = self.disks.split_at_checked(start)?;
            return pick_among(from.iter().chain(before), wanted);
        }
        let there: Vec<&Disk> = self.disks.iter().filter(|d| d.is_at(wanted.wish)).collect();
        let start = draw(&running_sums(there.iter().map(|disk| disk.weight())), rng)?;
        let (before, from) = there.split_at_checked(start)?;
        pick_among(from.iter().chain(before).copied(), wanted)
    }
}

impl Disk {
    const fn at(place: Arc<Place>) -> Self {
        Self { place, volumes: Vec::new(), weight_up_to: Vec::new(), crowded: 0 }
    }

    fn push(&mut self, volume: RoomyVolume) {
        let weight = volume.room_bytes / WEIGHT_UNIT + 1;
        self.weight_up_to.push(self.weight() + weight);
        self.crowded += usize::from(volume.until_crowded_bytes == 0);
        self.volumes.push(volume);
    }

    /// That of all its volumes.
    fn weight(&self) -> u64 {
        self.weight_up_to.last().copied().unwrap_or(0)
    }

    fn is_at(&self, wish: &LocationWish) -> bool {
        let Place { data_center, rack, url, .. } = &*self.place;
        wish.is_fulfilled_by(data_center, rack, url)
    }

    /// All volumes, from the one that has its turn on.
    fn in_turn(&self, Turn(turn): Turn) -> impl Iterator<Item = &RoomyVolume> {
        let (before, from) = self.volumes.split_at(at_share(&self.weight_up_to, spread(turn)));
        from.iter().chain(before)
    }
}

fn sum_of_stocks<'a>(disks: impl Iterator<Item = &'a Disk>) -> Stock {
    disks.fold(Stock::default(), |sum, disk| Stock {
        volumes: sum.volumes + disk.volumes.len(),
        crowded: sum.crowded + disk.crowded,
    })
}

/// The first volume that will do, in the order of the disks.
fn pick_among<'a>(
    disks: impl Iterator<Item = &'a Disk>,
    wanted: &Wanted<'_>,
) -> Option<(RoomyVolume, &'a Arc<Place>)> {
    let of_disk =
        |disk: &'a Disk| disk.in_turn(wanted.turn).map(move |volume| (*volume, &disk.place));
    let is_wanted = |(volume, _): &(RoomyVolume, _)| !wanted.avoid.contains(&volume.id);
    let mut first = None;
    for picked in disks.flat_map(of_disk).filter(is_wanted).take(MAX_LOOKED_AT) {
        if (wanted.expected_bytes)(picked.0.id) < picked.0.room_bytes {
            return Some(picked);
        }
        first = first.or(Some(picked));
    }
    first
}

/// A place in sums of weights, each as often as its weight.
fn draw(weight_up_to: &[u64], rng: &mut impl Rng) -> Option<usize> {
    let total = weight_up_to.last()?;
    let drawn = rng.random_range(0..(*total).max(1));
    Some(weight_up_to.partition_point(|sum| *sum <= drawn))
}

/// The place in sums of weights at a share of the whole, given in 2⁻⁶⁴.
fn at_share(weight_up_to: &[u64], share: u64) -> usize {
    let total = weight_up_to.last().copied().unwrap_or(0);
    let at = (u128::from(total) * u128::from(share)) >> 64;
    weight_up_to.partition_point(|sum| u128::from(*sum) <= at)
}

/// Shares of successive turns, evenly spread.
const fn spread(turn: u64) -> u64 {
    turn.wrapping_mul(GOLDEN)
}

fn running_sums(weights: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sum = 0_u64;
    let sums = weights.map(|weight| {
        sum = sum.saturating_add(weight);
        sum
    });
    sums.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::testing::{place, server, volume};

    /// Volumes, each with its room, its server and its disk there.
    fn writable(volumes: &[(u32, u64, u128, u64)]) -> Writable {
        Writable::of(volumes.iter().map(|(n, room_bytes, of, device)| {
            let (id, room_bytes) = (volume(*n), *room_bytes);
            let volume = RoomyVolume { id, room_bytes, until_crowded_bytes: room_bytes };
            (volume, DiskId { server: server(*of), device: *device }, place(*of))
        }))
    }

    /// Volumes 1 to 6 on two disks of one server, 7 to 9 on one of another, all with as much room.
    fn three_disks() -> Writable {
        let volumes =
            (1..=9).map(|n| if n > 6 { (n, GB, 2, 0) } else { (n, GB, 1, u64::from(n % 2)) });
        writable(&volumes.collect::<Vec<_>>())
    }

    const GB: u64 = 1 << 30;

    fn picks(
        writable: &Writable,
        avoid: &[VolumeId],
        wish: &LocationWish,
        turns: std::ops::Range<u64>,
        expected_bytes: &dyn Fn(VolumeId) -> u64,
    ) -> BTreeMap<VolumeId, usize> {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut picked = BTreeMap::new();
        for turn in turns {
            for _ in 0..100 {
                let wanted = Wanted { avoid, wish, turn: Turn(turn), expected_bytes };
                if let Some((volume, _)) = writable.pick(&wanted, &mut rng) {
                    *picked.entry(volume.id).or_default() += 1;
                }
            }
        }
        picked
    }

    fn picked(writable: &Writable, avoid: &[VolumeId], turn: u64) -> HashSet<VolumeId> {
        let anywhere = LocationWish::default();
        picks(writable, avoid, &anywhere, turn..turn + 1, &|_| 0).into_keys().collect()
    }

    #[test]
    fn a_turn_picks_one_volume_of_each_disk_and_all_have_theirs() {
        let writable = three_disks();
        for turn in 0..50 {
            let volumes = picked(&writable, &[], turn);
            assert_eq!(volumes.len(), 3, "one of each disk in turn {turn}");
            assert!(volumes.iter().any(|id| id.as_u32() > 6), "turn {turn}");
        }
        let all: HashSet<_> = (0..6).flat_map(|turn| picked(&writable, &[], turn)).collect();
        assert_eq!(all.len(), 9, "soon");
    }

    #[test]
    fn volumes_and_disks_are_picked_by_their_share_of_the_room_left() {
        // 12 parts of room: 1 and 3 on one disk, 2 and 6 on another.
        let rooms = [(1, GB, 1, 0), (2, 3 * GB, 1, 0), (3, 2 * GB, 1, 1), (4, 6 * GB, 2, 0)];
        let anywhere = LocationWish::default();
        let picks = picks(&writable(&rooms), &[], &anywhere, 0..1200, &|_| 0);
        for (n, due) in [(1, 10_000), (2, 30_000), (3, 20_000), (4, 60_000)] {
            let count = picks[&volume(n)];
            assert!(count.abs_diff(due) < due / 20, "volume {n}: {count}, where {due} are due");
        }
    }

    #[test]
    fn a_volume_that_refuses_leaves_its_turn_to_another_of_its_disk() {
        let writable = three_disks();
        let all: Vec<VolumeId> = (1..=9).map(volume).collect();
        for turn in 0..20 {
            let in_turn: Vec<VolumeId> = picked(&writable, &[], turn).into_iter().collect();
            let instead = picked(&writable, &in_turn, turn);
            assert_eq!(instead.len(), 3, "one of each disk");
            assert!(instead.iter().all(|id| !in_turn.contains(id)));
            let left = picked(&writable, &all[..8], turn);
            assert_eq!(left, HashSet::from([volume(9)]), "other disks too");
            assert!(picked(&writable, &all, turn).is_empty());
        }
        assert!(picked(&Writable::default(), &[], 5).is_empty());
    }

    #[test]
    fn a_volume_that_is_expected_to_be_full_is_passed_over_unless_all_are() {
        let writable = three_disks();
        let anywhere = LocationWish::default();
        let but_three = |id: VolumeId| if id == volume(3) { GB - 1 } else { GB };
        let all = |_| GB;
        let picked = |expected| picks(&writable, &[], &anywhere, 0..20, expected);
        assert_eq!(picked(&but_three).into_keys().collect::<Vec<_>>(), [volume(3)]);
        assert_eq!(picked(&all).values().sum::<usize>(), 2000, "never nothing");
    }

    #[test]
    fn a_wish_picks_only_what_is_there() {
        let writable = three_disks();
        let there = |n: u128| LocationWish {
            data_node: Some(place(n).url.clone()),
            ..LocationWish::default()
        };
        let picks = |n| picks(&writable, &[], &there(n), 0..50, &|_| 0);
        assert!(picks(2).into_keys().eq((7..=9).map(volume)));
        assert!(picks(1).into_keys().eq((1..=6).map(volume)));
        assert!(picks(3).is_empty());
        assert_eq!(writable.stock(&there(2)), Stock { volumes: 3, crowded: 0 });
        assert_eq!(writable.stock(&LocationWish::default()).volumes, 9);
    }

    #[test]
    fn turns_follow_each_other() {
        let at = |ms| Turn::at(BootTime::default().plus(Duration::from_millis(ms)));
        assert_eq!((at(0), at(19), at(20), at(50)), (Turn(0), Turn(0), Turn(1), Turn(2)));
    }
}
