//! What a cluster says about itself, gathered from a master and from every volume server.
//!
//! The master knows the servers and which volumes it assigns to; each server knows its disks and
//! the state of its volumes. A server that does not answer is part of the status, not an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{answer::fetch_json, client::Client, error::ClientError};

/// A status is answered from memory.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// Servers asked at a time.
const SERVERS_AT_ONCE: usize = 16;

/// A cluster at a glance.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClusterStatus {
    /// `host:port` of the master that leads; empty if none does.
    pub leader: String,
    /// `host:port` of the other masters.
    pub peers: Vec<String>,
    /// Slots for more volumes.
    pub free_slots: i64,
    /// Volume servers, by address.
    pub servers: Vec<ServerStatus>,
}

/// A volume server.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ServerStatus {
    /// `host:port`, for clients.
    pub url: String,
    /// Its data center.
    pub data_center: String,
    /// Its rack.
    pub rack: String,
    /// Why it could not be asked, if so; disks and volumes are then empty.
    pub unreachable: Option<String>,
    /// Its data directories.
    pub disks: Vec<DiskStatus>,
    /// Its volumes.
    pub volumes: Vec<VolumeStatus>,
}

/// A data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DiskStatus {
    /// Its path on the server.
    pub dir: String,
    /// Size of its file system.
    pub total_bytes: u64,
    /// Free bytes of it.
    pub free_bytes: u64,
}

/// A replica of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VolumeStatus {
    /// The volume's number.
    pub id: u32,
    /// Its collection.
    pub collection: String,
    /// Length of its file.
    pub size_bytes: u64,
    /// Bytes in it that nobody can read any more.
    pub garbage_bytes: u64,
    /// Needles that can be read.
    pub needles: u64,
    /// Whether it takes new needles.
    pub state: VolumeState,
}

/// Whether a volume takes new needles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// The master assigns to it.
    Writable,
    /// It has reached the size limit.
    Full,
    /// It is read-only for another reason.
    ReadOnly,
    /// It could be written; the master does not assign to it.
    Closed,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MasterStatus {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    peers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DirStatus {
    topology: Topology,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Topology {
    free: i64,
    data_centers: Vec<DataCenter>,
    layouts: Vec<Layout>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DataCenter {
    id: String,
    racks: Vec<Rack>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rack {
    id: String,
    data_nodes: Vec<DataNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DataNode {
    url: String,
    #[serde(default)]
    public_url: String,
}

#[derive(Deserialize)]
struct Layout {
    writables: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeStatus {
    disk_statuses: Vec<NodeDisk>,
    volumes: Vec<NodeVolume>,
}

#[derive(Deserialize)]
struct NodeDisk {
    dir: String,
    all: u64,
    free: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeVolume {
    id: u32,
    collection: String,
    size: u64,
    deleted_byte_count: u64,
    file_count: u64,
    read_only: bool,
    #[serde(default)]
    read_only_reason: String,
}

/// Asks a master, then every server it knows.
pub(crate) async fn fetch(client: &Client) -> Result<ClusterStatus, ClientError> {
    let masters = client.masters();
    let master: MasterStatus = masters.fetch("/cluster/status", &[], STATUS_LIMIT).await?;
    let dir: DirStatus = masters.fetch("/dir/status", &[], STATUS_LIMIT).await?;
    let writable = dir.topology.layouts.iter().flat_map(|l| &l.writables);
    let writable: BTreeSet<u32> = writable.copied().collect();
    let mut servers: Vec<ServerStatus> = stream::iter(servers_of(dir.topology.data_centers))
        .map(|server| ask(client, server, &writable))
        .buffer_unordered(SERVERS_AT_ONCE)
        .collect()
        .await;
    servers.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(ClusterStatus {
        leader: master.leader,
        peers: master.peers,
        free_slots: dir.topology.free,
        servers,
    })
}

fn servers_of(data_centers: Vec<DataCenter>) -> Vec<ServerStatus> {
    let mut servers = Vec::new();
    for data_center in data_centers {
        for rack in data_center.racks {
            for node in rack.data_nodes {
                let is_public = !node.public_url.is_empty();
                servers.push(ServerStatus {
                    url: if is_public { node.public_url } else { node.url },
                    data_center: data_center.id.clone(),
                    rack: rack.id.clone(),
                    unreachable: None,
                    disks: Vec::new(),
                    volumes: Vec::new(),
                });
            }
        }
    }
    servers
}

async fn ask(client: &Client, mut server: ServerStatus, writable: &BTreeSet<u32>) -> ServerStatus {
    let url = format!("http://{}/status", server.url);
    let request = client.http().get(&url);
    match fetch_json::<NodeStatus>(&url, request, STATUS_LIMIT).await {
        Ok(node) => {
            server.disks = node.disk_statuses.into_iter().map(disk_status).collect();
            let volume = |volume| volume_status(volume, writable);
            server.volumes = node.volumes.into_iter().map(volume).collect();
            server.volumes.sort_by_key(|volume| volume.id);
        }
        Err(error) => server.unreachable = Some(error.to_string()),
    }
    server
}

fn disk_status(disk: NodeDisk) -> DiskStatus {
    DiskStatus { dir: disk.dir, total_bytes: disk.all, free_bytes: disk.free }
}

fn volume_status(volume: NodeVolume, writable: &BTreeSet<u32>) -> VolumeStatus {
    let state = if volume.read_only && volume.read_only_reason == "full" {
        VolumeState::Full
    } else if volume.read_only {
        VolumeState::ReadOnly
    } else if writable.contains(&volume.id) {
        VolumeState::Writable
    } else {
        VolumeState::Closed
    };
    VolumeStatus {
        id: volume.id,
        collection: volume.collection,
        size_bytes: volume.size,
        garbage_bytes: volume.deleted_byte_count,
        needles: volume.file_count,
        state,
    }
}

impl ClusterStatus {
    /// Volumes, not copies of them, by state. Of copies in different states the better counts.
    pub fn volumes_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut best: BTreeMap<u32, VolumeState> = BTreeMap::new();
        for volume in self.servers.iter().flat_map(|server| &server.volumes) {
            let known = best.entry(volume.id).or_insert(volume.state);
            if volume.state.rank() < known.rank() {
                *known = volume.state;
            }
        }
        let mut counts = BTreeMap::from(["writable", "full", "read-only"].map(|word| (word, 0)));
        for state in best.values() {
            *counts.entry(state.as_word()).or_default() += 1;
        }
        counts
    }
}

impl VolumeState {
    /// The word for people.
    pub const fn as_word(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Writable => 0,
            Self::Closed => 1,
            Self::Full => 2,
            Self::ReadOnly => 3,
        }
    }
}
