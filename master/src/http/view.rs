//! What the page shows, as data: rendered as HTML at `/ui`, as JSON at `/ui/status.json`.

use std::collections::BTreeMap;

use dulse_shared::{
    clock::BootTime,
    wire::{ClusterEvent, DirReport, MasterReport, VolumeConfig, VolumeReport},
};
use serde::Serialize;

use super::{
    state::HttpState,
    status::{self, public_address},
};
use crate::{
    cluster_state::ClusterState,
    health::{Health, judge},
    placement::LocationWish,
    plan::admission::{Admission, plan_admission},
    raft::Leadership,
    topology::{Topology, VolumeServer, data_centers},
    trouble,
    volume_layout::{LayoutKey, Layouts, Standing, VolumeLayout},
};

/// Volumes on the page; a browser has trouble with more rows. The JSON has all.
pub(super) const MAX_VOLUMES_SHOWN: usize = 5_000;
/// Events on the page; `/cluster/events` has more.
const EVENTS_SHOWN: usize = 20;

/// Everything on the page.
#[derive(Serialize)]
pub(super) struct StatusView {
    pub(super) version: &'static str,
    pub(super) cluster: Option<String>,
    pub(super) health: Health,
    pub(super) leader: String,
    pub(super) is_leader: bool,
    pub(super) term: u64,
    pub(super) masters: Vec<MasterReport>,
    pub(super) dir: String,
    pub(super) volume_size_limit_bytes: u64,
    pub(super) default_replication: String,
    pub(super) capacity: Capacity,
    pub(super) layouts: Vec<LayoutView>,
    pub(super) servers: Vec<ServerView>,
    pub(super) volumes: Vec<VolumeView>,
    /// Foreign volume files that stay out, and why.
    pub(super) refused: Vec<String>,
    /// Where servers and the agreed state disagree.
    pub(super) contradictions: Vec<String>,
    /// What happened last, newest first.
    pub(super) events: Vec<EventView>,
}

/// How the cluster is, without its volumes one by one.
#[derive(Serialize)]
pub(super) struct HealthView {
    #[serde(flatten)]
    health: Health,
    leader: String,
    is_leader: bool,
    /// `host:port` of the master that says so.
    address: String,
    term: u64,
    servers: Vec<HealthyServer>,
    /// How many volumes stand how.
    volumes: BTreeMap<&'static str, usize>,
}

/// A volume server in it.
#[derive(Serialize)]
struct HealthyServer {
    #[serde(flatten)]
    server: ServerView,
    state: &'static str,
}

/// The sums over everything that is connected.
#[derive(Serialize, Default)]
pub(super) struct Capacity {
    pub(super) servers: usize,
    pub(super) volumes: usize,
    pub(super) writable_volumes: usize,
    pub(super) max_volumes: u64,
    pub(super) free_slots: u64,
    /// Bytes that still fit into writable volumes.
    pub(super) writable_bytes: u64,
    /// Free bytes of directories with room, above the marks below which nothing is created.
    pub(super) free_disk_bytes: u64,
    pub(super) live_needles: u64,
    pub(super) live_bytes: u64,
    pub(super) garbage_bytes: u64,
}

/// What a layout has left.
#[derive(Serialize)]
pub(super) struct LayoutView {
    pub(super) collection: String,
    pub(super) replication: String,
    pub(super) ttl: String,
    pub(super) disk: String,
    pub(super) writable_volumes: usize,
    /// Those of them that are nearly full.
    pub(super) crowded_volumes: usize,
    pub(super) writable_bytes: u64,
}

/// A volume server.
#[derive(Serialize)]
pub(super) struct ServerView {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) public_url: String,
    pub(super) cluster_url: String,
    pub(super) data_center: String,
    pub(super) rack: String,
    pub(super) version: String,
    pub(super) is_alive: bool,
    pub(super) is_stopping: bool,
    pub(super) heard_secs_ago: f64,
    pub(super) volumes: usize,
    pub(super) max_volumes: u64,
    pub(super) free_slots: u64,
    /// Volumes that it still serves at an older epoch than was agreed on.
    pub(super) volumes_behind: usize,
    pub(super) dirs: Vec<DirReport>,
}

/// Something that happened.
#[derive(Serialize)]
pub(super) struct EventView {
    #[serde(flatten)]
    pub(super) event: ClusterEvent,
    pub(super) secs_ago: u64,
}

/// A volume.
#[derive(Serialize)]
pub(super) struct VolumeView {
    pub(super) id: u32,
    pub(super) collection: String,
    pub(super) replication: String,
    pub(super) ttl: String,
    pub(super) disk: String,
    pub(super) state: &'static str,
    pub(super) reason: String,
    pub(super) epoch: u64,
    pub(super) size_bytes: u64,
    pub(super) live_needles: u64,
    pub(super) live_bytes: u64,
    pub(super) garbage_bytes: u64,
    pub(super) servers: Vec<String>,
}

/// Looks at everything as of now.
pub(super) fn status_view(state: &HttpState) -> StatusView {
    let leadership = state.cluster.log.leadership();
    let masters = state.cluster.log.masters();
    let layouts = state.cluster.layouts();
    let now = state.cluster.clock.boot();
    let why_leaderless = state.cluster.log.why_leaderless();
    state.cluster.look(|agreed, topology| {
        let volumes = volume_views(agreed, topology, &layouts);
        StatusView {
            version: status::VERSION,
            cluster: agreed.cluster.map(|id| id.to_string()),
            health: judge(why_leaderless, topology, &layouts),
            leader: leader_words(&leadership),
            is_leader: leadership.is_leader,
            term: leadership.term,
            masters,
            dir: state.settings.dir.display().to_string(),
            volume_size_limit_bytes: state.cluster.volume_size_limit_bytes,
            default_replication: state.settings.default_replication.to_string(),
            capacity: capacity(topology, &layouts, &volumes),
            layouts: layouts.layouts.iter().map(layout_view).collect(),
            servers: server_views(agreed, topology, now),
            volumes,
            refused: refused(agreed, topology),
            contradictions: layouts.contradictions.iter().map(ToString::to_string).collect(),
            events: event_views(state),
        }
    })
}

fn event_views(state: &HttpState) -> Vec<EventView> {
    let now_ms = state.cluster.clock.wall_ns() / 1_000_000;
    let view = |event: ClusterEvent| EventView {
        secs_ago: now_ms.saturating_sub(event.at_ms) / 1_000,
        event,
    };
    state.cluster.events.newest(EVENTS_SHOWN).into_iter().map(view).collect()
}

/// The same, without volumes, for who asks often.
pub(super) fn health_view(state: &HttpState) -> HealthView {
    let leadership = state.cluster.log.leadership();
    let layouts = state.cluster.layouts();
    let now = state.cluster.clock.boot();
    let why_leaderless = state.cluster.log.why_leaderless();
    let mut volumes = BTreeMap::new();
    for volume in layouts.volumes.values() {
        *volumes.entry(volume.standing.word()).or_default() += 1;
    }
    state.cluster.look(|agreed, topology| {
        let servers = server_views(agreed, topology, now).into_iter();
        let servers = servers.map(|server| HealthyServer { state: server.state(), server });
        HealthView {
            health: judge(why_leaderless, topology, &layouts),
            leader: leadership.leader.as_ref().map(|leader| leader.public()).unwrap_or_default(),
            is_leader: leadership.is_leader,
            address: own_address(state),
            term: leadership.term,
            servers: servers.collect(),
            volumes,
        }
    })
}

/// `host:port` of this master, as the masters agreed on.
fn own_address(state: &HttpState) -> String {
    let masters = state.cluster.log.masters();
    let own = masters.iter().find(|master| master.is_this_one);
    own.map(|own| public_address(&own.address)).unwrap_or_default()
}

fn leader_words(leadership: &Leadership) -> String {
    leadership.leader.as_ref().map_or_else(|| "none".to_owned(), |leader| leader.public())
}

fn capacity(topology: &Topology, layouts: &Layouts, volumes: &[VolumeView]) -> Capacity {
    let servers = topology.alive().count();
    Capacity {
        servers,
        volumes: volumes.len(),
        writable_volumes: layouts.count(|standing| standing == Standing::Writable),
        max_volumes: layouts.capacity.max_volumes,
        free_slots: layouts.capacity.free_slots,
        writable_bytes: layouts.capacity.writable_bytes,
        free_disk_bytes: layouts.capacity.free_disk_bytes,
        live_needles: volumes.iter().map(|volume| volume.live_needles).sum(),
        live_bytes: volumes.iter().map(|volume| volume.live_bytes).sum(),
        garbage_bytes: volumes.iter().map(|volume| volume.garbage_bytes).sum(),
    }
}

fn layout_view((key, layout): (&LayoutKey, &VolumeLayout)) -> LayoutView {
    let stock = layout.writable.stock(&LocationWish::default());
    LayoutView {
        collection: key.collection.to_string(),
        replication: key.placement.to_string(),
        ttl: key.ttl.to_string(),
        disk: key.disk.0.clone(),
        writable_volumes: stock.volumes,
        crowded_volumes: stock.crowded,
        writable_bytes: layout.room_bytes,
    }
}

/// A server follows within a heartbeat, so it is seldom more than none.
fn volumes_behind(server: &VolumeServer, agreed: &ClusterState) -> usize {
    let is_behind = |report: &&VolumeReport| {
        agreed.volumes.get(&report.id).is_some_and(|config| config.epoch > report.epoch)
    };
    server.volumes.values().filter(is_behind).count()
}

fn server_views(agreed: &ClusterState, topology: &Topology, now: BootTime) -> Vec<ServerView> {
    let view = |server: &VolumeServer| ServerView {
        id: server.id.to_string(),
        url: server.url.clone(),
        public_url: server.public_url.clone(),
        cluster_url: server.cluster_url.clone(),
        data_center: server.data_center.clone(),
        rack: server.rack.clone(),
        version: server.version.clone(),
        is_alive: server.is_alive,
        is_stopping: server.stopping,
        heard_secs_ago: now.since(server.heard).as_secs_f64(),
        volumes: server.volumes.len(),
        max_volumes: server.max_volumes(),
        free_slots: server.empty_slots(None),
        volumes_behind: volumes_behind(server, agreed),
        dirs: server.dirs.clone(),
    };
    let centers = data_centers(topology, |server| !server.url.is_empty());
    let servers = centers.iter().flat_map(|center| &center.racks).flat_map(|rack| &rack.servers);
    servers.map(|server| view(server)).collect()
}

fn volume_views(agreed: &ClusterState, topology: &Topology, layouts: &Layouts) -> Vec<VolumeView> {
    let view = |config: &VolumeConfig| volume_view(config, topology, layouts);
    agreed.configs().map(view).collect()
}

fn volume_view(config: &VolumeConfig, topology: &Topology, layouts: &Layouts) -> VolumeView {
    // A volume committed since the layouts were built stands as one that nobody has reported yet.
    let standing =
        layouts.volumes.get(&config.id).map_or(Standing::NotThere, |volume| volume.standing);
    let reports =
        config.members.iter().filter_map(|member| topology.live_report(member.server, config.id));
    let report = reports.map(|(_, report)| report).max_by_key(|report| report.live_needles);
    VolumeView {
        id: config.id.as_u32(),
        collection: config.collection.to_string(),
        replication: config.placement.to_string(),
        ttl: config.ttl.to_string(),
        disk: config.disk.0.clone(),
        state: standing.word(),
        reason: reason_in_words(standing, config, topology),
        epoch: config.epoch.0,
        size_bytes: report.map_or(0, |report| report.size_bytes),
        live_needles: report.map_or(0, |report| report.live_needles),
        live_bytes: report.map_or(0, |report| report.live_bytes),
        garbage_bytes: report.map_or(0, |report| report.garbage_bytes),
        servers: member_names(config, topology),
    }
}

/// What the standing means, and what a member says about it.
fn reason_in_words(standing: Standing, config: &VolumeConfig, topology: &Topology) -> String {
    match trouble::reason_of(config, topology) {
        Some(reason) => format!("{}; {reason}", standing.sentence()),
        None => standing.sentence().to_owned(),
    }
}

/// Addresses where known, ids where not.
fn member_names(config: &VolumeConfig, topology: &Topology) -> Vec<String> {
    let name = |member: &dulse_shared::wire::Member| {
        let server = topology.server(member.server).filter(|s| !s.url.is_empty());
        server.map_or_else(|| member.server.to_string(), |server| server.url.clone())
    };
    config.members.iter().map(name).collect()
}

fn refused(agreed: &ClusterState, topology: &Topology) -> Vec<String> {
    let foreign = topology
        .alive()
        .flat_map(|server| server.foreign.iter().map(move |foreign| (server, foreign)));
    let refused = foreign.filter_map(|(server, foreign)| {
        match plan_admission(agreed, topology, server, foreign) {
            Admission::Refused(refused) => Some(refused.reason),
            Admission::Admit(_) | Admission::Admitted(_) => None,
        }
    });
    refused.collect()
}

impl EventView {
    /// When it happened, for people.
    pub(super) fn ago(&self) -> String {
        match self.secs_ago {
            secs @ 0..120 => format!("{secs} s ago"),
            secs @ 120..7_200 => format!("{} min ago", secs / 60),
            secs => format!("{} h ago", secs / 3_600),
        }
    }
}

impl ServerView {
    /// When it was last heard, for people.
    pub(super) fn heard(&self) -> String {
        format!("{:.1} s ago", self.heard_secs_ago)
    }

    /// What it is, in one word.
    pub(super) fn state(&self) -> &'static str {
        match (self.is_alive, self.is_stopping) {
            (true, false) => "alive",
            (true, true) => "stopping",
            (false, true) => "stopped",
            (false, false) => "gone",
        }
    }

    /// Slots in use, in percent.
    pub(super) fn used_percent(&self) -> u64 {
        let used = self.max_volumes.saturating_sub(self.free_slots);
        (used * 100).checked_div(self.max_volumes).unwrap_or(0)
    }
}

impl VolumeView {
    /// Its state, for people.
    pub(super) fn state_words(&self) -> String {
        self.state.replace('_', " ")
    }

    /// The share of the file that nobody can read any more, in percent.
    pub(super) fn garbage_percent(&self) -> u64 {
        let scaled = u128::from(self.garbage_bytes) * 100;
        let percent = scaled.checked_div(u128::from(self.size_bytes)).unwrap_or(0);
        u64::try_from(percent).unwrap_or(100)
    }
}
