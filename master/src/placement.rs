//! Where a new volume goes.
//!
//! Pure: room is passed in as a list, chance as a generator. A server qualifies with a free slot
//! in a directory that is not low on space; among those, one is drawn with a probability in
//! proportion to its free bytes, so that servers fill at the same pace. Placements with several
//! copies are refused until replication exists.

use std::collections::HashMap;

use dulse_shared::{
    id::{ReplicaPlacement, ServerId},
    wire::{DiskType, Incarnation},
};
use rand::{Rng, RngExt};

use crate::{cluster_state::ClusterState, plan::creation::reserves_slot, topology::Topology};

/// A server that new volumes may go to, and for how many it has room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerRoom {
    /// The server.
    pub(crate) server: ServerId,
    /// Its present run.
    pub(crate) incarnation: Incarnation,
    /// Volumes that still fit, never 0.
    pub(crate) free_slots: u64,
    /// Free bytes where they would go.
    pub(crate) free_bytes: u64,
}

/// Why no server can be picked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PlacementError {
    /// Replication is not built yet.
    #[error(
        "replication {0} is not supported yet: volumes have one copy so far; leave `replication` \
         out, or pass 000"
    )]
    NotSupported(ReplicaPlacement),
    /// Nobody is there.
    #[error(
        "no volume server is connected: start one with `dulse volume --dir DIR --master \
         HOST:PORT` and this master's address"
    )]
    NoServer,
    /// Nobody has such a disk.
    #[error(
        "no volume server has a disk of type {0:?}: start one with `dulse volume --dir DIR:{0}`, \
         or leave `disk` out"
    )]
    NoSuchDisk(String),
    /// All slots are taken or all disks are low.
    #[error("no writable volumes: every volume server is full; add one or free space")]
    Full,
}

/// The servers with room on disks of this type; never empty.
pub(crate) fn rooms(
    topology: &Topology,
    state: &ClusterState,
    disk: &DiskType,
) -> Result<Vec<ServerRoom>, PlacementError> {
    let servers: Vec<_> = topology.alive().filter(|s| s.takes_writes()).collect();
    if servers.is_empty() {
        return Err(PlacementError::NoServer);
    }
    let has_disk = |dirs: &[dulse_shared::wire::DirReport]| dirs.iter().any(|d| d.disk == *disk);
    if !servers.iter().any(|server| has_disk(&server.dirs)) {
        return Err(PlacementError::NoSuchDisk(disk.0.clone()));
    }
    let reserved = reserved_slots(topology, state, disk);
    let room = |server: &&crate::topology::VolumeServer| {
        let reserved = reserved.get(&server.id).copied().unwrap_or(0);
        ServerRoom {
            server: server.id,
            incarnation: server.incarnation,
            free_slots: server.empty_slots(Some(disk)).saturating_sub(reserved),
            free_bytes: server.free_bytes(disk),
        }
    };
    let rooms: Vec<ServerRoom> =
        servers.iter().map(room).filter(|room| room.free_slots > 0).collect();
    if rooms.is_empty() {
        return Err(PlacementError::Full);
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

/// Draws servers for up to `count` volumes and takes their slots from `rooms`. Fewer come back
/// when the slots run out.
pub(crate) fn place_volumes(
    placement: ReplicaPlacement,
    mut rooms: Vec<ServerRoom>,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Vec<Vec<(ServerId, Incarnation)>>, PlacementError> {
    if placement.copies() != 1 {
        return Err(PlacementError::NotSupported(placement));
    }
    let mut placed = Vec::with_capacity(count);
    while placed.len() < count {
        let Some(index) = draw_by_free_bytes(&rooms, rng) else {
            break;
        };
        let Some(room) = rooms.get_mut(index) else {
            break;
        };
        placed.push(vec![(room.server, room.incarnation)]);
        room.free_slots = room.free_slots.saturating_sub(1);
        if room.free_slots == 0 {
            rooms.swap_remove(index);
        }
    }
    if placed.is_empty() {
        return Err(PlacementError::Full);
    }
    Ok(placed)
}

/// The index of a room; every one can be drawn, even one that claims to have no bytes.
fn draw_by_free_bytes(rooms: &[ServerRoom], rng: &mut impl Rng) -> Option<usize> {
    let weight = |room: &ServerRoom| u128::from(room.free_bytes).saturating_add(1);
    let total: u128 = rooms.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut drawn = rng.random_range(0..total);
    for (index, room) in rooms.iter().enumerate() {
        match drawn.checked_sub(weight(room)) {
            Some(rest) => drawn = rest,
            None => return Some(index),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn room(server: u128, free_slots: u64, free_bytes: u64) -> ServerRoom {
        ServerRoom {
            server: ServerId::from(server),
            incarnation: Incarnation(1),
            free_slots,
            free_bytes,
        }
    }

    fn place(rooms: &[ServerRoom], count: usize, seed: u64) -> Vec<u128> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let placed = place_volumes(ReplicaPlacement::default(), rooms.to_vec(), count, &mut rng);
        let first = |members: Vec<(ServerId, Incarnation)>| members[0].0.as_u128();
        placed.unwrap().into_iter().map(first).collect()
    }

    #[test]
    fn no_server_gets_more_volumes_than_it_has_slots() {
        for seed in 0..200 {
            let placed = place(&[room(1, 2, 1 << 40), room(2, 3, 0)], 7, seed);
            assert_eq!(placed.len(), 5, "seed {seed}");
            assert_eq!(placed.iter().filter(|s| **s == 1).count(), 2, "seed {seed}");
        }
    }

    #[test]
    fn servers_are_drawn_in_proportion_to_their_free_bytes() {
        let rooms = [room(1, 1, 3 << 30), room(2, 1, 1 << 30)];
        let drawn = (0..4000).filter(|seed| place(&rooms, 1, *seed) == [1]);
        let share = drawn.count();
        assert!((2800..3200).contains(&share), "{share} of 4000");
    }

    #[test]
    fn several_copies_are_refused_and_not_pretended() {
        let mut rng = SmallRng::seed_from_u64(1);
        let placement = "001".parse().unwrap();
        let refused = place_volumes(placement, vec![room(1, 9, 9)], 1, &mut rng);
        assert_eq!(refused, Err(PlacementError::NotSupported(placement)));
        assert!(
            refused.unwrap_err().to_string().starts_with("replication 001 is not supported yet")
        );
    }
}
