//! What a volume server tells every master twice a second, and the answer.

use serde::{Deserialize, Serialize};

use super::{DiskType, Epoch, Incarnation, VolumeConfig};
use crate::id::{ClusterId, Collection, ReplicaPlacement, ServerId, Ttl, VolumeId};

/// `POST /heartbeat` on a master's cluster port.
///
/// Reports are numbered. A full one (`since` = 0) lists every volume; the others what changed
/// since the report `since`, which the master acknowledged.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The server.
    pub server: ServerId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The cluster its directories belong to; none on the first start.
    pub cluster: Option<ClusterId>,
    /// The program's version.
    pub version: String,
    /// `host:port` of its public listener, for the cluster.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
    /// `host:port` of its cluster listener.
    pub cluster_url: String,
    /// Its data center.
    pub data_center: String,
    /// Its rack.
    pub rack: String,
    /// The number of this report, from 1.
    pub seq: u64,
    /// The report this one builds on; 0 when it is full.
    pub since: u64,
    /// The data directories.
    pub dirs: Vec<DirReport>,
    /// Volumes that changed (in a full report: all).
    pub volumes: Vec<VolumeReport>,
    /// Volumes that are there no more.
    pub gone: Vec<VolumeId>,
    /// Volume files of no cluster, to be admitted; always all of them.
    pub foreign: Vec<ForeignVolume>,
    /// Volumes that have files there and cannot be served; always all of them, up to a limit.
    #[serde(default)]
    pub unserved: Vec<UnservedVolume>,
    /// The highest needle key on its disks, so that assign stays above it.
    pub max_key: u64,
    /// The server is about to stop: nothing new is to be sent there.
    pub stopping: bool,
}

/// A data directory and the room it has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DirReport {
    /// Its path on the server.
    pub dir: String,
    /// The kind of disk.
    pub disk: DiskType,
    /// Volumes it may hold.
    pub max_volumes: u32,
    /// Volumes it holds, foreign ones included.
    pub volumes: u32,
    /// Size of its file system.
    pub total_bytes: u64,
    /// Free bytes of its file system.
    pub free_bytes: u64,
    /// The mark for free bytes below which no volume is created and none is assigned.
    #[serde(default)]
    pub min_free_bytes: u64,
    /// Free bytes are below that mark, or the directory cannot be used.
    pub is_low: bool,
    /// Why the directory cannot be used, if so: its volumes are then missing or only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One volume of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeReport {
    /// The volume.
    pub id: VolumeId,
    /// Its collection.
    pub collection: Collection,
    /// Its replica placement.
    pub placement: ReplicaPlacement,
    /// Its ttl.
    pub ttl: Ttl,
    /// The kind of disk it lies on.
    pub disk: DiskType,
    /// The file system it lies on, by a number that tells those of one server apart.
    #[serde(default)]
    pub device: u64,
    /// The configuration that the server serves.
    pub epoch: Epoch,
    /// Length of the volume file in bytes.
    pub size_bytes: u64,
    /// Needles that can be read.
    pub live_needles: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Needles that were overwritten or deleted since the last compaction.
    pub garbage_needles: u64,
    /// Bytes of records that nobody can read any more, tombstones included.
    pub garbage_bytes: u64,
    /// Compactions so far.
    pub compaction_revision: u16,
    /// Last write, in seconds since 1970; 0 if there was none.
    pub modified_at_secs: u64,
    /// What the server itself says about writing to it.
    pub local: LocalState,
    /// What failed and when, if something did: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl VolumeReport {
    /// Bytes of the volume file that belong to no needle: its superblock.
    pub fn overhead_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.live_bytes).saturating_sub(self.garbage_bytes)
    }
}

/// What a volume server knows by itself about writing to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalState {
    /// It takes writes if its configuration says so.
    Ready,
    /// The size limit is reached: deletes only.
    Full,
    /// The time of all its needles is over, durably: reads only, and it never takes writes again.
    Expired,
    /// Its disk is short of room: nothing new is assigned to it.
    LowSpace,
    /// A scrub found needles that do not verify: nothing new is assigned to it; overwrites and
    /// deletes, which mend it, are taken.
    Corrupt,
    /// Its server has another file with its id: reads only, until one of the two is moved away.
    Duplicate,
    /// A part of its file does not verify: reads only.
    Damaged,
    /// Its format is older than the one that is written: reads only.
    OldFormat,
    /// A write or a sync failed: reads only, until the server is started again.
    Failed,
}

/// A volume that has files on a server, which cannot serve it. Its id is taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnservedVolume {
    /// The id in the files' names.
    pub id: VolumeId,
    /// The collection in the files' names.
    pub collection: Collection,
    /// Why, and what to do: a sentence.
    pub reason: String,
}

/// Contradicted reports in one answer at most: more are of the same kind.
pub const MAX_CONTRADICTIONS: usize = 100;
/// Unserved volumes in one report at most: more are of the same kind.
pub const MAX_UNSERVED: usize = 1_000;
/// Characters of a sentence in a report at most.
const MAX_SENTENCE_CHARS: usize = 400;

/// A sentence short enough for a report.
pub fn bounded_sentence(text: &str) -> String {
    match text.char_indices().nth(MAX_SENTENCE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A volume file that no cluster has claimed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeignVolume {
    /// The id in its file name.
    pub id: VolumeId,
    /// The collection in its file name.
    pub collection: Collection,
    /// From its superblock.
    pub placement: ReplicaPlacement,
    /// From its superblock.
    pub ttl: Ttl,
    /// The kind of disk it lies on.
    pub disk: DiskType,
    /// Needles that its index lists as live.
    pub live_needles: u64,
}

/// A master's answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// The cluster.
    pub cluster: ClusterId,
    /// Whether this master leads.
    pub is_leader: bool,
    /// The report this master now builds on; 0 asks for a full one.
    pub acknowledged: u64,
    /// The size at which a volume is full, in bytes.
    pub volume_size_limit_bytes: u64,
    /// Configurations newer than those reported, those of admitted volumes among them.
    pub configs: Vec<VolumeConfig>,
    /// Foreign volumes that stay out, and why.
    pub refused: Vec<RefusedVolume>,
    /// Volumes that the server reported and that were deleted: their files are of no use.
    #[serde(default)]
    pub deleted: Vec<VolumeId>,
    /// Volumes whose report cannot be right beside what was agreed on, and why; told by the leader.
    #[serde(default)]
    pub contradicted: Vec<RefusedVolume>,
    /// The master's wall time, in nanoseconds since 1970; 0 if it does not say.
    #[serde(default)]
    pub wall_ns: u64,
    /// Who answers, whatever the address that was asked; none if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<MasterNode>,
}

/// One data directory of a master, by which one master at two addresses is told from two masters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MasterNode(pub u64);

/// A foreign volume that was not admitted, or a report that was not believed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedVolume {
    /// The volume.
    pub id: VolumeId,
    /// Why, and what to do.
    pub reason: String,
}
