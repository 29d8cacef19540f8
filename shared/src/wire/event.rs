//! What happened in a cluster, as a master saw it.

use serde::{Deserialize, Serialize};

use crate::id::VolumeId;

/// The answer of `/cluster/events`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventList {
    /// To be sent as `since` with the next request to this master.
    pub cursor: String,
    /// Oldest first; as far back as the master remembers, or since what was asked for.
    pub events: Vec<ClusterEvent>,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// Its number in this run of the master, from 1.
    pub number: u64,
    /// When the master saw it, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it is.
    pub kind: EventKind,
    /// `host:port` of the server that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The volume that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeId>,
    /// The same for people: a sentence.
    pub text: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A volume server was heard for the first time since this master started.
    Joined,
    /// One is not there any more: it stopped, died, or fell silent.
    Left,
    /// One that had left is back.
    Returned,
    /// One was started again before anybody missed it.
    Restarted,
    /// Another master leads.
    LeaderChanged,
    /// Volumes were added to a layout.
    Grown,
    /// A volume was agreed on.
    VolumeCreated,
    /// A volume that was made elsewhere was taken in.
    VolumeAdmitted,
    /// A volume became read-only.
    VolumeSealed,
    /// A volume became writable again.
    VolumeOpened,
    /// A volume has reached the size limit.
    VolumeFull,
    /// A volume was deleted.
    VolumeDeleted,
}

impl EventKind {
    /// Two words at most, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Returned => "returned",
            Self::Restarted => "restarted",
            Self::LeaderChanged => "leader changed",
            Self::Grown => "grown",
            Self::VolumeCreated => "volume created",
            Self::VolumeAdmitted => "volume admitted",
            Self::VolumeSealed => "volume sealed",
            Self::VolumeOpened => "volume opened",
            Self::VolumeFull => "volume full",
            Self::VolumeDeleted => "volume deleted",
        }
    }
}
