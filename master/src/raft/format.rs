//! How votes, log entries and snapshots are written: JSON, each with a version of its own.
//!
//! These shapes are what lies in `raft.redb` and, inside the bodies of [`super::rpc`], what goes
//! over the wire. A reader refuses a version it does not know and ignores fields it does not
//! know, so fields may be added and nothing else changed. Golden tests hold the exact bytes.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{EntryPayload, entry::RaftEntry};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::type_config::{
    Entry, LeaderId, LogId, Membership, NodeId, Payload, Peer, SnapshotMeta, StoredMembership, Vote,
};
use crate::cluster_state::{ClusterState, Command};

/// The version that every shape here has today.
const VERSION: u32 = 1;

/// Bytes that are not what this program writes.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    /// Not the JSON that belongs there, or of a version that only a newer program knows.
    #[error("{what} cannot be read: {source}")]
    Json {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Voters without an address.
    #[error("a membership lists a voter without an address")]
    Membership,
}

/// Encodes a shape of this module.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FormatError> {
    let what = "a value to be written";
    serde_json::to_vec(value).map_err(|source| FormatError::Json { what, source })
}

/// Decodes a shape of this module; `what` names it in the error.
pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|source| FormatError::Json { what, source })
}

/// Written as the number [`VERSION`]; reading any other number fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        VERSION.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            VERSION => Ok(Self),
            other => Err(serde::de::Error::custom(format!(
                "it has version {other}, this program knows {VERSION}: install the newer program"
            ))),
        }
    }
}

/// What a database says about itself, written once when it is made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct HeaderJson {
    pub(super) version: Version,
    /// The node that owns the database.
    pub(super) node: NodeId,
}

/// A position in the log; a later one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct LogIdJson {
    pub(super) term: u64,
    pub(super) index: u64,
}

/// A position in the log by itself, as the database keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PositionJson {
    pub(super) version: Version,
    pub(super) at: Option<LogIdJson>,
}

/// For whom a node voted last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct VoteJson {
    pub(super) version: Version,
    pub(super) term: u64,
    pub(super) node: NodeId,
    /// A quorum voted for it: it leads.
    pub(super) leads: bool,
}

/// One log entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct EntryJson {
    pub(super) version: Version,
    pub(super) term: u64,
    pub(super) index: u64,
    pub(super) payload: PayloadJson,
}

/// What a log entry does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PayloadJson {
    /// Nothing: a new leader's first entry.
    Blank,
    /// Changes the cluster's state.
    Command(Command),
    /// Changes who the masters are.
    Membership(MembershipJson),
}

/// Who the masters are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct MembershipJson {
    /// The voters; two sets while changing from one to the other.
    pub(super) voters: Vec<BTreeSet<NodeId>>,
    /// Every voter and learner, with its address.
    pub(super) nodes: BTreeMap<NodeId, Peer>,
}

/// The state after all entries up to `last_applied`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotJson {
    pub(super) version: Version,
    pub(super) last_applied: Option<LogIdJson>,
    /// The entry that set `membership`.
    pub(super) membership_at: Option<LogIdJson>,
    pub(super) membership: MembershipJson,
    pub(super) state: ClusterState,
}

impl From<&LogId> for LogIdJson {
    fn from(log_id: &LogId) -> Self {
        Self { term: *log_id.leader_id, index: log_id.index }
    }
}

impl From<LogIdJson> for LogId {
    fn from(json: LogIdJson) -> Self {
        Self::new_term_index(json.term, json.index)
    }
}

impl From<Option<&LogId>> for PositionJson {
    fn from(log_id: Option<&LogId>) -> Self {
        Self { version: Version, at: log_id.map(LogIdJson::from) }
    }
}

impl From<PositionJson> for Option<LogId> {
    fn from(json: PositionJson) -> Self {
        json.at.map(LogId::from)
    }
}

impl From<&Vote> for VoteJson {
    fn from(vote: &Vote) -> Self {
        Self {
            version: Version,
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            leads: vote.committed,
        }
    }
}

impl From<VoteJson> for Vote {
    fn from(json: VoteJson) -> Self {
        Self {
            leader_id: LeaderId { term: json.term, voted_for: json.node },
            committed: json.leads,
        }
    }
}

impl From<&Entry> for EntryJson {
    fn from(entry: &Entry) -> Self {
        let LogIdJson { term, index } = (&entry.log_id).into();
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadJson::Blank,
            EntryPayload::Normal(command) => PayloadJson::Command(command.clone()),
            EntryPayload::Membership(membership) => PayloadJson::Membership(membership.into()),
        };
        Self { version: Version, term, index, payload }
    }
}

impl EntryJson {
    /// The entry.
    pub(super) fn into_entry(self) -> Result<Entry, FormatError> {
        let payload = match self.payload {
            PayloadJson::Blank => Payload::Blank,
            PayloadJson::Command(command) => Payload::Normal(command),
            PayloadJson::Membership(membership) => {
                Payload::Membership(membership.into_membership()?)
            }
        };
        let log_id = LogId::new_term_index(self.term, self.index);
        Ok(Entry::new(log_id, payload))
    }
}

impl From<&Membership> for MembershipJson {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(node, peer)| (*node, peer.clone())).collect(),
        }
    }
}

impl MembershipJson {
    /// The membership; an empty one is that of a node which is in no cluster yet.
    pub(super) fn into_membership(self) -> Result<Membership, FormatError> {
        if self.voters.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.voters, self.nodes).map_err(|_| FormatError::Membership)
    }
}

impl SnapshotJson {
    /// A snapshot of `state`.
    pub(super) fn new(meta: &SnapshotMeta, state: ClusterState) -> Self {
        Self {
            version: Version,
            last_applied: meta.last_log_id.as_ref().map(LogIdJson::from),
            membership_at: meta.last_membership.log_id().as_ref().map(LogIdJson::from),
            membership: meta.last_membership.membership().into(),
            state,
        }
    }

    /// Its two parts.
    pub(super) fn into_parts(self) -> Result<(SnapshotMeta, ClusterState), FormatError> {
        let membership_at = self.membership_at.map(LogId::from);
        let membership = self.membership.into_membership()?;
        let meta = SnapshotMeta {
            last_log_id: self.last_applied.map(LogId::from),
            last_membership: StoredMembership::new(membership_at, membership),
        };
        Ok((meta, self.state))
    }
}
