//! When a layout gets more volumes, and how many.
//!
//! Several writable volumes keep several disks busy, and leave others while a large needle is
//! written to one; with more copies each volume keeps several servers busy, so fewer are needed. A
//! layout grows when nothing is writable, and ahead of need when few volumes with room are left.

use dulse_shared::id::ReplicaPlacement;

use crate::volume_layout::VolumeLayout;

/// A layout with fewer volumes that are not nearly full gets more before they run out.
const FEW_ROOMY: usize = 2;

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

/// Whether a layout needs volumes; `None` for one that has no volume yet.
pub(crate) fn need_of(layout: Option<&VolumeLayout>) -> Need {
    let Some(layout) = layout else {
        return Need::Now;
    };
    let writable = layout.writable.ids();
    let roomy = writable.len().saturating_sub(layout.crowded);
    match (writable.is_empty(), roomy) {
        (true, _) => Need::Now,
        (false, roomy) if roomy < FEW_ROOMY => Need::Soon,
        _ => Need::None,
    }
}

/// How many volumes are created at a time. No more than half of the free slots, unless only one is
/// left: other collections and ttls need volumes of their own.
pub(crate) fn volumes_to_grow(placement: ReplicaPlacement, free_slots: u64) -> usize {
    let by_copies = match placement.copies() {
        1 => 7,
        2 => 6,
        3 => 3,
        _ => 1,
    };
    let half = usize::try_from(free_slots / 2).unwrap_or(usize::MAX);
    half.clamp(1, by_copies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::{server, volume},
        volume_layout::DiskId,
    };

    fn layout(writable: u32, crowded: usize) -> VolumeLayout {
        let mut layout = VolumeLayout { crowded, ..VolumeLayout::default() };
        for n in 1..=writable {
            layout.writable.push(volume(n), DiskId { server: server(1), device: 0 });
        }
        layout
    }

    #[test]
    fn a_layout_grows_at_once_when_empty_and_ahead_when_few_have_room() {
        assert_eq!(need_of(None), Need::Now);
        assert_eq!(need_of(Some(&layout(0, 0))), Need::Now);
        assert_eq!(need_of(Some(&layout(1, 0))), Need::Soon);
        assert_eq!(need_of(Some(&layout(7, 6))), Need::Soon);
        assert_eq!(need_of(Some(&layout(7, 5))), Need::None);
        assert_eq!(need_of(Some(&layout(2, 0))), Need::None);
    }

    #[test]
    fn more_copies_need_fewer_volumes() {
        let grown = ["000", "001", "011", "111"].map(|p| volumes_to_grow(p.parse().unwrap(), 100));
        assert_eq!(grown, [7, 6, 3, 1]);
    }

    #[test]
    fn a_layout_leaves_slots_for_others() {
        let grown =
            [14, 13, 8, 4, 3, 2, 1, 0].map(|free| volumes_to_grow("000".parse().unwrap(), free));
        assert_eq!(grown, [7, 6, 4, 2, 1, 1, 1, 1]);
    }
}
