//! How much is left in the cluster: slots for new volumes, and bytes in those that take writes.
//!
//! As of the last heartbeats. Of disks that are low on space, and of servers that stop or are not
//! there, nothing counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{LayoutKey, VolumeLayout};
use crate::topology::Topology;

/// What is left, over everything that takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Capacity {
    /// Volumes that servers may hold, whether they have room or not.
    pub(crate) max_volumes: u64,
    /// Volumes that can still be created; never more than `max_volumes`.
    pub(crate) free_slots: u64,
    /// Bytes on the disks of directories with room above the marks below which nothing is created,
    /// each directory by itself: two on one file system count twice.
    pub(crate) free_disk_bytes: u64,
    /// Bytes that still fit into the writable volumes.
    pub(crate) writable_bytes: u64,
    /// Volumes that assign picks from.
    pub(crate) writable_volumes: u64,
}

impl Capacity {
    /// That of the whole cluster.
    pub(crate) fn of(topology: &Topology, layouts: &BTreeMap<LayoutKey, VolumeLayout>) -> Self {
        let mut capacity = Self::default();
        for server in topology.alive() {
            capacity.max_volumes = capacity.max_volumes.saturating_add(server.max_volumes());
        }
        for server in topology.alive().filter(|server| server.takes_writes()) {
            capacity.free_slots = capacity.free_slots.saturating_add(server.empty_slots(None));
            let roomy = server.dirs.iter().filter(|dir| !dir.is_low);
            let free = roomy.map(|dir| dir.free_bytes.saturating_sub(dir.min_free_bytes)).sum();
            capacity.free_disk_bytes = capacity.free_disk_bytes.saturating_add(free);
        }
        for layout in layouts.values() {
            capacity.writable_bytes = capacity.writable_bytes.saturating_add(layout.room_bytes);
            capacity.writable_volumes += layout.writable.ids().len() as u64;
        }
        capacity
    }
}
