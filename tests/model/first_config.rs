//! The configuration that every search starts from, made by the product's own command.

use dulse_master::cluster_state::{ClusterState, Command};
use dulse_shared::{
    id::{Collection, Ttl, VolumeId},
    wire::{DiskType, Incarnation, VolumeConfig},
};

use crate::{scenario::Scenario, tables::server_id};

/// A new volume on all members, writable.
pub(crate) fn first_config(scenario: &Scenario) -> VolumeConfig {
    let mut state = ClusterState::default();
    let members = (0..scenario.members).map(|at| (server_id(at), Incarnation(1))).collect();
    state.apply(&Command::CreateVolumes {
        collection: Collection::default(),
        placement: scenario.placement.parse().unwrap(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
        members: vec![members],
    });
    state.volume(VolumeId::new(1).unwrap()).unwrap().clone()
}
