//! The room that volume servers have for new volumes.
//!
//! A slot is free if a directory that is not low on space has it and it is not promised to a
//! volume that is still to be made.

use std::collections::HashMap;

use dulse_shared::{
    id::ServerId,
    wire::{DirReport, DiskType, Incarnation},
};

use super::{LocationWish, PlacementError};
use crate::{
    cluster_state::ClusterState,
    plan::creation::reserves_slot,
    topology::{Topology, VolumeServer},
};

/// A server that takes writes and has a disk of the kind that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerRoom {
    /// The server.
    pub(crate) server: ServerId,
    /// Its present run.
    pub(crate) incarnation: Incarnation,
    /// `host:port` of its public listener.
    pub(crate) url: String,
    /// Its data center.
    pub(crate) data_center: String,
    /// Its rack.
    pub(crate) rack: String,
    /// Volumes that still fit, perhaps none.
    pub(crate) free_slots: u64,
    /// Free bytes where they would go.
    pub(crate) free_bytes: u64,
}

impl ServerRoom {
    /// The machine it runs on: the host part of its address.
    pub(crate) fn host(&self) -> &str {
        self.url.rsplit_once(':').map_or(self.url.as_str(), |(host, _)| host)
    }

    /// Whether the first copy may go there.
    pub(crate) fn fulfils(&self, wish: &LocationWish) -> bool {
        wish.is_fulfilled_by(&self.data_center, &self.rack, &self.url)
    }

    /// Promises a slot, and the bytes that belong to it.
    pub(super) fn take_slot(&mut self) {
        let share = self.free_bytes.checked_div(self.free_slots).unwrap_or(0);
        self.free_bytes = self.free_bytes.saturating_sub(share);
        self.free_slots = self.free_slots.saturating_sub(1);
    }
}

/// The room of all servers with disks of this type; never an empty list.
pub(crate) fn rooms(
    topology: &Topology,
    state: &ClusterState,
    disk: &DiskType,
) -> Result<Vec<ServerRoom>, PlacementError> {
    let servers: Vec<_> = topology.alive().filter(|s| s.takes_writes()).collect();
    if servers.is_empty() {
        return Err(PlacementError::NoServer);
    }
    let has_disk = |dirs: &[DirReport]| dirs.iter().any(|d| d.disk == *disk);
    let suited = servers.into_iter().filter(|server| has_disk(&server.dirs));
    let reserved = reserved_slots(topology, state, disk);
    let room = |server: &VolumeServer| {
        let reserved = reserved.get(&server.id).copied().unwrap_or(0);
        ServerRoom {
            server: server.id,
            incarnation: server.incarnation,
            url: server.url.clone(),
            data_center: server.data_center.clone(),
            rack: server.rack.clone(),
            free_slots: server.empty_slots(Some(disk)).saturating_sub(reserved),
            free_bytes: server.free_bytes(disk),
        }
    };
    let rooms: Vec<ServerRoom> = suited.map(room).collect();
    if rooms.is_empty() {
        return Err(PlacementError::NoSuchDisk(disk.0.clone()));
    }
    Ok(rooms)
}

/// Volumes that were promised to a server and that its directories do not count yet.
fn reserved_slots(
    topology: &Topology,
    state: &ClusterState,
    disk: &DiskType,
) -> HashMap<ServerId, u64> {
    let mut reserved = HashMap::new();
    for config in state.volumes.values().filter(|c| c.disk == *disk) {
        for member in &config.members {
            let server = topology.server(member.server);
            if server.is_some_and(|server| reserves_slot(config, server)) {
                *reserved.entry(member.server).or_insert(0) += 1;
            }
        }
    }
    reserved
}
