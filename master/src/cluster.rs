//! The whole picture: what the masters agreed on, what volume servers report, and the layouts
//! that follow from both.
//!
//! The topology is behind one mutex that is held for computing only. The layouts are replaced as
//! a whole whenever either side changed, under that mutex, so that an older picture never covers
//! a newer one; readers take the present one without waiting. Where both locks are needed the
//! topology's comes first. In a large cluster, where making them takes long, they are replaced on a
//! tick instead, and not on each.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    id::{ClusterId, ServerId, VolumeId},
    steady_clock::{SteadyClock, SteadyTime},
    wire::{Code, Incarnation, Problem, VolumeReport},
};
use tokio::sync::watch;

use crate::{
    cluster_log::ClusterLog,
    cluster_state::ClusterState,
    contradiction::Contradiction,
    event_board::EventBoard,
    map_board::MapBoard,
    rebuild_budget::RebuildBudget,
    topology::{Change, SILENCE_LIMIT, Topology},
    volume_layout::{LayoutKey, Layouts},
};

/// After its start a master waits this long for the volume servers that it does not know yet,
/// before it believes that they are gone: a little more than the silence that means death.
const JOIN_WINDOW: Duration = SILENCE_LIMIT.saturating_add(Duration::from_secs(1));
/// Contradictions that are remembered as logged; past this the memory starts anew.
const MAX_LOGGED: usize = 10_000;

/// What this master knows of the cluster.
pub(crate) struct Cluster {
    /// What was agreed on.
    pub(crate) log: Arc<dyn ClusterLog>,
    /// The size at which a volume is full, in bytes.
    pub(crate) volume_size_limit_bytes: u64,
    /// Where time comes from.
    pub(crate) clock: Clock,
    /// The volume map, for clients that wait for its changes.
    pub(crate) map: MapBoard,
    /// What happened.
    pub(crate) events: EventBoard,
    steady_clock: SteadyClock,
    topology: Mutex<Topology>,
    layouts: watch::Sender<Arc<Layouts>>,
    built_at: AtomicU64,
    /// Something changed that the layouts do not show yet.
    is_stale: AtomicBool,
    budget: Mutex<RebuildBudget>,
    started: BootTime,
    logged: Mutex<HashSet<Contradiction>>,
}

impl Cluster {
    /// A picture without volume servers.
    pub(crate) fn new(
        log: Arc<dyn ClusterLog>,
        volume_size_limit_bytes: u64,
        clock: Clock,
    ) -> Self {
        let cluster = Self {
            log,
            volume_size_limit_bytes,
            started: clock.boot(),
            map: MapBoard::new(rand::random()),
            events: EventBoard::new(rand::random()),
            steady_clock: SteadyClock::new(clock.clone()),
            clock,
            topology: Mutex::default(),
            layouts: watch::Sender::new(Arc::default()),
            built_at: AtomicU64::new(0),
            is_stale: AtomicBool::new(false),
            budget: Mutex::default(),
            logged: Mutex::default(),
        };
        cluster.refresh();
        cluster.look_at_leader();
        cluster
    }

    /// The present layouts.
    pub(crate) fn layouts(&self) -> Arc<Layouts> {
        self.layouts.borrow().clone()
    }

    /// The present layouts and word of every new ones.
    pub(crate) fn watch_layouts(&self) -> watch::Receiver<Arc<Layouts>> {
        self.layouts.subscribe()
    }

    /// The cluster's id; an error while the masters have not agreed on one.
    pub(crate) fn cluster_id(&self) -> Result<ClusterId, Problem> {
        let id = self.log.read(|state| state.cluster);
        id.ok_or_else(|| {
            let message = self.log.obstacle().unwrap_or_else(|| {
                "the masters have not founded the cluster yet: try again in a moment".to_owned()
            });
            Problem::new(Code::NotReady, message)
        })
    }

    /// Computes something from state and topology as of the same moment.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&ClusterState, &Topology) -> R) -> R {
        let topology = self.topology();
        self.log.read(|state| look(state, &topology))
    }

    /// Changes the topology, and the layouts if that is called for.
    pub(crate) fn update_topology<R>(
        &self,
        update: impl FnOnce(&mut Topology, BootTime) -> (R, Change),
    ) -> R {
        let mut topology = self.topology();
        let (result, change) = update(&mut topology, self.clock.boot());
        match change {
            Change::None => {}
            Change::Sizes => self.is_stale.store(true, Ordering::Relaxed),
            Change::Layout => self.rebuild_within_budget(&topology),
        }
        result
    }

    /// Takes in the answer to a creation: the volume can be written to at once.
    pub(crate) fn fold_creation(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        report: VolumeReport,
    ) {
        self.update_topology(|topology, now| {
            let change = topology.fold_creation(server, incarnation, report, now);
            ((), change)
        });
    }

    /// Brings the layouts up to date after a change of the agreed state, at the next tick at last.
    pub(crate) fn refresh(&self) {
        self.rebuild_within_budget(&self.topology());
    }

    /// Brings the layouts up to date now, for somebody who waits for what just changed.
    pub(crate) fn catch_up(&self) {
        if self.is_stale.load(Ordering::Relaxed) {
            self.rebuild(&self.topology());
        }
    }

    /// Wall time, and how far it may be believed. The log hears of a jump.
    pub(crate) fn time(&self) -> SteadyTime {
        let (time, jump) = self.steady_clock.look();
        if let Some(jump) = jump {
            tracing::warn!(
                "the clock of this master jumped {jump}: it deletes no volume whose time is over \
                 until the clock was steady for as long as the volume lives, an hour at most"
            );
        }
        time
    }

    /// What is due as time passes: servers that fell silent, changes that came from elsewhere, a
    /// clock that jumped.
    pub(crate) fn tick(&self) {
        self.time();
        self.look_at_leader();
        let mut topology = self.topology();
        let dead = topology.expire(self.clock.boot());
        let is_stale = self.is_stale.load(Ordering::Relaxed);
        let is_behind = self.built_at.load(Ordering::Relaxed) != self.log.applied();
        if !dead.is_empty() {
            self.rebuild(&topology);
        } else if is_stale || is_behind {
            self.rebuild_within_budget(&topology);
        }
    }

    /// Takes in what was applied since the layouts were made.
    pub(crate) fn follow(&self) {
        let topology = self.topology();
        if self.built_at.load(Ordering::Relaxed) != self.log.applied() {
            self.rebuild_within_budget(&topology);
        }
    }

    fn look_at_leader(&self) {
        let version = self.log.read(|state| state.changes.version());
        let happened = self.events.look_at_leader(&self.log.leadership(), version);
        self.events.tell(happened, self.wall_ms());
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ns() / 1_000_000
    }

    /// Whether it is too early to say that the layout has no server or no writable volume.
    pub(crate) fn awaits_servers(&self, layouts: &Layouts, key: &LayoutKey) -> bool {
        if self.clock.since(self.started) >= JOIN_WINDOW {
            return false;
        }
        let has_unheard = layouts.layouts.get(key).is_some_and(|l| l.unheard > 0);
        has_unheard || self.topology().alive().next().is_none()
    }

    /// Whether it is too early to say that nobody holds the volume, or that there is none.
    pub(crate) fn awaits_holder(&self, id: VolumeId) -> bool {
        let is_new = self.clock.since(self.started) < JOIN_WINDOW;
        let is_follower = !self.log.leads();
        self.look(|state, topology| match state.volumes.get(&id) {
            Some(config) => {
                is_new && config.members.iter().any(|member| !topology.has_heard(member.server))
            }
            // The leader may have handed out a fid of a volume that this one is about to hear of.
            None => is_new || (is_follower && !state.deleted.contains(id)),
        })
    }

    /// Whether servers that hold something may be there that this master has not heard yet.
    pub(crate) fn awaits_members(&self, state: &ClusterState, topology: &Topology) -> bool {
        let mut members = state.volumes.values().flat_map(|config| &config.members);
        self.clock.since(self.started) < JOIN_WINDOW
            && members.any(|member| !topology.has_heard(member.server))
    }

    fn topology(&self) -> MutexGuard<'_, Topology> {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild_within_budget(&self, topology: &Topology) {
        let now = self.clock.boot();
        let may_rebuild = self.budget.lock().unwrap_or_else(PoisonError::into_inner).is_left(now);
        if may_rebuild {
            self.rebuild(topology);
        } else {
            self.is_stale.store(true, Ordering::Relaxed);
        }
    }

    fn rebuild(&self, topology: &Topology) {
        let began = self.clock.boot();
        self.is_stale.store(false, Ordering::Relaxed);
        // Read before the state: an entry applied in between only causes another rebuild.
        let applied = self.log.applied();
        let (layouts, (version, cluster), happened) = self.log.read(|state| {
            let layouts = Layouts::build(state, topology, self.volume_size_limit_bytes);
            let happened = self.events.look(state, topology, &layouts);
            (layouts, (state.changes.version(), state.cluster), happened)
        });
        self.map.publish(version, cluster, topology);
        self.events.tell(happened, self.wall_ms());
        self.built_at.store(applied, Ordering::Relaxed);
        self.log_new_contradictions(&layouts.contradictions);
        self.layouts.send_if_modified(|present| {
            let is_new = **present != layouts;
            if is_new {
                *present = Arc::new(layouts);
            }
            is_new
        });
        let took = self.clock.since(began);
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).spend(took);
    }

    /// Each is logged once, not with every heartbeat.
    fn log_new_contradictions(&self, contradictions: &[Contradiction]) {
        // A follower may only not have heard yet of what was agreed on.
        if contradictions.is_empty() || !self.log.leadership().is_leader {
            return;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() > MAX_LOGGED {
            logged.clear();
        }
        for contradiction in contradictions {
            if logged.insert(contradiction.clone()) {
                tracing::error!("{contradiction}");
            }
        }
    }
}
