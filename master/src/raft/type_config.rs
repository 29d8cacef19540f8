//! The one place that fills in the consensus library's generic parameters.
//!
//! A term has at most one leader (the textbook order of votes), so that a term by itself names a
//! leader and can fence what it handed out.

use std::{fmt, str::FromStr};

use dulse_shared::{
    net::address::{ParseServerAddressError, ServerAddress},
    wire::MasterNode,
};
use openraft::{alias, impls::leader_id_std};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::state_machine::StateMachine;
use crate::cluster_state::{Command, Outcome};

openraft::declare_raft_types!(
    /// The types of our Raft.
    pub(super) TypeConfig:
        D = Command,
        R = Option<Outcome>,
        NodeId = NodeId,
        Node = Peer,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(super) type Core = openraft::Raft<TypeConfig, StateMachine>;
pub(super) type Vote = alias::VoteOf<TypeConfig>;
pub(super) type LeaderId = alias::LeaderIdOf<TypeConfig>;
pub(super) type LogId = alias::LogIdOf<TypeConfig>;
pub(super) type Entry = alias::EntryOf<TypeConfig>;
pub(super) type Payload = alias::PayloadOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<NodeId, Peer>;
pub(super) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Metrics = openraft::RaftMetrics<TypeConfig>;

/// One data directory of a master: drawn at random when its database is made, never reused. A
/// master that lost its disk comes back under another one, because it has forgotten its votes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct NodeId(u64);

impl NodeId {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }
}

impl From<NodeId> for MasterNode {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

impl From<u64> for NodeId {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is not 16 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a node id of 16 hex digits")]
pub(super) struct ParseNodeIdError(String);

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        value.map(Self).ok_or_else(|| ParseNodeIdError(text.to_owned()))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a member is to be reached; in JSON its address as people write it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Peer {
    /// Its addresses.
    pub(super) address: ServerAddress,
}

impl From<Peer> for String {
    fn from(peer: Peer) -> Self {
        peer.address.to_string()
    }
}

impl TryFrom<String> for Peer {
    type Error = ParseServerAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text.parse()?;
        Ok(Self { address })
    }
}

#[cfg(test)]
impl Default for Peer {
    fn default() -> Self {
        Self { address: ServerAddress { host: "localhost".to_owned(), port: 1, cluster_port: 2 } }
    }
}
