//! The handle by which the rest of the master uses Raft.
//!
//! Invariant: [`Leadership::is_leader`] holds only while a quorum has confirmed this leader within
//! the longest election timeout, everything committed before its term is applied here, and the
//! cluster has a name: before, it may turn out to be one that goes on far above its first ids. It is
//! about freshness; that nothing is granted twice rests on committed commands alone.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    net::{address::ServerAddress, peer::PeerClient, route_table::RouteTable, tasks::Tasks},
};
use openraft::{
    Instant, ServerState,
    alias::WatchReceiverOf,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader, RaftError},
};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    address_book::AddressBook,
    bootstrap,
    error::{ProposeError, RaftStartError},
    gathering::Gathering,
    meeting::Meeting,
    routes,
    runtime::RaftRuntime,
    state_machine::Applied,
    storage_thread::Storage,
    timing::Timing,
    type_config::{Core, Metrics, NodeId, TypeConfig},
};
use crate::{
    cluster_state::{ClusterState, Command, Outcome},
    config::VolumesBeside,
};

/// Commands under way at a time; each holds its place in memory until it is applied.
const MAX_PROPOSALS: usize = 1_024;
/// The largest command, as JSON. A request carries 64 of them at most.
const MAX_COMMAND_BYTES: usize = 512 << 10;
/// A command that is not committed by then lacks a quorum; its caller has better things to do.
const PROPOSE_LIMIT: Duration = Duration::from_secs(5);
/// A planned change of leader takes milliseconds. Past this the others elect one by themselves.
const HAND_OVER_LIMIT: Duration = Duration::from_millis(300);
/// Between two looks at what a cluster without a name should be called.
const NAMING_PAUSE: Duration = Duration::from_millis(200);

/// Where a master keeps its state and who the masters are.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// The directory of its database; made if it is not there.
    pub dir: PathBuf,
    /// This master, as the others reach it.
    pub address: ServerAddress,
    /// All masters, this one included; empty for a master by itself.
    pub peers: Vec<ServerAddress>,
    /// How it calls them.
    pub client: PeerClient,
    /// What lies beside it already.
    pub beside: Option<VolumesBeside>,
}

/// Who leads, as far as this master knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// This master leads, a quorum confirmed it within the election timeout (a master by itself is
    /// its own quorum), it has applied everything its predecessors committed, and the cluster has a
    /// name.
    pub is_leader: bool,
    /// The current term; each has at most one leader.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<ServerAddress>,
}

/// This master's part in Raft. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

/// What a node is made of.
pub(super) struct Parts {
    pub(super) id: NodeId,
    pub(super) address: ServerAddress,
    pub(super) peers: Vec<ServerAddress>,
    pub(super) path: PathBuf,
    pub(super) timing: Timing,
    pub(super) core: Core,
    pub(super) applied: Applied,
    pub(super) storage: Storage,
    pub(super) client: PeerClient,
    pub(super) gathering: Gathering,
    pub(super) address_book: AddressBook,
    pub(super) runtime: RaftRuntime,
}

struct Inner {
    parts: Parts,
    metrics: WatchReceiverOf<TypeConfig, Metrics>,
    proposals: Semaphore,
    /// Held while the masters change.
    membership_change: tokio::sync::Mutex<()>,
    /// When the leader was heard last.
    heard_leader: Mutex<Option<BootTime>>,
    /// [`Raft::stop`] was called: that the node ends is no failure.
    stopping: CancellationToken,
}

impl Raft {
    /// Opens or makes the database and starts the node. By itself it leads the cluster before this
    /// returns, which takes milliseconds; with peers it has to meet them first. A failure of the
    /// node later on stops `tasks`.
    pub async fn start(config: RaftConfig, tasks: &Tasks) -> Result<Self, RaftStartError> {
        let is_lone = config.peers.is_empty();
        let raft = bootstrap::open(config).await?;
        if is_lone && let Err(error) = bootstrap::begin_alone(&raft).await {
            raft.stop().await;
            return Err(error);
        }
        raft.spawn_watch(tasks);
        raft.spawn_meeting(tasks);
        Ok(raft)
    }

    pub(super) fn new(parts: Parts) -> Self {
        let metrics = parts.core.metrics();
        let inner = Inner {
            parts,
            metrics,
            proposals: Semaphore::new(MAX_PROPOSALS),
            membership_change: tokio::sync::Mutex::default(),
            heard_leader: Mutex::default(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Commits and applies `command` and tells what it did. Only the leader can; a refusal by the
    /// state is an outcome, not an error.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let (outcome, _) = self.propose_in_term(command).await?;
        Ok(outcome)
    }

    /// The same, with the term in which this master proposed it.
    pub(crate) async fn propose_in_term(
        &self,
        command: Command,
    ) -> Result<(Outcome, u64), ProposeError> {
        check_size(&command)?;
        let permit = self.inner.proposals.try_acquire();
        let _permit = permit.map_err(|_| ProposeError::Overloaded)?;
        let written = self.core().client_write(command);
        let written = tokio::time::timeout(PROPOSE_LIMIT, written).await;
        let written = written.map_err(|_| ProposeError::Unknown {
            reason: format!("no answer within {} s", PROPOSE_LIMIT.as_secs()),
        })?;
        let written = written.map_err(|error| self.not_written(error))?;
        let term = *written.log_id.leader_id;
        match written.data {
            Some(outcome) => Ok((outcome, term)),
            None => Err(ProposeError::Unknown {
                reason: "it was applied without an outcome".to_owned(),
            }),
        }
    }

    pub(super) fn not_written(
        &self,
        error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    ) -> ProposeError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader {
                leader_node,
                ..
            })) => ProposeError::NotLeader { leader: leader_node.map(|peer| peer.address) },
            RaftError::APIError(other) => ProposeError::Unknown { reason: other.to_string() },
            RaftError::Fatal(_) => ProposeError::Stopped,
        }
    }

    /// Looks at the applied state; `read` must be quick, nothing is applied meanwhile.
    pub fn read<R>(&self, read: impl FnOnce(&ClusterState) -> R) -> R {
        self.inner.parts.applied.read(read)
    }

    /// The index of the last applied entry. It grows with every change of the state.
    pub fn applied(&self) -> u64 {
        self.inner.parts.applied.index()
    }

    /// Waits until more than the entries up to `seen` are applied; the new index. On a node that
    /// has ended it waits for ever.
    pub async fn applied_after(&self, seen: u64) -> u64 {
        let mut index = self.inner.parts.applied.follow();
        let grown = index.wait_for(|index| *index > seen).await;
        // The sender lives in `self`, so waiting cannot fail.
        grown.map_or(seen, |index| *index)
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        let metrics = self.inner.metrics.borrow_watched();
        let is_leader = self.is_confirmed(&metrics);
        let leader = metrics.current_leader.and_then(|leader| {
            if leader == self.id() {
                // A leader that nobody confirms may have a successor.
                return is_leader.then(|| self.address().clone());
            }
            if !self.heard_leader_lately() {
                return None;
            }
            let membership = metrics.membership_config.membership();
            let agreed = || membership.get_node(&leader).map(|peer| peer.address.clone());
            self.address_book().address(leader).or_else(agreed)
        });
        Leadership { is_leader, term: metrics.current_term, leader }
    }

    /// The node that leads, under the same conditions.
    pub(super) fn leader_node(&self) -> Option<NodeId> {
        let metrics = self.inner.metrics.borrow_watched();
        metrics.current_leader.filter(|node| {
            if *node == self.id() {
                self.is_confirmed(&metrics)
            } else {
                self.heard_leader_lately()
            }
        })
    }

    /// A leader sent something.
    pub(super) fn hear_leader(&self) {
        let mut heard = self.inner.heard_leader.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(Clock::default().boot());
    }

    /// Whether the last leader that is known can still be one: a master that was restarted, or is
    /// cut off, remembers one for ever.
    fn heard_leader_lately(&self) -> bool {
        let heard = *self.inner.heard_leader.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.inner.parts.timing.election_max * 2;
        heard.is_some_and(|heard| Clock::default().since(heard) < limit)
    }

    /// The term in which this master leads, if [`Leadership::is_leader`] holds. Cheaper.
    pub(crate) fn confirmed_term(&self) -> Option<u64> {
        let metrics = self.inner.metrics.borrow_watched();
        self.is_confirmed(&metrics).then_some(metrics.current_term)
    }

    /// The same before the cluster has a name.
    pub(super) fn elected_term(&self) -> Option<u64> {
        let metrics = self.inner.metrics.borrow_watched();
        self.is_elected(&metrics).then_some(metrics.current_term)
    }

    /// What [`Leadership::is_leader`] says.
    fn is_confirmed(&self, metrics: &Metrics) -> bool {
        self.inner.parts.applied.is_named() && self.is_elected(metrics)
    }

    fn is_elected(&self, metrics: &Metrics) -> bool {
        if metrics.state != ServerState::Leader || metrics.running_state.is_err() {
            return false;
        }
        let applied_term = metrics.last_applied.map(|log_id| *log_id.leader_id);
        if applied_term != Some(metrics.current_term) {
            return false;
        }
        let acked = metrics.last_quorum_acked;
        let election_max = self.inner.parts.timing.election_max;
        has_one_voter(metrics) || acked.is_some_and(|acked| acked.elapsed() < election_max)
    }

    /// Waits until something about leadership may have changed; `false` when the node has ended.
    pub(crate) async fn leadership_changed(&self, seen: Option<u64>) -> bool {
        let mut metrics = self.inner.metrics.clone();
        while self.confirmed_term() == seen {
            if metrics.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    /// The routes by which the other masters reach this node, for the cluster port.
    pub fn routes(&self) -> RouteTable {
        routes::routes(self.clone())
    }

    /// The threads on which the node runs, and its port should.
    pub fn runtime(&self) -> &Handle {
        self.inner.parts.runtime.handle()
    }

    /// Hands leadership to another master if there is one, ends the node and closes the database.
    /// Later calls fail. Who can be reached until the end calls `leave` first, while others
    /// still can.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        self.hand_over(None).await;
        if let Err(error) = self.core().shutdown().await {
            tracing::warn!("the Raft node did not end in an orderly way: {error}");
        }
        self.inner.parts.storage.close().await;
    }

    /// Hands leadership to another master, if this one leads and there is one. Whoever is about to
    /// stop does this first, while the others still reach it.
    pub(crate) async fn leave(&self) {
        self.hand_over(None).await;
    }

    /// Makes another master lead if this one does: `successor`, or the one that has most of the
    /// log. Whether one is known to.
    pub(super) async fn hand_over(&self, successor: Option<NodeId>) -> bool {
        let Some(successor) = self.successor(successor) else {
            return false;
        };
        let trigger = self.core().trigger();
        if trigger.transfer_leader(successor).await.is_err() {
            return false;
        }
        let mut metrics = self.inner.metrics.clone();
        let taken_over = async {
            while metrics.borrow_watched().current_leader != Some(successor) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        let limit = self.inner.parts.timing.election_max.max(HAND_OVER_LIMIT);
        let taken_over = tokio::time::timeout(limit, taken_over).await;
        taken_over.unwrap_or(false)
    }

    /// The other voter that has most of the log, or `wanted`, if this node leads.
    fn successor(&self, wanted: Option<NodeId>) -> Option<NodeId> {
        let metrics = self.inner.metrics.borrow_watched();
        if !self.is_confirmed(&metrics) {
            return None;
        }
        let membership = metrics.membership_config.membership();
        let replicated = metrics.replication.as_ref()?;
        let others = membership.voter_ids().filter(|voter| *voter != self.id());
        let others = others.filter(|voter| wanted.is_none_or(|wanted| *voter == wanted));
        let others = others.filter(|voter| self.was_heard(&metrics, *voter));
        others.max_by_key(|voter| replicated.get(voter).copied().flatten())
    }

    /// Whether a follower answered within the time after which it would be missed.
    pub(super) fn was_heard(&self, metrics: &Metrics, node: NodeId) -> bool {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&node)?.as_ref());
        heard.is_some_and(|heard| heard.elapsed() < self.inner.parts.timing.election_max * 2)
    }

    /// Ends the process when the node fails, and names the cluster if this node comes to lead one
    /// that has no name yet.
    pub(super) fn spawn_watch(&self, tasks: &Tasks) {
        let raft = self.clone();
        let inner = tasks.clone();
        tasks.spawn("raft watch", async move {
            tokio::select! {
                biased;
                () = inner.stopped() => {}
                () = raft.inner.stopping.cancelled() => {}
                reason = raft.watch() => inner.fail(reason),
            }
        });
    }

    /// Meets the other masters, if there are any, for as long as the node runs.
    pub(super) fn spawn_meeting(&self, tasks: &Tasks) {
        let (raft, inner) = (self.clone(), tasks.clone());
        tasks.on(self.runtime().clone()).spawn("masters' meeting", async move {
            tokio::select! {
                () = inner.stopped() => {}
                () = raft.inner.stopping.cancelled() => {}
                reason = Meeting::new(raft.clone()).run() => inner.fail(reason),
            }
        });
    }

    /// Returns why the node has failed, once it has.
    async fn watch(&self) -> String {
        let mut metrics = self.inner.metrics.clone();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(fatal) = running {
                return format!("{}: the Raft node has failed: {fatal}", self.path_text());
            }
            if self.elected_term().is_some()
                && let Err(error) = bootstrap::name_cluster(self).await
            {
                tracing::warn!("cannot name the cluster yet: {error}");
            }
            let is_unnamed = !self.inner.parts.applied.is_named();
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    return format!("{}: the Raft node has ended", self.path_text());
                },
                // Somebody may ask for a recovery.
                () = tokio::time::sleep(NAMING_PAUSE), if is_unnamed => {}
            }
        }
    }

    fn path_text(&self) -> String {
        self.inner.parts.path.display().to_string()
    }

    /// The directory of its database.
    pub(super) fn dir(&self) -> &Path {
        self.inner.parts.path.parent().unwrap_or(&self.inner.parts.path)
    }

    pub(super) fn id(&self) -> NodeId {
        self.inner.parts.id
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.inner.parts.address
    }

    pub(super) fn peers(&self) -> &[ServerAddress] {
        &self.inner.parts.peers
    }

    pub(super) fn client(&self) -> &PeerClient {
        &self.inner.parts.client
    }

    pub(super) fn gathering(&self) -> &Gathering {
        &self.inner.parts.gathering
    }

    pub(super) fn address_book(&self) -> &AddressBook {
        &self.inner.parts.address_book
    }

    pub(super) fn membership_change(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.membership_change
    }

    pub(super) fn core(&self) -> &Core {
        &self.inner.parts.core
    }

    pub(super) fn metrics(&self) -> &WatchReceiverOf<TypeConfig, Metrics> {
        &self.inner.metrics
    }

    pub(super) fn failed(&self, reason: String) -> RaftStartError {
        RaftStartError::Failed { path: self.inner.parts.path.clone(), reason }
    }
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raft({} at {})", self.id(), self.address())
    }
}

fn check_size(command: &Command) -> Result<(), ProposeError> {
    let encoded = serde_json::to_vec(command)
        .map_err(|error| ProposeError::Unknown { reason: error.to_string() })?;
    if encoded.len() > MAX_COMMAND_BYTES {
        return Err(ProposeError::TooLarge { bytes: encoded.len(), limit: MAX_COMMAND_BYTES });
    }
    Ok(())
}

fn has_one_voter(metrics: &Metrics) -> bool {
    let configs = metrics.membership_config.membership().get_joint_config();
    matches!(configs.as_slice(), [only] if only.len() == 1)
}
