//! Making the masters' state anew from what volume servers hold, once all masters have lost it.

use serde::{Deserialize, Serialize};

use super::VolumeConfig;
use crate::id::{ClusterId, ServerId};

/// `GET /admin/volumes` on a volume server's cluster port: what lies in its directories, by the
/// sidecars.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldVolumes {
    /// The server.
    pub server: ServerId,
    /// The cluster that its directories belong to; none before it joined one.
    pub cluster: Option<ClusterId>,
    /// The last configuration that each volume's sidecar has.
    pub volumes: Vec<VolumeConfig>,
    /// The highest id in the name of any file, those of other programs and in the trash included;
    /// 0 if there is none.
    pub max_volume_id: u32,
    /// The highest needle key that masters can have granted: see [`GRANTED_BELOW`].
    pub max_key: u64,
    /// Masters of its cluster that answer it now, `host:port`.
    pub masters: Vec<String>,
    /// What could not be read, or is not this server's: sentences.
    pub left_out: Vec<String>,
}

/// Keys from here on were invented by clients: a cluster that assigned a million files a second would
/// be granted the first of them after nine years.
pub const GRANTED_BELOW: u64 = 1 << 48;

/// `POST /admin/recover` on a master's cluster port, answered by a [`RecoveryReport`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartRecovery {
    /// The volume servers, `host:port` or `host:port.clusterport`.
    pub from: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a recovery found and did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// The cluster.
    pub cluster: ClusterId,
    /// The volume servers that were asked.
    pub servers: Vec<RecoveredServer>,
    /// Volumes that the masters did not know of and now do, or would.
    pub restored: u64,
    /// Volumes that they knew already.
    pub known: u64,
    /// Needle keys go on at this one at least.
    pub next_key: u64,
    /// Volume ids go on at this one at least; 0 if none is left.
    pub next_volume_id: u32,
    /// Servers of the cluster that were not asked.
    pub absent: Vec<AbsentServer>,
    /// What was left as it is, and why: sentences.
    pub left_out: Vec<String>,
}

/// A volume server that was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecoveredServer {
    /// Where it was asked.
    pub address: String,
    /// Its id.
    pub server: ServerId,
    /// Volumes that it holds.
    pub volumes: u64,
}

/// A volume server of the cluster that was not asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AbsentServer {
    /// Its id.
    pub server: ServerId,
    /// `host:port` of its public listener, if it is there.
    pub url: Option<String>,
}
