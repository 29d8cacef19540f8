//! How a node gets going: database, storage thread, core, first election.
//!
//! A master without peers is its own quorum and leads at once, whether its directory is new or
//! not: it stands for election instead of waiting for a timeout. Whoever leads a cluster without
//! a name gives it one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dulse_shared::{
    id::ClusterId,
    net::{address::ServerAddress, peer::PeerClient},
};
use openraft::{Config, ConfigError, SnapshotPolicy, async_runtime::watch::WatchReceiver};
use tokio::task::JoinError;

use super::{
    database::{Contents, Database},
    error::{ProposeError, RaftStartError},
    log_store::LogStore,
    network::Network,
    node::{Parts, Raft},
    state_machine::{Applied, StateMachine},
    storage_thread::Storage,
    type_config::{Core, NodeId, Peer},
};
use crate::cluster_state::Command;

/// How often a leader shows itself.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// The shortest silence after which a follower stands for election.
const ELECTION_MIN: Duration = Duration::from_millis(150);
/// The longest. No other leader can be elected within this time of a quorum's last answer.
pub(super) const ELECTION_MAX: Duration = Duration::from_millis(300);
/// A leader without a quorum falls silent and shows itself in turns of this length, so that its
/// heartbeats cannot keep followers from electing another for ever.
const QUORUM_LOSS_PROBE: Duration = Duration::from_secs(1);
/// A snapshot is taken after this many entries: it costs one write of the whole state, the log
/// in memory and the replay at start stay small.
const ENTRIES_PER_SNAPSHOT: u64 = 5_000;
/// Entries kept behind a snapshot, for followers that are only a little late.
const ENTRIES_KEPT: u64 = 1_000;
/// Entries in one request: with the size of a command they bound its body.
const ENTRIES_PER_REQUEST: u64 = 64;
/// Sending and installing a snapshot: a large one takes seconds.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(20);
/// Messages that may wait for the core.
const CORE_QUEUE: u64 = 4_096;
/// Pauses before a peer that is not there is called again.
const BACKOFF: &str = "50ms 100ms ...500ms";
/// A lone master leads within milliseconds of disk time; past this its disk does not answer.
const LEAD_LIMIT: Duration = Duration::from_secs(30);

/// Opens the node whose database lies in `dir`; it takes part, but nobody has elected it yet.
pub(super) async fn open(
    dir: &Path,
    address: ServerAddress,
    client: PeerClient,
) -> Result<Raft, RaftStartError> {
    let (database, mut contents) = open_database(dir.to_owned()).await?;
    let path = database.path().to_owned();
    let id = database.node();
    let failed = |reason: String| RaftStartError::Failed { path: path.clone(), reason };
    let config = core_config().map_err(|error| failed(error.to_string()))?;
    let storage = Storage::spawn(database).map_err(|error| failed(error.to_string()))?;
    let applied = Applied::new(contents.snapshot.take());
    let state_machine = StateMachine::new(applied.clone(), storage.clone());
    let log_store = LogStore::new(contents, storage.clone());
    let network = Network::new(id, client);
    let core = Core::new(id, Arc::new(config), network, log_store, state_machine)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Raft::new(Parts { id, address, path: path.clone(), core, applied, storage }))
}

async fn open_database(dir: PathBuf) -> Result<(Database, Contents), RaftStartError> {
    let failed =
        |error: JoinError| RaftStartError::Failed { path: dir.clone(), reason: error.to_string() };
    let path = dir.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let mut database = Database::open(&path)?;
        let contents = database.load()?;
        Ok((database, contents))
    });
    opening.await.map_err(failed)?
}

/// Founds a cluster of `members`; only on a node that has never been in one.
pub(super) async fn initialize(
    raft: &Raft,
    members: impl IntoIterator<Item = (NodeId, ServerAddress)>,
) -> Result<(), RaftStartError> {
    let members: BTreeMap<NodeId, Peer> =
        members.into_iter().map(|(node, address)| (node, Peer { address })).collect();
    let initialized = raft.core().initialize(members).await;
    initialized.map_err(|error| raft.failed(error.to_string()))
}

/// Makes a lone master lead. One that has peers is left to elections.
pub(super) async fn lead_alone(raft: &Raft) -> Result<(), RaftStartError> {
    let failed = |error: String| raft.failed(error);
    let is_initialized = raft.core().is_initialized().await;
    if !is_initialized.map_err(|error| failed(error.to_string()))? {
        initialize(raft, [(raft.id(), raft.address().clone())]).await?;
    } else if !is_alone(raft).await.map_err(failed)? {
        return Ok(());
    }
    let elected = raft.core().trigger().elect(false).await;
    elected.map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(LEAD_LIMIT, lead_and_found(raft)).await {
        Ok(led) => led.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!(
            "it could not elect itself within {} s; is its disk answering?",
            LEAD_LIMIT.as_secs()
        ))),
    }
}

/// Whether the node is the only voter. Asks the core: metrics may not be out yet.
async fn is_alone(raft: &Raft) -> Result<bool, String> {
    let voters = raft.core().with_raft_state(|state| {
        let membership = state.membership_state.effective().membership();
        membership.voter_ids().count()
    });
    let voters = voters.await.map_err(|error| error.to_string())?;
    Ok(voters == 1)
}

async fn lead_and_found(raft: &Raft) -> Result<(), ProposeError> {
    let mut metrics = raft.metrics().clone();
    while raft.confirmed_term().is_none() {
        metrics.changed().await.map_err(|_| ProposeError::Stopped)?;
    }
    name_cluster(raft).await
}

/// Gives the cluster a name unless it has one.
pub(super) async fn name_cluster(raft: &Raft) -> Result<(), ProposeError> {
    if raft.read(|state| state.cluster.is_some()) {
        return Ok(());
    }
    let cluster = ClusterId::random();
    raft.propose(Command::FoundCluster { cluster }).await?;
    Ok(())
}

fn core_config() -> Result<Config, ConfigError> {
    let config = Config {
        cluster_name: "dulse".to_owned(),
        heartbeat_interval: milliseconds(HEARTBEAT),
        election_timeout_min: milliseconds(ELECTION_MIN),
        election_timeout_max: milliseconds(ELECTION_MAX),
        quorum_loss_probe_interval: Some(milliseconds(QUORUM_LOSS_PROBE)),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        replication_lag_threshold: ENTRIES_PER_SNAPSHOT + ENTRIES_KEPT,
        max_payload_entries: ENTRIES_PER_REQUEST,
        install_snapshot_timeout: milliseconds(SNAPSHOT_LIMIT),
        api_channel_size: Some(CORE_QUEUE),
        notification_channel_size: Some(CORE_QUEUE),
        backoff: BACKOFF.to_owned(),
        ..Config::default()
    };
    config.validate()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
