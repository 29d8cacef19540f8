//! The answer of `/cluster/map`: where every volume is, or what of that changed.

use serde::{Deserialize, Serialize};

use super::Epoch;
use crate::id::{Collection, ServerId, VolumeId};

/// Where volumes are. Whoever keeps one replaces, by id, what a newer one lists; of two entries
/// of one volume the one with the higher epoch is right, whichever master told it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeMap {
    /// To be sent as `since` with the next request, to this master or to another.
    pub cursor: String,
    /// The version of the last change of a volume that is in it: the same number at every master.
    pub version: u64,
    /// It lists everything, and replaces what was known.
    pub is_full: bool,
    /// Volumes that changed; in a full one, all.
    pub volumes: Vec<MappedVolume>,
    /// Volumes that are no more; in a full one, none.
    pub deleted: Vec<VolumeId>,
    /// Servers that changed, and those that hold `volumes`; in a full one, all that were heard.
    pub servers: Vec<MappedServer>,
}

/// A volume as the masters agreed on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MappedVolume {
    /// The volume.
    pub id: VolumeId,
    /// Its collection.
    pub collection: Collection,
    /// The number of its configuration.
    pub epoch: Epoch,
    /// Whether it takes writes.
    pub state: MappedState,
    /// Who holds it.
    pub members: Vec<ServerId>,
}

/// Whether a volume takes writes, as the masters agreed. How full it is, its server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MappedState {
    /// It does.
    Writable,
    /// It came from elsewhere: reads, overwrites and deletes, but no new needles.
    Closed,
    /// It does not.
    ReadOnly,
    /// It does not, and another copy is being made.
    Repairing,
}

/// A volume server, as the master that answers hears it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MappedServer {
    /// The server.
    pub id: ServerId,
    /// `host:port` of its public listener, for the cluster.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
    /// Whether it is there.
    pub is_alive: bool,
}
