//! What a volume's replicas tell the leader when the volume is sealed, and what it decides.

use serde::{Deserialize, Serialize};

use super::{Epoch, Incarnation};
use crate::id::{Digest, NeedleKey, Ts};

/// Names one write of one needle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct WriteId {
    /// The needle's key.
    pub key: NeedleKey,
    /// The write's stamp.
    pub ts: Ts,
}

/// The outcome of every write that some replica held without one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Decision {
    /// These took effect.
    pub commit: Vec<WriteId>,
    /// These never do.
    pub abort: Vec<WriteId>,
}

/// Whether a replica's copy may be read, written and asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has followed the volume without a break.
    Running,
    /// It was restarted or left out: neither read nor written until it has taken over the state
    /// of one that was not.
    Returned,
    /// The volume was written without it: never read again.
    Stale,
    /// Its disk failed.
    Failed,
}

/// A replica's answer to a configuration that is not writable, given once its fence is durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// Its fence.
    pub epoch: Epoch,
    /// This run of its server.
    pub incarnation: Incarnation,
    /// Its standing.
    pub standing: Standing,
    /// Whether it took over the state of unresolved keys from a replica that decided.
    pub has_adopted: bool,
    /// Its records from the first without an outcome on.
    pub unresolved: Vec<Unresolved>,
    /// Of its committed needles.
    pub digest: Digest,
}

/// A record whose outcome the replica's disk does not say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Unresolved {
    /// The write.
    pub id: WriteId,
    /// Whether it is a delete.
    pub is_tombstone: bool,
    /// What it adds to a digest when it is live; nothing for a tombstone.
    pub part: Digest,
}

/// What a replica holds of a write that some replica listed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// The write.
    pub id: WriteId,
    /// How.
    pub held: Held,
    /// The newest committed version of the key: its stamp and its part of the digest.
    pub newest: Option<(Ts, Digest)>,
}

/// How a replica holds a write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Stored, outcome unknown.
    Pending,
    /// Stored, in effect.
    Committed,
    /// Its bytes may be in the file, but it was aborted.
    Aborted,
    /// Not here, and neither is anything older of the key: a vacuum may have taken a tombstone
    /// and all before it.
    Traceless,
    /// Not here, though something older of the key is.
    Missing,
}
