//! Which volumes a new needle may go to, and where every volume is.
//!
//! A layout is all volumes of one collection, replica placement, ttl and disk type. The whole
//! picture is built from the cluster state and the topology in one go and never changed
//! afterwards, so that readers share it without a lock. A volume is in a layout's writable list
//! only if its configuration says so and every member is alive and confirms it at that epoch.

mod writable;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use dulse_shared::{
    id::{Collection, ReplicaPlacement, ServerId, Ttl, VolumeId},
    wire::{DiskType, Epoch, LocalState, VolumeConfig, VolumeReport, VolumeState},
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    cluster_state::ClusterState,
    contradiction::{Contradiction, find_contradictions},
    plan::creation::is_to_be_created,
    topology::{Topology, VolumeServer},
};

pub(crate) use writable::{DiskId, Turn, Writable};

/// A volume filled to this share of the limit, in percent, counts as nearly full.
const CROWDED_PERCENT: u64 = 90;

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
    pub(crate) holders: Vec<Arc<Place>>,
}

/// The volumes of one layout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct VolumeLayout {
    /// Those that assign picks from.
    pub(crate) writable: Writable,
    /// How many of them are nearly full.
    pub(crate) crowded: usize,
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
}

impl Layouts {
    /// Builds the picture; work in proportion to the number of volumes.
    pub(crate) fn build(state: &ClusterState, topology: &Topology, limit_bytes: u64) -> Self {
        let places = live_places(topology);
        let mut layouts =
            Self { contradictions: find_contradictions(state, topology), ..Self::default() };
        for config in state.volumes.values() {
            let layout = layouts.layouts.entry(LayoutKey::of(config)).or_default();
            let standing = standing_of(config, topology, limit_bytes);
            if standing == Standing::Writable
                && let Some(disk) = disk_of(config, topology)
            {
                layout.writable.push(config.id, disk);
                layout.crowded += usize::from(is_crowded(config, topology, limit_bytes));
            }
            layout.unheard += usize::from(is_unheard(config, topology));
            let volume = PlacedVolume {
                epoch: config.epoch,
                standing,
                holders: holders(config, topology, &places),
            };
            layouts.volumes.insert(config.id, volume);
        }
        layouts
    }

    /// A writable volume that is not one of `avoid`: see [`Writable::pick`].
    pub(crate) fn pick_writable(
        &self,
        key: &LayoutKey,
        avoid: &[VolumeId],
        turn: Turn,
        rng: &mut impl Rng,
    ) -> Option<(VolumeId, &PlacedVolume)> {
        let id = self.layouts.get(key)?.writable.pick(avoid, turn, rng)?;
        Some((id, self.volumes.get(&id)?))
    }

    /// How many volumes stand so.
    pub(crate) fn count(&self, is_counted: impl Fn(Standing) -> bool) -> usize {
        let standings = self.volumes.values().map(|volume| volume.standing);
        standings.filter(|standing| is_counted(*standing)).count()
    }
}

impl LayoutKey {
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

fn live_places(topology: &Topology) -> HashMap<ServerId, Arc<Place>> {
    let place = |server: &VolumeServer| Place {
        server: server.id,
        url: server.url.clone(),
        public_url: server.public_url.clone(),
        data_center: server.data_center.clone(),
        rack: server.rack.clone(),
    };
    topology.alive().map(|server| (server.id, Arc::new(place(server)))).collect()
}

fn holders(
    config: &VolumeConfig,
    topology: &Topology,
    places: &HashMap<ServerId, Arc<Place>>,
) -> Vec<Arc<Place>> {
    let has_it = |server: &ServerId| topology.live_report(*server, config.id).is_some();
    config
        .members
        .iter()
        .map(|member| member.server)
        .filter(has_it)
        .filter_map(|server| places.get(&server).cloned())
        .collect()
}

/// The disk that the first of its members has it on.
fn disk_of(config: &VolumeConfig, topology: &Topology) -> Option<DiskId> {
    let member = config.members.first()?;
    let (_, report) = topology.live_report(member.server, config.id)?;
    Some(DiskId { server: member.server, device: report.device })
}

/// The gravest of what the configuration and each member say.
fn standing_of(config: &VolumeConfig, topology: &Topology, limit_bytes: u64) -> Standing {
    let by_members = config
        .members
        .iter()
        .map(|member| standing_at(member.server, config, topology, limit_bytes))
        .max()
        // A configuration without members does not exist; if it did, nobody would have it.
        .unwrap_or(Standing::ServerGone);
    let by_config = match config.state {
        VolumeState::ReadOnly { .. } | VolumeState::Repairing { .. } => Standing::MissingCopies,
        VolumeState::Writable if config.members.len() < config.placement.copies() => {
            Standing::MissingCopies
        }
        VolumeState::Writable if config.closed => Standing::Closed,
        VolumeState::Writable => Standing::Writable,
    };
    by_members.max(by_config)
}

fn standing_at(
    member: ServerId,
    config: &VolumeConfig,
    topology: &Topology,
    limit_bytes: u64,
) -> Standing {
    let Some(server) = topology.server(member).filter(|server| server.is_alive) else {
        return Standing::ServerGone;
    };
    let Some(report) = server.volumes.get(&config.id) else {
        return if is_to_be_created(config, server) {
            Standing::Creating
        } else {
            Standing::NotThere
        };
    };
    let by_server = if server.stopping { Standing::Stopping } else { Standing::Writable };
    let by_epoch = if report.epoch == config.epoch { Standing::Writable } else { Standing::Behind };
    by_server.max(by_epoch).max(standing_by_itself(report, limit_bytes))
}

fn standing_by_itself(report: &VolumeReport, limit_bytes: u64) -> Standing {
    match report.local {
        LocalState::Failed => Standing::Failed,
        LocalState::OldFormat => Standing::OldFormat,
        LocalState::Damaged => Standing::Damaged,
        LocalState::Duplicate => Standing::Duplicate,
        LocalState::Corrupt => Standing::Corrupt,
        LocalState::Expired => Standing::Expired,
        LocalState::Full => Standing::Full,
        _ if report.size_bytes >= limit_bytes => Standing::Full,
        LocalState::LowSpace => Standing::LowSpace,
        LocalState::Ready => Standing::Writable,
    }
}

fn is_crowded(config: &VolumeConfig, topology: &Topology, limit_bytes: u64) -> bool {
    let crowded_bytes = limit_bytes / 100 * CROWDED_PERCENT;
    config.members.iter().any(|member| {
        topology
            .live_report(member.server, config.id)
            .is_some_and(|(_, report)| report.size_bytes >= crowded_bytes)
    })
}

/// Whether a member was never heard since this master started.
pub(crate) fn is_unheard(config: &VolumeConfig, topology: &Topology) -> bool {
    let is_known = |server| topology.server(server).is_some_and(|known| known.seq > 0);
    config.members.iter().any(|member| !is_known(member.server))
}

#[cfg(test)]
mod tests;
