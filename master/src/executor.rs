//! Performs what was planned: grows layouts, completes interrupted creations, deletes volumes
//! whose time is over.
//!
//! A layout grows in one task at a time, which everybody who needs it waits for: the first volume
//! is enough for them, the others follow in the background. What a plan says is only ever done by
//! the leader, through a committed command first.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::{ClusterId, ReplicaPlacement, ServerId, VolumeId},
    net::{
        peer::{PeerClient, PeerError},
        tasks::Tasks,
    },
    wire::{Code, CreateVolume, Problem, VolumeConfig, VolumeReport},
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::{
    cluster::Cluster,
    cluster_state::{Command, Outcome},
    placement::{LocationWish, PlacementError, place_volumes, rooms},
    plan::{
        creation::{Creation, creations_of, is_due, plan_creations},
        expiry::plan_deletions,
        growth::volumes_to_grow,
    },
    volume_layout::LayoutKey,
};

/// Creating a volume is a few small files and syncs; a disk that needs longer is no good.
const CREATE_LIMIT: Duration = Duration::from_secs(10);
/// A server whose first heartbeat was just answered is still joining the cluster: it writes that
/// down, which takes a few syncs. It is asked again this often…
const JOIN_ATTEMPTS: u32 = 100;
/// …after this long, so for a second in all.
const JOIN_PAUSE: Duration = Duration::from_millis(10);
/// Volumes created at the same time: enough to hide the latency of syncs, few enough that a disk
/// under load is not flooded.
const CREATIONS_AT_ONCE: usize = 4;
/// Interrupted creations completed in one go; the others in the following ones.
const MAX_COMPLETED_AT_ONCE: usize = 64;
/// Growing ahead of need rests this long after it failed, so that a full cluster is not asked
/// with every assign.
const GROW_AHEAD_PAUSE: Duration = Duration::from_secs(2);

/// How a growth is getting on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It is under way.
    Running,
    /// It is over.
    Ended(Result<(), Problem>),
}

/// Grows layouts and completes creations.
pub(crate) struct Executor {
    cluster: Arc<Cluster>,
    peers: PeerClient,
    tasks: Tasks,
    work: Mutex<Work>,
    /// Held from a plan to its agreement, so that no slot is promised twice.
    planning: tokio::sync::Mutex<()>,
}

/// A layout, and where in the cluster it grows.
type Where = (LayoutKey, LocationWish);

#[derive(Default)]
struct Work {
    /// Layouts that are growing: at most one growth each in one place.
    growing: HashMap<Where, watch::Receiver<Progress>>,
    /// When growing a layout ahead of need last failed, and how many slots were free then.
    failed_ahead: HashMap<Where, (BootTime, u64)>,
    /// Creations under way.
    creating: HashSet<(VolumeId, ServerId)>,
    /// Creations that failed, and when.
    failed: HashMap<(VolumeId, ServerId), BootTime>,
}

impl Executor {
    /// An executor with nothing to do.
    pub(crate) fn new(cluster: Arc<Cluster>, peers: PeerClient, tasks: Tasks) -> Self {
        Self {
            cluster,
            peers,
            tasks,
            work: Mutex::default(),
            planning: tokio::sync::Mutex::default(),
        }
    }

    /// Grows the layout where it is wished, by as many volumes as somebody asks for, unless it is
    /// growing there already; how that is getting on.
    pub(crate) fn grow(
        self: &Arc<Self>,
        key: &LayoutKey,
        wish: &LocationWish,
        asked: Option<usize>,
    ) -> watch::Receiver<Progress> {
        let place = (key.clone(), wish.clone());
        let mut work = self.work();
        if let Some(progress) = work.growing.get(&place) {
            return progress.clone();
        }
        let (report, progress) = watch::channel(Progress::Running);
        work.growing.insert(place.clone(), progress.clone());
        let executor = self.clone();
        self.tasks.spawn_in_background(async move {
            let result = executor.grow_layout(&place, asked).await;
            executor.note_growth(place, &result);
            report.send_replace(Progress::Ended(result));
        });
        progress
    }

    /// Grows the layout in the background, unless that failed a moment ago and no room came since.
    pub(crate) fn grow_ahead(
        self: &Arc<Self>,
        key: &LayoutKey,
        wish: &LocationWish,
        asked: Option<usize>,
    ) {
        let now = self.cluster.clock.boot();
        let failed = self.work().failed_ahead.get(&(key.clone(), wish.clone())).copied();
        let is_due = failed.is_none_or(|(failed, free_slots)| {
            now.since(failed) >= GROW_AHEAD_PAUSE
                || self.cluster.layouts().capacity.free_slots > free_slots
        });
        if is_due {
            self.grow(key, wish, asked);
        }
    }

    /// Creates exactly `count` volumes, all of them or none; how many copies there are in all.
    pub(crate) async fn grow_by(
        &self,
        key: &LayoutKey,
        wish: &LocationWish,
        count: usize,
    ) -> Result<usize, Problem> {
        let planning = self.planning.lock().await;
        let command = self.plan_growth(key, wish, |_| count)?;
        let planned = match &command {
            Command::CreateVolumes { members, .. } => members.len(),
            _ => 0,
        };
        if planned < count {
            let message = format!(
                "there is room for {planned} volumes of the {count} that are asked for: add a \
                 volume server, or ask for fewer; nothing was created"
            );
            return Err(Problem::new(Code::NoWritableVolume, message));
        }
        let creations = self.commit_growth(key, command).await?;
        drop(planning);
        let copies = creations.len();
        self.create_first_then_rest(creations).await?;
        self.cluster.catch_up();
        Ok(copies)
    }

    fn note_growth(&self, place: Where, result: &Result<(), Problem>) {
        let now = self.cluster.clock.boot();
        let free_slots = self.cluster.layouts().capacity.free_slots;
        let mut work = self.work();
        work.growing.remove(&place);
        work.failed_ahead.retain(|_, (failed, _)| now.since(*failed) < GROW_AHEAD_PAUSE);
        if result.is_err() {
            work.failed_ahead.insert(place, (now, free_slots));
        }
    }

    async fn grow_layout(&self, (key, wish): &Where, asked: Option<usize>) -> Result<(), Problem> {
        let count = |free_slots| volumes_to_grow(key.placement, free_slots, asked);
        let planning = self.planning.lock().await;
        let command = self.plan_growth(key, wish, count)?;
        let creations = self.commit_growth(key, command).await?;
        drop(planning);
        self.create_first_then_rest(creations).await
    }

    /// Agrees on new volumes; what is to be made then.
    async fn commit_growth(
        &self,
        key: &LayoutKey,
        command: Command,
    ) -> Result<Vec<Creation>, Problem> {
        let configs = self.commit_creation(command).await?;
        self.cluster.refresh();
        tracing::info!(
            "growing {} volumes for collection {:?}, replication {}, ttl {:?}, disk {}",
            configs.len(),
            key.collection,
            key.placement,
            key.ttl.to_string(),
            key.disk.0
        );
        Ok(self.cluster.look(|_, topology| {
            let of_each = configs.iter().map(|c| creations_of(c, topology));
            of_each.flatten().collect()
        }))
    }

    fn plan_growth(
        &self,
        key: &LayoutKey,
        wish: &LocationWish,
        count: impl Fn(u64) -> usize,
    ) -> Result<Command, Problem> {
        require_supported(key.placement)?;
        let rooms = self
            .cluster
            .look(|state, topology| rooms(topology, state, &key.disk))
            .map_err(unplaced)?;
        let there = rooms.iter().filter(|room| room.fulfils(wish));
        let free_slots = there.map(|room| room.free_slots).sum();
        let members =
            place_volumes(key.placement, wish, rooms, count(free_slots), &mut rand::rng());
        Ok(Command::CreateVolumes {
            collection: key.collection.clone(),
            placement: key.placement,
            ttl: key.ttl,
            disk: key.disk.clone(),
            members: members.map_err(unplaced)?,
        })
    }

    async fn commit_creation(&self, command: Command) -> Result<Vec<VolumeConfig>, Problem> {
        match self.cluster.log.propose(command).await? {
            Outcome::Volumes { configs } => Ok(configs),
            Outcome::Refused { refusal } => {
                Err(Problem::new(Code::NoWritableVolume, refusal.to_string()))
            }
            other => Err(Problem::new(Code::Internal, format!("creating volumes gave {other:?}"))),
        }
    }

    /// Creations one by one until one succeeded, then the rest side by side: who waits for the
    /// first does not share the disk with the others.
    async fn create_first_then_rest(&self, creations: Vec<Creation>) -> Result<(), Problem> {
        let cluster = self.cluster.cluster_id()?;
        let mut rest = creations.into_iter();
        let mut last_error = None;
        for creation in rest.by_ref() {
            match self.create(cluster, &creation).await {
                Ok(()) => {
                    last_error = None;
                    break;
                }
                Err(error) => last_error = Some(error),
            }
        }
        stream::iter(rest)
            .for_each_concurrent(CREATIONS_AT_ONCE, |creation| async move {
                // What failed is logged, and tried again by `complete_creations`.
                let _ = self.create(cluster, &creation).await;
            })
            .await;
        match last_error {
            None => Ok(()),
            Some(error) => Err(Problem::new(
                Code::NoWritableVolume,
                format!("no new volume could be created: {error}; see that server's log"),
            )),
        }
    }

    /// Makes one volume on one member and takes its report in.
    async fn create(&self, cluster: ClusterId, creation: &Creation) -> Result<(), PeerError> {
        let what = (creation.config.id, creation.server);
        if !self.work().creating.insert(what) {
            return Ok(());
        }
        let result = self.ask_to_create(cluster, creation).await;
        let now = self.cluster.clock.boot();
        let mut work = self.work();
        work.creating.remove(&what);
        match result {
            Ok(report) => {
                work.failed.remove(&what);
                drop(work);
                let (server, incarnation) = (creation.server, creation.incarnation);
                self.cluster.fold_creation(server, incarnation, report);
                Ok(())
            }
            Err(error) => {
                work.failed.insert(what, now);
                drop(work);
                let id = creation.config.id;
                tracing::warn!("cannot create volume {id}, will try again: {error}");
                Err(error)
            }
        }
    }

    async fn ask_to_create(
        &self,
        cluster: ClusterId,
        creation: &Creation,
    ) -> Result<VolumeReport, PeerError> {
        let body = CreateVolume { cluster, config: creation.config.clone() };
        let (address, path) = (&creation.cluster_url, "/admin/volume/create");
        let mut left = JOIN_ATTEMPTS;
        loop {
            let answer = self.peers.post(address, path, &body, CREATE_LIMIT).await;
            let Err(PeerError::Refused { code: Some(Code::NotReady), .. }) = answer else {
                return answer;
            };
            left -= 1;
            if left == 0 || self.tasks.is_stopping() {
                return answer;
            }
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    }

    /// Creates what was agreed on but is not there, because a growth was interrupted.
    pub(crate) async fn complete_creations(&self) {
        if !self.cluster.log.leadership().is_leader {
            return;
        }
        let Ok(cluster) = self.cluster.cluster_id() else {
            return;
        };
        let planned = self
            .cluster
            .look(|state, topology| plan_creations(state, topology, MAX_COMPLETED_AT_ONCE));
        let due: Vec<Creation> = planned.into_iter().filter(|c| self.is_open(c)).collect();
        stream::iter(due)
            .for_each_concurrent(CREATIONS_AT_ONCE, |creation| async move {
                // What failed is logged, and tried again later.
                let _ = self.create(cluster, &creation).await;
            })
            .await;
    }

    /// Deletes the volumes of which every member says that they have expired.
    pub(crate) async fn delete_expired(&self) {
        if !self.cluster.log.leadership().is_leader {
            return;
        }
        let now = self.cluster.time();
        let volumes = self.cluster.look(|state, topology| plan_deletions(state, topology, now));
        if volumes.is_empty() {
            return;
        }
        match self.cluster.log.propose(Command::DeleteVolumes { volumes }).await {
            Ok(Outcome::Deleted { ids }) => {
                for id in ids {
                    tracing::info!("volume {id} was deleted: all its needles have expired");
                }
                self.cluster.refresh();
            }
            Ok(other) => tracing::error!("deleting volumes gave {other:?}"),
            // They are planned again.
            Err(error) => tracing::warn!("cannot delete expired volumes now: {error}"),
        }
    }

    /// Whether nobody is at it, or was in vain a moment ago. While a layout grows, everything is
    /// left to the growth: its first volume is waited for.
    fn is_open(&self, creation: &Creation) -> bool {
        let what = (creation.config.id, creation.server);
        let now = self.cluster.clock.boot();
        let work = self.work();
        !work.growing.keys().any(|(key, _)| key.is_of(&creation.config))
            && !work.creating.contains(&what)
            && is_due(work.failed.get(&what).copied(), now)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Volumes with several copies can be placed, but nothing keeps their copies equal yet.
fn require_supported(placement: ReplicaPlacement) -> Result<(), Problem> {
    if placement.copies() == 1 {
        return Ok(());
    }
    let message = format!(
        "replication {placement} is not supported yet: volumes have one copy so far; leave \
         `replication` out, or pass 000"
    );
    Err(Problem::new(Code::NotSupported, message))
}

fn unplaced(error: PlacementError) -> Problem {
    Problem::new(Code::NoWritableVolume, error.to_string())
}
