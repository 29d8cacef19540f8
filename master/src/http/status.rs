//! `/dir/status` and `/cluster/status`, in the shape that published clients parse: field names
//! are theirs, integers and lists are never null.

use std::collections::BTreeSet;

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use dulse_shared::{
    id::VolumeId,
    net::address::ServerAddress,
    wire::{DiskType, Problem},
};
use serde::Serialize;

use super::{params::Params, render::json, state::HttpState};
use crate::{
    cluster_state::ClusterState,
    topology::{DataCenter, Rack, Topology, VolumeServer, data_centers},
    volume_layout::Layouts,
};

/// What programs see as the version of this one.
pub(super) const VERSION: &str = concat!("dulse/", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
struct ClusterStatus {
    #[serde(rename = "IsLeader")]
    is_leader: bool,
    #[serde(rename = "Leader")]
    leader: String,
    #[serde(rename = "Peers")]
    peers: Vec<String>,
    #[serde(rename = "MaxVolumeId")]
    max_volume_id: u32,
}

/// Who leads.
pub(super) async fn cluster_status(
    State(state): State<HttpState>,
    uri: Uri,
) -> Result<Response, Problem> {
    let leadership = state.cluster.log.leadership();
    let highest = state.cluster.log.read(|state| state.volumes.keys().next_back().copied());
    let answer = ClusterStatus {
        is_leader: leadership.is_leader,
        leader: leadership.leader.map(|a| a.public()).unwrap_or_default(),
        peers: other_masters(&state),
        max_volume_id: highest.map_or(0, VolumeId::as_u32),
    };
    json(StatusCode::OK, &Params::from_query(uri.query()), &answer)
}

/// The public addresses of all masters but this one.
fn other_masters(state: &HttpState) -> Vec<String> {
    let masters = state.cluster.log.masters().into_iter();
    let others = masters.filter(|master| !master.is_this_one);
    others.map(|master| public_address(&master.address)).collect()
}

/// `host:port` of `host:port.clusterport`.
pub(super) fn public_address(address: &str) -> String {
    let parsed = address.parse::<ServerAddress>();
    parsed.map_or_else(|_| address.to_owned(), |address| address.public())
}

#[derive(Serialize)]
struct DirStatus {
    #[serde(rename = "Topology")]
    topology: TopologyStatus,
    #[serde(rename = "TopologyId")]
    topology_id: String,
    #[serde(rename = "Version")]
    version: &'static str,
    /// Where servers and the agreed state disagree, as sentences.
    contradictions: Vec<String>,
}

#[derive(Serialize)]
struct TopologyStatus {
    #[serde(flatten)]
    slots: Slots,
    #[serde(rename = "DataCenters")]
    data_centers: Vec<DataCenterStatus>,
    /// The same list under both names: clients ask for either.
    #[serde(rename = "Layouts")]
    layouts_upper: Vec<LayoutStatus>,
    layouts: Vec<LayoutStatus>,
}

#[derive(Serialize, Clone, Copy, Default)]
struct Slots {
    #[serde(rename = "Max")]
    max: u64,
    #[serde(rename = "Free")]
    free: u64,
}

#[derive(Serialize)]
struct DataCenterStatus {
    #[serde(rename = "Id")]
    id: String,
    #[serde(flatten)]
    slots: Slots,
    #[serde(rename = "Racks")]
    racks: Vec<RackStatus>,
}

#[derive(Serialize)]
struct RackStatus {
    #[serde(rename = "Id")]
    id: String,
    #[serde(flatten)]
    slots: Slots,
    #[serde(rename = "DataNodes")]
    nodes: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct NodeStatus {
    #[serde(rename = "Url")]
    url: String,
    #[serde(rename = "PublicUrl")]
    public_url: String,
    #[serde(rename = "Volumes")]
    volumes: usize,
    #[serde(rename = "EcShards")]
    ec_shards: usize,
    #[serde(flatten)]
    slots: Slots,
    #[serde(rename = "VolumeIds")]
    volume_ids: String,
}

#[derive(Serialize, Clone)]
struct LayoutStatus {
    replication: String,
    ttl: String,
    writables: Vec<VolumeId>,
    collection: String,
    #[serde(rename = "diskType")]
    disk_type: String,
}

/// Servers by data center and rack, and the writable volumes of each layout.
pub(super) async fn dir_status(
    State(state): State<HttpState>,
    uri: Uri,
) -> Result<Response, Problem> {
    let layouts = state.cluster.layouts();
    let answer = state.cluster.look(|agreed, topology| dir_status_of(agreed, topology, &layouts));
    json(StatusCode::OK, &Params::from_query(uri.query()), &answer)
}

fn dir_status_of(agreed: &ClusterState, topology: &Topology, layouts: &Layouts) -> DirStatus {
    let centers = data_centers(topology, |server| server.is_alive);
    let centers: Vec<_> = centers.iter().map(data_center_status).collect();
    let layout_list = layout_statuses(layouts);
    DirStatus {
        topology: TopologyStatus {
            slots: centers.iter().map(|center| center.slots).sum(),
            data_centers: centers,
            layouts_upper: layout_list.clone(),
            layouts: layout_list,
        },
        topology_id: agreed.cluster.map(|id| id.to_string()).unwrap_or_default(),
        version: VERSION,
        contradictions: layouts.contradictions.iter().map(ToString::to_string).collect(),
    }
}

fn data_center_status(center: &DataCenter<'_>) -> DataCenterStatus {
    let racks: Vec<_> = center.racks.iter().map(rack_status).collect();
    DataCenterStatus {
        id: center.name.to_owned(),
        slots: racks.iter().map(|rack| rack.slots).sum(),
        racks,
    }
}

fn rack_status(rack: &Rack<'_>) -> RackStatus {
    let nodes: Vec<_> = rack.servers.iter().map(|server| node_status(server)).collect();
    RackStatus { id: rack.name.to_owned(), slots: nodes.iter().map(|node| node.slots).sum(), nodes }
}

fn node_status(server: &VolumeServer) -> NodeStatus {
    NodeStatus {
        url: server.url.clone(),
        public_url: server.public_url.clone(),
        volumes: server.volumes.len(),
        ec_shards: 0,
        slots: Slots { max: server.max_volumes(), free: server.empty_slots(None) },
        volume_ids: volume_ids(server),
    }
}

/// For each kind of disk a space and the ids, runs written as `first-last`.
pub(super) fn volume_ids(server: &VolumeServer) -> String {
    let disks: BTreeSet<&DiskType> = server.volumes.values().map(|volume| &volume.disk).collect();
    let of_disk = |disk: &DiskType| {
        let volumes = server.volumes.values().filter(|volume| volume.disk == *disk);
        let ids: Vec<u32> = volumes.map(|volume| volume.id.as_u32()).collect();
        format!(" {}", runs(&ids).join(" "))
    };
    disks.into_iter().map(of_disk).collect()
}

fn runs(sorted_ids: &[u32]) -> Vec<String> {
    let is_next = |a: &u32, b: &u32| a.checked_add(1) == Some(*b);
    let run = |ids: &[u32]| match ids {
        [] => String::new(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    };
    sorted_ids.chunk_by(is_next).map(run).collect()
}

fn layout_statuses(layouts: &Layouts) -> Vec<LayoutStatus> {
    let status =
        |(key, layout): (&crate::volume_layout::LayoutKey, &crate::volume_layout::VolumeLayout)| {
            LayoutStatus {
                replication: key.placement.to_string(),
                ttl: key.ttl.to_string(),
                writables: layout.writable.ids().to_vec(),
                collection: key.collection.to_string(),
                disk_type: key.disk.0.clone(),
            }
        };
    layouts.layouts.iter().map(status).collect()
}

impl std::iter::Sum for Slots {
    fn sum<I: Iterator<Item = Self>>(slots: I) -> Self {
        slots.fold(Self::default(), |sum, next| Self {
            max: sum.max.saturating_add(next.max),
            free: sum.free.saturating_add(next.free),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_sequence_are_written_as_one_run() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), ["1-3", "7", "9-10"]);
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[u32::MAX]), ["4294967295"]);
    }
}
