//! What a cluster says about itself, gathered from a master and from every volume server.
//!
//! The master knows the servers; each of them knows its disks and the state of its volumes. A
//! server that does not answer is part of the status, not an error.

use std::{collections::BTreeMap, time::Duration};

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
    /// Volumes that have files there and are not served.
    pub unserved: Vec<UnservedStatus>,
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
    /// Why it cannot be used; none if it can.
    pub trouble: Option<String>,
}

/// A volume that has files on a server which does not serve it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UnservedStatus {
    /// The volume's number.
    pub id: u32,
    /// Its collection.
    pub collection: String,
    /// Why it is not served, and what to do.
    pub reason: String,
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
    /// Why it does not; empty if it does.
    pub reason: String,
}

/// Whether a volume takes new needles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// It does.
    Writable,
    /// It has reached the size limit.
    Full,
    /// It is read-only for another reason.
    ReadOnly,
    /// It takes overwrites and deletes only.
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
#[serde(rename_all = "PascalCase")]
struct NodeStatus {
    disk_statuses: Vec<NodeDisk>,
    volumes: Vec<NodeVolume>,
    #[serde(default)]
    unserved: Vec<NodeUnserved>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeUnserved {
    id: u32,
    #[serde(default)]
    collection: String,
    reason: String,
}

#[derive(Deserialize)]
struct NodeDisk {
    dir: String,
    all: u64,
    free: u64,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeVolume {
    id: u32,
    collection: String,
    size: u64,
    deleted_byte_count: u64,
    delete_count: u64,
    file_count: u64,
    read_only: bool,
    #[serde(default)]
    state: String,
    reason: Option<String>,
}

/// Asks a master, then every server it knows.
pub(crate) async fn fetch(client: &Client) -> Result<ClusterStatus, ClientError> {
    let masters = client.masters();
    let master: MasterStatus = masters.fetch("/cluster/status", &[], STATUS_LIMIT).await?;
    let dir: DirStatus = masters.fetch("/dir/status", &[], STATUS_LIMIT).await?;
    let mut servers: Vec<ServerStatus> = stream::iter(servers_of(dir.topology.data_centers))
        .map(|server| ask(client, server))
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
                    unserved: Vec::new(),
                });
            }
        }
    }
    servers
}

async fn ask(client: &Client, mut server: ServerStatus) -> ServerStatus {
    let url = format!("http://{}/status", server.url);
    let request = client.http().get(&url);
    match fetch_json::<NodeStatus>(&url, request, STATUS_LIMIT).await {
        Ok(node) => {
            server.disks = node.disk_statuses.into_iter().map(disk_status).collect();
            server.volumes = node.volumes.into_iter().map(volume_status).collect();
            server.volumes.sort_by_key(|volume| volume.id);
            let unserved =
                |NodeUnserved { id, collection, reason }| UnservedStatus { id, collection, reason };
            server.unserved = node.unserved.into_iter().map(unserved).collect();
        }
        Err(error) => server.unreachable = Some(error.to_string()),
    }
    server
}

fn disk_status(disk: NodeDisk) -> DiskStatus {
    DiskStatus { dir: disk.dir, total_bytes: disk.all, free_bytes: disk.free, trouble: disk.reason }
}

fn volume_status(volume: NodeVolume) -> VolumeStatus {
    let (word, reason) = volume.state.split_once(": ").unwrap_or((&volume.state, ""));
    let state = match (word, volume.read_only) {
        ("writable", _) => VolumeState::Writable,
        (_, true) if reason == "full" => VolumeState::Full,
        (_, true) => VolumeState::ReadOnly,
        (_, false) => VolumeState::Closed,
    };
    let is_said = reason.is_empty() && state == VolumeState::Closed;
    VolumeStatus {
        id: volume.id,
        collection: volume.collection,
        size_bytes: volume.size,
        garbage_bytes: volume.deleted_byte_count,
        // The server counts what was ever put.
        needles: volume.file_count.saturating_sub(volume.delete_count),
        state,
        reason: match (if is_said { word } else { reason }, volume.reason) {
            (reason, None) => reason.to_owned(),
            (reason, Some(why)) => format!("{reason}: {why}"),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(state: &str, read_only: bool) -> (VolumeState, String) {
        let volume = NodeVolume {
            id: 1,
            collection: String::new(),
            size: 8,
            deleted_byte_count: 0,
            delete_count: 1,
            file_count: 3,
            read_only,
            state: state.to_owned(),
            reason: None,
        };
        let status = volume_status(volume);
        assert_eq!(status.needles, 2);
        (status.state, status.reason)
    }

    #[test]
    fn a_state_and_its_reason_are_read_from_the_servers_words() {
        use VolumeState as S;
        for (words, read_only, state, reason) in [
            ("writable", false, S::Writable, ""),
            ("read-only: full", true, S::Full, "full"),
            ("read-only: the disk failed", true, S::ReadOnly, "the disk failed"),
            ("closed: it came from elsewhere", false, S::Closed, "it came from elsewhere"),
            ("the disk is short of room", false, S::Closed, "the disk is short of room"),
            ("", true, S::ReadOnly, ""),
        ] {
            assert_eq!(state_of(words, read_only), (state, reason.to_owned()), "{words}");
        }
    }
}
