//! When a layout gets more volumes, and how many.
//!
//! Several writable volumes keep several disks busy, and leave others while a large needle is
//! written to one; with more copies each volume keeps several servers busy, so fewer are needed. A
//! layout grows when nothing is writable, and ahead of need when few volumes with room are left, by
//! what was reported or by what was assigned since. The latter may come to nothing, so it makes a
//! layout no larger than some volumes.

use dulse_shared::id::{ReplicaPlacement, VolumeId};

use crate::volume_layout::{Stock, Writable};

/// A layout with fewer volumes that are not nearly full gets more before they run out.
const FEW_ROOMY: usize = 2;
/// A layout with more volumes that are not nearly full grows no further for fids that nobody has
/// used yet: twice what the first growth makes.
const ENOUGH_ROOMY: usize = 14;
/// Volumes made at a time when somebody says how many.
pub(crate) const MAX_ASKED: usize = 1_000;

/// How urgently a layout needs volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// It has enough.
    None,
    /// It will soon have too few: nobody waits.
    Soon,
    /// It has none that can be written to.
    Now,
}

/// Whether a layout with these writable volumes needs more.
pub(crate) fn need_of(stock: Stock) -> Need {
    match (stock.volumes, stock.volumes.saturating_sub(stock.crowded)) {
        (0, _) => Need::Now,
        (_, roomy) if roomy < FEW_ROOMY => Need::Soon,
        _ => Need::None,
    }
}

/// The same, counting what was assigned and is not reported yet.
pub(crate) fn expected_need_of(
    writable: &Writable,
    stock: Stock,
    expected_bytes: &dyn Fn(VolumeId) -> u64,
) -> Need {
    let roomy = stock.volumes.saturating_sub(stock.crowded);
    if need_of(stock) != Need::None || roomy > ENOUGH_ROOMY {
        return need_of(stock);
    }
    let by_then = writable.volumes().filter(|v| expected_bytes(v.id) >= v.until_crowded_bytes);
    need_of(Stock { crowded: by_then.count(), ..stock })
}

/// How many volumes are created at a time: as many as somebody asks for, if slots are left.
/// Otherwise no more than half of what the free slots suffice for, unless only one is left: other
/// collections and ttls need volumes of their own.
pub(crate) fn volumes_to_grow(
    placement: ReplicaPlacement,
    free_slots: u64,
    asked: Option<usize>,
) -> usize {
    let by_copies = match placement.copies() {
        1 => 7,
        2 => 6,
        3 => 3,
        _ => 1,
    };
    let copies = u64::try_from(placement.copies()).unwrap_or(u64::MAX);
    let possible = usize::try_from(free_slots / copies).unwrap_or(usize::MAX);
    match asked.filter(|count| *count > 0) {
        Some(count) => count.min(MAX_ASKED).min(possible).max(1),
        None => (possible / 2).clamp(1, by_copies),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::{place, server, volume},
        volume_layout::{DiskId, RoomyVolume},
    };

    const fn stock(volumes: usize, crowded: usize) -> Stock {
        Stock { volumes, crowded }
    }

    #[test]
    fn a_layout_grows_at_once_when_empty_and_ahead_when_few_have_room() {
        assert_eq!(need_of(stock(0, 0)), Need::Now);
        assert_eq!(need_of(stock(1, 0)), Need::Soon);
        assert_eq!(need_of(stock(7, 6)), Need::Soon);
        assert_eq!(need_of(stock(7, 7)), Need::Soon);
        assert_eq!(need_of(stock(7, 5)), Need::None);
        assert_eq!(need_of(stock(2, 0)), Need::None);
    }

    #[test]
    fn what_is_expected_counts_until_there_are_many_volumes() {
        let need = |volumes: u32, expected: &dyn Fn(VolumeId) -> u64| {
            let roomy = |n| RoomyVolume { id: volume(n), room_bytes: 100, until_crowded_bytes: 90 };
            let disk = DiskId { server: server(1), device: 0 };
            let writable = Writable::of((1..=volumes).map(|n| (roomy(n), disk, place(1))));
            let stock = writable.stock(&Default::default());
            expected_need_of(&writable, stock, expected)
        };
        assert_eq!(need(7, &|_| 89), Need::None);
        assert_eq!(need(7, &|_| 90), Need::Soon);
        assert_eq!(need(7, &|id| if id.as_u32() > 2 { 90 } else { 0 }), Need::None);
        assert_eq!(need(7, &|id| if id.as_u32() > 1 { 90 } else { 0 }), Need::Soon);
        assert_eq!(need(14, &|_| 90), Need::Soon);
        assert_eq!(need(15, &|_| 90), Need::None, "they may come to nothing");
    }

    fn grown(placement: &str, free_slots: u64, asked: Option<usize>) -> usize {
        volumes_to_grow(placement.parse().unwrap(), free_slots, asked)
    }

    #[test]
    fn more_copies_need_fewer_volumes() {
        assert_eq!(["000", "001", "011", "111"].map(|p| grown(p, 100, None)), [7, 6, 3, 1]);
    }

    #[test]
    fn a_layout_leaves_slots_for_others() {
        let counts = [14, 13, 8, 4, 3, 2, 1, 0].map(|free| grown("000", free, None));
        assert_eq!(counts, [7, 6, 4, 2, 1, 1, 1, 1]);
        assert_eq!(grown("001", 8, None), 2, "each takes two");
    }

    #[test]
    fn who_says_how_many_gets_as_many_if_there_are_slots() {
        let counts = [0, 1, 9, 50, 9_000].map(|asked| grown("000", 20, Some(asked)));
        assert_eq!(counts, [7, 1, 9, 20, 20]);
        assert_eq!(grown("000", 9_000, Some(9_000)), MAX_ASKED);
    }
}
