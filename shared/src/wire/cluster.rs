//! What the masters agree on about a volume.

use serde::{Deserialize, Deserializer, Serialize};

use super::Decision;
use crate::id::{Collection, ReplicaPlacement, ServerId, Ttl, VolumeId};

/// The number of a volume's configuration; each change raises it by one.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A number that differs with every start of a server and grows with its clock.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// The kind of disk a volume is kept on, lower case; `hdd` unless told otherwise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskType(pub String);

impl Default for DiskType {
    fn default() -> Self {
        Self("hdd".to_owned())
    }
}

/// The only authority on who holds a volume and whether it takes writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct VolumeConfig {
    /// The volume.
    pub id: VolumeId,
    /// Its collection.
    pub collection: Collection,
    /// How many copies, how far apart.
    pub placement: ReplicaPlacement,
    /// The ttl its needles take unless they bring their own.
    pub ttl: Ttl,
    /// The kind of disk.
    pub disk: DiskType,
    /// Whether assign passes it over; reads, overwrites and deletes work.
    pub closed: bool,
    /// The number of this configuration, from 1.
    pub epoch: Epoch,
    /// Who holds it; never empty.
    #[serde(deserialize_with = "exact")]
    pub members: Vec<Member>,
    /// Whether it takes writes.
    pub state: VolumeState,
    /// The last epoch in which it took writes.
    pub last_writable: Option<LastWritable>,
    /// While it takes none: the members that decide what the last writable epoch left without an
    /// outcome or, once that is decided, hold the decision; each with the incarnation it had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed_with: Vec<(ServerId, Incarnation)>,
    /// What was decided about the writes that the last writable epoch left without an outcome;
    /// kept until the volume is writable again, and never made twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Where the search for the slot of the next server that joins begins; 0 before the first did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub next_slot: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_zero(slot: &u8) -> bool {
    *slot == 0
}

/// A list without room for more: one that is read has room for four, and a master keeps a
/// configuration for each volume.
fn exact<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Vec::deserialize(from).map(|list: Vec<T>| list.into_boxed_slice().into_vec())
}

impl VolumeConfig {
    /// Whether it concerns the server: as a member, or as one that is given a copy.
    pub fn names(&self, server: ServerId) -> bool {
        self.members.iter().any(|member| member.server == server)
            || self.state == VolumeState::Repairing { target: server }
    }
}

/// A server that holds a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The server, whatever its address.
    pub server: ServerId,
    /// Distinguishes the stamps of members' writes.
    pub slot: u8,
}

/// Whether a volume takes writes, as the masters agreed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum VolumeState {
    /// It does.
    Writable,
    /// It does not.
    ReadOnly {
        /// Why.
        reason: ReadOnlyReason,
    },
    /// It does not, and a server that is no member yet is given a copy.
    Repairing {
        /// That server.
        target: ServerId,
    },
}

/// Why the masters made a volume read-only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOnlyReason {
    /// Fewer copies exist than its placement asks for.
    MissingCopies,
    /// All copies are there; what was being written when a member was restarted is resolved.
    Resolving,
}

/// The last epoch of a volume that was writable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LastWritable {
    /// Its number.
    pub epoch: Epoch,
    /// Its members, each with the incarnation it had when the epoch began.
    #[serde(deserialize_with = "exact")]
    pub members: Vec<(ServerId, Incarnation)>,
}
