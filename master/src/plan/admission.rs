//! What becomes of volume files that no cluster has claimed.
//!
//! A free id is admitted. Everything else stays on its disk as it is, and the server is told why
//! and what to do.

use dulse_shared::{
    id::ServerId,
    wire::{ForeignVolume, Incarnation, RefusedVolume, VolumeConfig},
};

use crate::{
    cluster_state::{ClusterState, Command},
    topology::{Topology, VolumeServer},
};

/// The decision on one file.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Admission {
    /// Propose this.
    Admit(Command),
    /// It was admitted before and awaits its configuration.
    Admitted(VolumeConfig),
    /// It stays out.
    Refused(RefusedVolume),
}

/// Decides on one foreign volume of a server.
pub(crate) fn plan_admission(
    state: &ClusterState,
    topology: &Topology,
    server: &VolumeServer,
    foreign: &ForeignVolume,
) -> Admission {
    let Some(config) = state.volume(foreign.id) else {
        if state.deleted.contains(foreign.id) {
            let reason = deleted(foreign, server);
            return Admission::Refused(RefusedVolume { id: foreign.id, reason });
        }
        return Admission::Admit(admit(foreign, server.id, server.incarnation));
    };
    let is_member = config.members.iter().any(|m| m.server == server.id);
    let has_one_already = server.volumes.contains_key(&foreign.id);
    if is_member && config.closed && is_same_kind(config, foreign) && !has_one_already {
        return Admission::Admitted(config.clone());
    }
    let is_copy = !is_member && is_same_kind(config, foreign) && config.closed;
    let reason = if has_one_already {
        doubled(foreign, server)
    } else if is_copy && config.members.len() < config.placement.copies() {
        waiting(config, topology, foreign, server)
    } else {
        taken(config, topology, foreign, server)
    };
    Admission::Refused(RefusedVolume { id: foreign.id, reason })
}

fn admit(foreign: &ForeignVolume, server: ServerId, incarnation: Incarnation) -> Command {
    Command::AdmitVolume {
        id: foreign.id,
        collection: foreign.collection.clone(),
        placement: foreign.placement,
        ttl: foreign.ttl,
        disk: foreign.disk.clone(),
        server,
        incarnation,
    }
}

fn is_same_kind(config: &VolumeConfig, foreign: &ForeignVolume) -> bool {
    config.collection == foreign.collection
        && config.placement == foreign.placement
        && config.ttl == foreign.ttl
}

fn waiting(
    config: &VolumeConfig,
    topology: &Topology,
    foreign: &ForeignVolume,
    server: &VolumeServer,
) -> String {
    format!(
        "volume {} is served from the copy on {}, which was admitted first; the copy on {} ({} \
         live needles) is left as it is until repair can compare the two",
        foreign.id,
        holder_of(config, topology),
        server.url,
        foreign.live_needles
    )
}

fn deleted(foreign: &ForeignVolume, server: &VolumeServer) -> String {
    format!(
        "volume {} was deleted, and its id is never used again; the file with this id of collection \
         {:?} on {} does not say which cluster it is of and is left as it is: remove it, or move it \
         into the data directory of another cluster to read it",
        foreign.id, foreign.collection, server.url
    )
}

fn doubled(foreign: &ForeignVolume, server: &VolumeServer) -> String {
    format!(
        "{} serves another file with the id {}; this one, of collection {:?}, is left as it is: move \
         one of the two away and start the server again",
        server.url, foreign.id, foreign.collection
    )
}

fn taken(
    config: &VolumeConfig,
    topology: &Topology,
    foreign: &ForeignVolume,
    server: &VolumeServer,
) -> String {
    format!(
        "volume id {} is taken by the volume of collection {:?} on {}; the file with this id of \
         collection {:?} on {} is left as it is: move it into the data directory of another \
         cluster to read it",
        foreign.id,
        config.collection,
        holder_of(config, topology),
        foreign.collection,
        server.url
    )
}

/// The first member's address, or its id if it is not there.
fn holder_of(config: &VolumeConfig, topology: &Topology) -> String {
    let Some(member) = config.members.first() else {
        return "nobody".to_owned();
    };
    topology
        .server(member.server)
        .filter(|server| !server.url.is_empty())
        .map_or_else(|| member.server.to_string(), |server| server.url.clone())
}
