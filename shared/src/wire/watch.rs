//! What a volume server asks of every master besides its heartbeats, and a master of it.

use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::id::ServerId;

/// `GET /watch` on a master's cluster port, held until something changes that concerns the server,
/// or for half a minute. One is always held: that it breaks off says that the server died.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Who asks.
    pub server: ServerId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The version of the last answer of this master; none at first, which is answered at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// A master's answer: the next heartbeat, to be sent now, is answered with what changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// The version of the last change of a volume.
    pub version: u64,
}

/// The answer of `GET /admin/identity` on a volume server's cluster port: who runs there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// The server.
    pub server: ServerId,
    /// This run of it.
    pub incarnation: Incarnation,
}
