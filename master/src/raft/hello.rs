//! What masters say of themselves before, and beside, Raft: `POST /raft/hello` with an
//! [`Introduction`] is answered by the other's; `POST /raft/join` asks the leader to be taken in.
//!
//! Unlike Raft's own messages these are for whoever is at an address: that is what is asked.

use std::collections::BTreeMap;

use dulse_shared::id::ClusterId;
use serde::{Deserialize, Serialize};

use super::{
    format::Version,
    type_config::{NodeId, Peer},
};
use crate::cluster_state::Recovery;

/// `POST` an [`Introduction`], answered by one.
pub(super) const HELLO: &str = "/raft/hello";
/// `POST` a [`JoinRequest`] to the leader, answered by a [`Joined`] once that is agreed on.
pub(super) const JOIN: &str = "/raft/join";

/// Who a master is and what it knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Introduction {
    pub(super) version: Version,
    /// Its data directory.
    pub(super) node: NodeId,
    /// Where others reach it.
    pub(super) address: Peer,
    /// The masters it was told to found a cluster with, itself included; sorted.
    pub(super) peers: Vec<Peer>,
    pub(super) standing: Standing,
}

/// Whether a master is in a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It never was.
    New {
        /// Volume servers of a cluster that reported to it all the same.
        heard: Vec<HeardCluster>,
        /// The cluster that somebody asked to recover.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<Recovery>,
    },
    /// It is, or was.
    Member {
        /// The cluster, once it has a name.
        cluster: Option<ClusterId>,
        /// All its masters.
        members: BTreeMap<NodeId, Peer>,
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
}

/// A volume server that belongs to a cluster already.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct HeardCluster {
    /// Its address as people write it.
    pub(super) server: String,
    /// Its cluster.
    pub(super) cluster: ClusterId,
}

/// A new master at a member's address asks to take that member's place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct JoinRequest {
    pub(super) version: Version,
    pub(super) node: NodeId,
    pub(super) address: Peer,
}

/// It is a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Joined {
    pub(super) version: Version,
}
