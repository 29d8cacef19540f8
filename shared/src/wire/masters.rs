//! The masters of a cluster, as they tell of themselves and are told to change.

use serde::{Deserialize, Serialize};

/// One master.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MasterReport {
    /// Its address, as people write it.
    pub address: String,
    /// Its data directory: a master that lost it comes back as another node.
    pub node: String,
    /// What it does.
    pub role: MasterRole,
    /// It is the one that says so.
    pub is_this_one: bool,
    /// Agreed entries that it has not got yet; known to the leader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_behind: Option<u64>,
    /// Milliseconds since it last answered the leader; known to the leader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
}

/// What a master does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterRole {
    /// Hands out ids and decides what becomes of volumes.
    Leader,
    /// Has a vote.
    Follower,
    /// Is sent what was agreed on and has no vote yet.
    Learner,
}

/// `POST /admin/masters` on a master's cluster port, answered by [`Masters`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMasters {
    /// Take the new master at this address in.
    Add(String),
    /// Take the one at this address out.
    Remove(String),
    /// Have the one at this address lead, or any other than the present leader.
    Transfer(Option<String>),
}

/// `GET /admin/masters` on a master's cluster port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Masters {
    /// All of them.
    pub masters: Vec<MasterReport>,
}
