//! Which volumes a new needle may go to, and where every volume is.
//!
//! A layout is all volumes of one collection, replica placement, ttl and disk type. The whole
//! picture is built from the cluster state and the topology in one go and never changed
//! afterwards, so that readers share it without a lock. A volume is in a layout's writable list
//! only if its configuration says so and every member is alive and confirms it at that epoch.

mod build;
mod capacity;
mod expected;
mod writable;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use dulse_shared::{
    id::{Collection, ReplicaPlacement, ServerId, Ttl, VolumeId},
    wire::{DiskType, Epoch, VolumeConfig},
};
use rand::{Rng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::contradiction::Contradiction;

pub(crate) use capacity::Capacity;
pub(crate) use expected::ExpectedBytes;
pub(crate) use writable::{DiskId, RoomyVolume, Stock, Turn, Wanted, Writable};

/// What tells layouts apart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutKey {
    /// Whose volumes.
    pub(crate) collection: Collection,
    /// How many copies, how far apart.
    pub(crate) placement: ReplicaPlacement,
    /// The ttl of their needles.
    pub(crate) ttl: Ttl,
    /// The kind of disk.
    pub(crate) disk: DiskType,
}

/// Whether assign picks a volume, and if not, why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Standing {
    /// It does.
    Writable,
    /// Admitted from elsewhere: reads, deletes and overwrites work.
    Closed,
    /// It was agreed on and is being made.
    Creating,
    /// The size limit is reached.
    Full,
    /// The time of all its needles is over.
    Expired,
    /// The disk it lies on is short of room.
    LowSpace,
    /// Its server is about to stop.
    Stopping,
    /// A member serves an older configuration.
    Behind,
    /// Fewer copies exist than its placement asks for.
    MissingCopies,
    /// Needles in it do not verify.
    Corrupt,
    /// Its server has another file with its id.
    Duplicate,
    /// A part of its file does not verify.
    Damaged,
    /// Its format is older than the one that is written.
    OldFormat,
    /// A write or a sync failed.
    Failed,
    /// A member has something else under its id.
    OtherKind,
    /// A member is there but does not have it.
    NotThere,
    /// A member is not there.
    ServerGone,
}

impl Standing {
    /// One word for programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Closed => "closed",
            Self::Creating => "creating",
            Self::Full => "full",
            Self::Expired => "expired",
            Self::LowSpace => "low_space",
            Self::Stopping => "stopping",
            Self::Behind => "behind",
            Self::MissingCopies => "missing_copies",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate",
            Self::Damaged => "damaged",
            Self::OldFormat => "old_format",
            Self::Failed => "failed",
            Self::OtherKind => "other_kind",
            Self::NotThere => "not_there",
            Self::ServerGone => "server_gone",
        }
    }

    /// A sentence for people: what it means and what to do, if anything.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Writable => "takes new needles",
            Self::Closed => "came from elsewhere: readable, gets no new needles",
            Self::Creating => "is being made on its server",
            Self::Full => "at the volume size limit: readable, deletes work",
            Self::Expired => "all its needles have expired: it is about to be deleted",
            Self::LowSpace => "its disk is short of room: free space there",
            Self::Stopping => "its server is about to stop",
            Self::Behind => "its server has not taken over the newest configuration yet",
            Self::MissingCopies => "has fewer copies than its replication asks for",
            Self::Corrupt => {
                "needles in it do not verify: restore them; `dulse volume scrub` names them"
            }
            Self::Duplicate => {
                "its server has two files with its id: move one away, then start the server again"
            }
            Self::Damaged => "a part of its file does not verify: see the server's log",
            Self::OldFormat => "in an older format: readable, never written",
            Self::Failed => "a write failed: check the disk, then restart its server",
            Self::OtherKind => {
                "its server has a file with its id that is of another collection, replication or \
                 ttl: put the right one back"
            }
            Self::NotThere => {
                "its server runs without it: was a data directory taken away? pass it again"
            }
            Self::ServerGone => "its server is not there: start it again",
        }
    }
}

/// Where a server is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The server.
    pub(crate) server: ServerId,
    /// `host:port` for the cluster.
    pub(crate) url: String,
    /// The same for clients outside.
    pub(crate) public_url: String,
    /// Its data center.
    pub(crate) data_center: String,
    /// Its rack.
    pub(crate) rack: String,
}

/// A volume as clients may use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PlacedVolume {
    /// The number of its configuration.
    pub(crate) epoch: Epoch,
    /// Whether assign picks it.
    pub(crate) standing: Standing,
    /// Live members that have it.
    pub(crate) holders: Arc<[Arc<Place>]>,
}

/// The volumes of one layout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct VolumeLayout {
    /// Those that assign picks from.
    pub(crate) writable: Writable,
    /// Bytes that still fit into them.
    pub(crate) room_bytes: u64,
    /// How long needles of this layout are, as records; what assign expects of a fid.
    pub(crate) needle_bytes: u64,
    /// Volumes with a member that was never heard since this master started.
    pub(crate) unheard: usize,
}

/// Everything about all volumes, as of one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Layouts {
    /// Every volume of the cluster state.
    pub(crate) volumes: HashMap<VolumeId, PlacedVolume>,
    /// By layout; one exists as soon as it has a volume.
    pub(crate) layouts: BTreeMap<LayoutKey, VolumeLayout>,
    /// Where heartbeats and cluster state disagree.
    pub(crate) contradictions: Vec<Contradiction>,
    /// How many volumes stand how.
    standings: BTreeMap<Standing, usize>,
    /// How many volumes nobody can read.
    pub(crate) unreadable: usize,
    /// How much is left.
    pub(crate) capacity: Capacity,
}

impl Layouts {
    /// A writable volume and a live member of it: see [`Writable::pick`]. With a wish the member is
    /// the one that fulfils it.
    pub(crate) fn pick_writable(
        &self,
        key: &LayoutKey,
        wanted: &Wanted<'_>,
        rng: &mut impl Rng,
    ) -> Option<(RoomyVolume, &Arc<Place>)> {
        let (volume, first) = self.layouts.get(key)?.writable.pick(wanted, rng)?;
        if key.placement.copies() == 1 || !wanted.wish.is_none() {
            return Some((volume, first));
        }
        Some((volume, self.volumes.get(&volume.id)?.holders.choose(rng)?))
    }

    /// How many volumes stand so.
    pub(crate) fn count(&self, is_counted: impl Fn(Standing) -> bool) -> usize {
        let counted = self.standings.iter().filter(|(standing, _)| is_counted(**standing));
        counted.map(|(_, count)| count).sum()
    }
}

impl LayoutKey {
    /// Whether the volume belongs to it.
    pub(crate) fn is_of(&self, config: &VolumeConfig) -> bool {
        self.placement == config.placement
            && self.ttl == config.ttl
            && self.collection == config.collection
            && self.disk == config.disk
    }

    /// The layout that a volume belongs to.
    pub(crate) fn of(config: &VolumeConfig) -> Self {
        Self {
            collection: config.collection.clone(),
            placement: config.placement,
            ttl: config.ttl,
            disk: config.disk.clone(),
        }
    }
}

#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
