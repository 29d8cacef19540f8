//! The picture made from cluster state and topology, in one go.
//!
//! Work in proportion to the number of volumes: each is looked at once, and each of its members'
//! reports once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use dulse_shared::{
    id::ServerId,
    wire::{LocalState, VolumeConfig, VolumeReport, VolumeState},
};

use super::{
    Capacity, DiskId, LayoutKey, Layouts, Place, PlacedVolume, RoomyVolume, Standing, VolumeLayout,
    Writable,
};
use crate::{
    cluster_state::ClusterState,
    contradiction::{find_contradictions, is_same_kind},
    plan::creation::is_to_be_created,
    topology::{Topology, VolumeServer},
};

/// A volume filled to this share of the limit, in percent, counts as nearly full.
const CROWDED_PERCENT: u64 = 90;
/// The length of needles in a layout that has none yet.
const UNSEEN_NEEDLE_BYTES: u64 = 8 << 10;
/// No needle is expected to fill more than this part of a volume, so that a few fids that nobody
/// uses change nothing.
const MAX_NEEDLE_SHARE: u64 = 100;

impl Layouts {
    /// Builds the picture.
    pub(crate) fn build(state: &ClusterState, topology: &Topology, limit_bytes: u64) -> Self {
        let servers = topology.servers().map(|server| (server.id, Seen::of(server))).collect();
        let mut builder = Builder {
            servers,
            limit_bytes,
            layouts: Vec::new(),
            by_key: BTreeMap::new(),
            built: Self {
                contradictions: find_contradictions(state, topology),
                volumes: HashMap::with_capacity(state.volumes.len()),
                ..Self::default()
            },
        };
        for config in state.volumes.values() {
            builder.add(config);
        }
        builder.finish(topology)
    }
}

/// A server, and its address as the layouts share it.
struct Seen<'a> {
    server: &'a VolumeServer,
    place: Arc<Place>,
    /// The holders of a volume that it alone holds.
    alone: Arc<[Arc<Place>]>,
    /// What can be written there at most, by kind of disk.
    free_bytes: HashMap<&'a str, u64>,
}

/// A member of a volume and what it reports of it.
struct MemberView<'a> {
    id: ServerId,
    seen: Option<&'a Seen<'a>>,
    /// If it is alive and has the volume.
    report: Option<&'a VolumeReport>,
    /// It reports another one under the same id.
    is_other_kind: bool,
}

struct Builder<'a> {
    servers: HashMap<ServerId, Seen<'a>>,
    limit_bytes: u64,
    layouts: Vec<(LayoutKey, Draft)>,
    by_key: BTreeMap<LayoutKey, usize>,
    built: Layouts,
}

/// A layout while volumes are added.
#[derive(Default)]
struct Draft {
    writable: Vec<(RoomyVolume, DiskId, Arc<Place>)>,
    unheard: usize,
    needles: u64,
    needle_bytes: u64,
}

impl<'a> Seen<'a> {
    fn of(server: &'a VolumeServer) -> Self {
        let place = Arc::new(Place {
            server: server.id,
            url: server.url.clone(),
            public_url: server.public_url.clone(),
            data_center: server.data_center.clone(),
            rack: server.rack.clone(),
        });
        let mut free_bytes = HashMap::new();
        for dir in &server.dirs {
            let free = dir.free_bytes.saturating_sub(dir.min_free_bytes);
            *free_bytes.entry(dir.disk.0.as_str()).or_insert(0) += free;
        }
        Self { server, alone: Arc::new([place.clone()]), place, free_bytes }
    }
}

impl<'a> MemberView<'a> {
    fn of(id: ServerId, config: &VolumeConfig, servers: &'a HashMap<ServerId, Seen<'a>>) -> Self {
        let seen = servers.get(&id);
        let alive = seen.filter(|seen| seen.server.is_alive);
        let reported = alive.and_then(|seen| seen.server.volumes.get(&config.id));
        let report = reported.filter(|report| is_same_kind(config, report));
        Self { id, seen, report, is_other_kind: report.is_none() && reported.is_some() }
    }

    fn standing(&self, config: &VolumeConfig, limit_bytes: u64) -> Standing {
        let Some(server) = self.seen.map(|seen| seen.server).filter(|server| server.is_alive)
        else {
            return Standing::ServerGone;
        };
        if self.is_other_kind {
            return Standing::OtherKind;
        }
        let Some(report) = self.report else {
            return match is_to_be_created(config, server) {
                true => Standing::Creating,
                false => Standing::NotThere,
            };
        };
        let by_server = if server.stopping { Standing::Stopping } else { Standing::Writable };
        let is_current = report.epoch == config.epoch;
        let by_epoch = if is_current { Standing::Writable } else { Standing::Behind };
        by_server.max(by_epoch).max(standing_by_itself(report, limit_bytes))
    }
}

impl Builder<'_> {
    fn add(&mut self, config: &VolumeConfig) {
        let members = config.members.iter();
        let members: Vec<MemberView<'_>> =
            members.map(|m| MemberView::of(m.server, config, &self.servers)).collect();
        let standing = standing_of(config, &members, self.limit_bytes);
        let placed = PlacedVolume { epoch: config.epoch, standing, holders: holders(&members) };
        let is_heard =
            |member: &MemberView<'_>| member.seen.is_some_and(|seen| seen.server.seq > 0);
        let is_unheard = !members.iter().all(is_heard);
        let roomy = roomy_volume(config, &members, self.limit_bytes);
        let reports = members.iter().filter_map(|member| member.report);
        let longest = reports.max_by_key(|report| report.live_needles);
        let seen_needles = longest.map_or((0, 0), needles_in);
        let index = layout_index(&mut self.layouts, &mut self.by_key, config);
        if let Some((_, draft)) = self.layouts.get_mut(index) {
            draft.unheard += usize::from(is_unheard);
            draft.needles += seen_needles.0;
            draft.needle_bytes += seen_needles.1;
            draft.writable.extend(roomy.filter(|_| standing == Standing::Writable));
        }
        self.built.unreadable += usize::from(placed.holders.is_empty());
        *self.built.standings.entry(standing).or_default() += 1;
        self.built.volumes.insert(config.id, placed);
    }

    fn finish(self, topology: &Topology) -> Layouts {
        let Self { mut built, layouts, limit_bytes, .. } = self;
        let finished = layouts.into_iter().map(|(key, draft)| (key, draft.finish(limit_bytes)));
        built.layouts = finished.collect();
        built.capacity = Capacity::of(topology, &built.layouts);
        built
    }
}

impl Draft {
    fn finish(self, limit_bytes: u64) -> VolumeLayout {
        let seen = self.needle_bytes.checked_div(self.needles).unwrap_or(UNSEEN_NEEDLE_BYTES);
        let writable = Writable::of(self.writable);
        VolumeLayout {
            room_bytes: writable.volumes().map(|volume| volume.room_bytes).sum(),
            needle_bytes: seen.min(limit_bytes / MAX_NEEDLE_SHARE).max(1),
            unheard: self.unheard,
            writable,
        }
    }
}

/// The layout of a volume; most often it is the one of the volume before.
fn layout_index(
    layouts: &mut Vec<(LayoutKey, Draft)>,
    by_key: &mut BTreeMap<LayoutKey, usize>,
    config: &VolumeConfig,
) -> usize {
    if let Some(index) = layouts.iter().take(4).position(|(key, _)| key.is_of(config)) {
        return index;
    }
    let key = LayoutKey::of(config);
    *by_key.entry(key).or_insert_with_key(|key| {
        layouts.push((key.clone(), Draft::default()));
        layouts.len() - 1
    })
}

fn holders(members: &[MemberView<'_>]) -> Arc<[Arc<Place>]> {
    let holding = members.iter().filter(|member| member.report.is_some());
    match members {
        [MemberView { report: Some(_), seen: Some(only), .. }] => only.alone.clone(),
        _ => holding.filter_map(|member| Some(member.seen?.place.clone())).collect(),
    }
}

/// How much fits in, and where its first copy is; nothing unless all members have it.
fn roomy_volume(
    config: &VolumeConfig,
    members: &[MemberView<'_>],
    limit_bytes: u64,
) -> Option<(RoomyVolume, DiskId, Arc<Place>)> {
    let first = members.first()?;
    let device = first.report?.device;
    let reports: Option<Vec<(&Seen<'_>, &VolumeReport)>> =
        members.iter().map(|member| Some((member.seen?, member.report?))).collect();
    let (mut room_bytes, mut size_bytes) = (u64::MAX, 0);
    for (seen, report) in reports? {
        let on_disk = seen.free_bytes.get(report.disk.0.as_str()).copied().unwrap_or(0);
        room_bytes = room_bytes.min(limit_bytes.saturating_sub(report.size_bytes)).min(on_disk);
        size_bytes = size_bytes.max(report.size_bytes);
    }
    let crowded_bytes = limit_bytes / 100 * CROWDED_PERCENT;
    let until_crowded_bytes = crowded_bytes.saturating_sub(size_bytes);
    let volume = RoomyVolume { id: config.id, room_bytes, until_crowded_bytes };
    Some((volume, DiskId { server: first.id, device }, first.seen?.place.clone()))
}

/// Needles in the file, those that nobody can read any more included, and the bytes they take.
fn needles_in(report: &VolumeReport) -> (u64, u64) {
    let needles = report.live_needles.saturating_add(report.garbage_needles);
    (needles, report.live_bytes.saturating_add(report.garbage_bytes))
}

/// The gravest of what the configuration and each member say.
fn standing_of(config: &VolumeConfig, members: &[MemberView<'_>], limit_bytes: u64) -> Standing {
    let by_members = members.iter().map(|member| member.standing(config, limit_bytes)).max();
    // A configuration without members does not exist; if it did, nobody would have it.
    let by_members = by_members.unwrap_or(Standing::ServerGone);
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
