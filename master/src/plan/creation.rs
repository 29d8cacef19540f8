//! Volumes whose creation was interrupted and must be completed.
//!
//! A volume is made again only on a member that has run without a break since the volume was
//! agreed on. A server that restarted may lack a volume because a data directory is not mounted;
//! an empty volume in its place would turn missing data into deleted data.

use dulse_shared::{
    clock::BootTime,
    id::ServerId,
    wire::{Incarnation, VolumeConfig},
};

use crate::{
    cluster_state::ClusterState,
    topology::{Topology, VolumeServer},
};

/// A volume to be made on a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Creation {
    /// What to make.
    pub(crate) config: VolumeConfig,
    /// Where.
    pub(crate) server: ServerId,
    /// The run of the server that was planned for.
    pub(crate) incarnation: Incarnation,
    /// `host:port` of its cluster listener.
    pub(crate) cluster_url: String,
}

/// Whether the server has run without a break since the volume was agreed on.
fn has_run_since(config: &VolumeConfig, server: &VolumeServer) -> bool {
    let was_there = (server.id, server.incarnation);
    config.last_writable.as_ref().is_some_and(|last| last.members.contains(&was_there))
}

/// Whether the server still has to make this volume, of which it is a member.
pub(crate) fn is_to_be_created(config: &VolumeConfig, server: &VolumeServer) -> bool {
    server.takes_writes()
        && has_run_since(config, server)
        && !config.closed
        && !server.ever_had(config.id)
        && server.unserved_reason(config.id).is_none()
}

/// Whether the volume takes one of the slots that the server reports as empty: it is still to be
/// made, or its files are there and not served. One whose creation a crash cut off is never made
/// again, and what a missing directory holds takes none of the slots of those that are there.
pub(crate) fn reserves_slot(config: &VolumeConfig, server: &VolumeServer) -> bool {
    !server.counts_in_slots(config.id)
        && (has_run_since(config, server) || server.unserved_reason(config.id).is_some())
}

/// The creations that one volume needs, on members that are alive.
pub(crate) fn creations_of(config: &VolumeConfig, topology: &Topology) -> Vec<Creation> {
    let servers = config.members.iter().filter_map(|member| topology.server(member.server));
    let lacking = servers.filter(|server| is_to_be_created(config, server));
    let creation = |server: &VolumeServer| Creation {
        config: config.clone(),
        server: server.id,
        incarnation: server.incarnation,
        cluster_url: server.cluster_url.clone(),
    };
    lacking.map(creation).collect()
}

/// All creations that are due, up to `limit`.
pub(crate) fn plan_creations(
    state: &ClusterState,
    topology: &Topology,
    limit: usize,
) -> Vec<Creation> {
    state.volumes.values().flat_map(|config| creations_of(config, topology)).take(limit).collect()
}

/// How long a creation that failed rests before it is tried again.
pub(crate) fn is_due(last_tried: Option<BootTime>, now: BootTime) -> bool {
    last_tried.is_none_or(|tried| now.since(tried) >= RETRY_AFTER)
}

/// A server that cannot make a volume (its disk is full) is asked again this often.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use dulse_shared::wire::{Heartbeat, UnservedVolume};

    use super::*;
    use crate::{
        cluster_state::Command,
        testing::{heartbeat, plain_layout, report, server, volume},
    };

    fn agreed_and_heard(heartbeats: &[Heartbeat]) -> (ClusterState, Topology) {
        let key = plain_layout();
        let mut state = ClusterState::default();
        state.apply(&Command::CreateVolumes {
            collection: key.collection,
            placement: key.placement,
            ttl: key.ttl,
            disk: key.disk,
            members: vec![vec![(server(1), Incarnation(1))]],
        });
        let mut topology = Topology::default();
        for heartbeat in heartbeats {
            topology.receive(heartbeat.clone(), BootTime::default()).unwrap();
        }
        (state, topology)
    }

    fn planned(heartbeats: &[Heartbeat]) -> usize {
        let (state, topology) = agreed_and_heard(heartbeats);
        plan_creations(&state, &topology, 9).len()
    }

    fn reserved(heartbeat: Heartbeat) -> bool {
        let (state, topology) = agreed_and_heard(&[heartbeat]);
        reserves_slot(&state.volumes[&volume(1)], topology.server(server(1)).unwrap())
    }

    #[test]
    fn a_slot_is_kept_for_a_volume_to_be_made_and_not_for_one_that_never_will_be() {
        let without = heartbeat(1, vec![]);
        assert!(reserved(without.clone()), "it is about to be made");
        assert!(!reserved(heartbeat(1, vec![report(1)])), "it is among those that are counted");
        let restarted = Heartbeat { incarnation: Incarnation(2), ..without };
        assert!(!reserved(restarted.clone()), "its creation was cut off, or it is elsewhere");
        let unserved = vec![UnservedVolume {
            id: volume(1),
            collection: plain_layout().collection,
            reason: "damaged".to_owned(),
        }];
        assert!(reserved(Heartbeat { unserved, ..restarted }), "its files take room");
    }

    #[test]
    fn an_empty_volume_never_takes_the_place_of_one_that_may_have_held_needles() {
        let without = heartbeat(1, vec![]);
        assert_eq!(planned(std::slice::from_ref(&without)), 1, "its creation was interrupted");
        let with = heartbeat(1, vec![report(1)]);
        assert_eq!(planned(std::slice::from_ref(&with)), 0);
        let restarted = Heartbeat { incarnation: Incarnation(2), ..without.clone() };
        assert_eq!(planned(&[restarted]), 0, "its directory may not be mounted");
        let gone = vec![volume(1)];
        let withdrawn = Heartbeat { seq: 2, since: 1, gone, ..without.clone() };
        assert_eq!(planned(&[with, withdrawn]), 0, "it was there a moment ago");
        assert_eq!(planned(&[Heartbeat { stopping: true, ..without }]), 0);
    }
}
