//! How a node gets going: database, storage thread, core, first election.
//!
//! A master without peers is its own quorum and leads at once, whether its directory is new or
//! not: it stands for election instead of waiting for a timeout. Whoever leads a cluster without
//! a name gives it one.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use dulse_shared::{id::ClusterId, net::address::ServerAddress};
use openraft::{Config, ConfigError, SnapshotPolicy, async_runtime::watch::WatchReceiver};
use tokio::task::JoinError;

use super::{
    address_book::AddressBook,
    database::{Contents, Database},
    error::{ProposeError, RaftStartError},
    founding::Obstacle,
    gathering::Gathering,
    hello::HeardCluster,
    log_store::LogStore,
    network::Network,
    node::{Parts, Raft, RaftConfig},
    runtime::RaftRuntime,
    state_machine::{Applied, StateMachine},
    storage_thread::Storage,
    timing::Timing,
    type_config::{Core, NodeId, Peer},
};
use crate::{cluster_state::Command, config::VolumesBeside};

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

/// Opens the node of `config`; it takes part, but nobody has elected it yet.
pub(super) async fn open(config: RaftConfig) -> Result<Raft, RaftStartError> {
    let RaftConfig { dir, address, peers, client, beside } = config;
    let (database, contents, timing) = open_database(dir, !peers.is_empty()).await?;
    let path = database.path().to_owned();
    let failed = |reason: String| RaftStartError::Failed { path: path.clone(), reason };
    let runtime = RaftRuntime::start().map_err(|error| failed(error.to_string()))?;
    let address_book = AddressBook::default();
    let network = Network::new(database.node(), client.clone(), address_book.clone());
    let started = runtime.handle().spawn(start_core(database, contents, network, timing));
    let started = started.await.map_err(|error| failed(error.to_string()))?;
    let Started { id, core, applied, storage } = started.map_err(failed)?;
    Ok(Raft::new(Parts {
        id,
        address,
        peers,
        path: path.clone(),
        timing,
        core,
        applied,
        storage,
        client,
        gathering: Gathering::new(beside),
        address_book,
        runtime,
    }))
}

/// A node that runs on the runtime on which it was started.
struct Started {
    id: NodeId,
    core: Core,
    applied: Applied,
    storage: Storage,
}

async fn start_core(
    database: Database,
    mut contents: Contents,
    network: Network,
    timing: Timing,
) -> Result<Started, String> {
    let id = database.node();
    let config = core_config(timing).map_err(|error| error.to_string())?;
    let storage = Storage::spawn(database).map_err(|error| error.to_string())?;
    let applied = Applied::new(contents.snapshot.take());
    let state_machine = StateMachine::new(applied.clone(), storage.clone());
    let log_store = LogStore::new(contents, storage.clone());
    let core = Core::new(id, Arc::new(config), network, log_store, state_machine).await;
    let core = core.map_err(|error| error.to_string())?;
    Ok(Started { id, core, applied, storage })
}

/// The database and the timers for its disk, which matter to a master that has others beside it.
async fn open_database(
    dir: PathBuf,
    has_peers: bool,
) -> Result<(Database, Contents, Timing), RaftStartError> {
    let failed =
        |error: JoinError| RaftStartError::Failed { path: dir.clone(), reason: error.to_string() };
    let path = dir.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let mut database = Database::open(&path)?;
        let contents = database.load()?;
        let timing = if has_peers || contents.voters() > 1 {
            let unwritable = |source| RaftStartError::Unwritable { path: path.clone(), source };
            Timing::measure(&path).map_err(unwritable)?
        } else {
            Timing::default()
        };
        Ok((database, contents, timing))
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

/// Gets a master without peers going: it leads at once, unless it has forgotten its cluster. Then it
/// is left to [`super::meeting`], which founds none as long as the volumes beside it are of one.
pub(super) async fn begin_alone(raft: &Raft) -> Result<(), RaftStartError> {
    let is_initialized = raft.core().is_initialized().await;
    let is_initialized = is_initialized.map_err(|error| raft.failed(error.to_string()))?;
    match raft.gathering().beside() {
        Some(beside) if !is_initialized => {
            tell_of_loss(raft, beside);
            Ok(())
        }
        _ => lead_alone(raft).await,
    }
}

fn tell_of_loss(raft: &Raft, VolumesBeside { server, cluster }: &VolumesBeside) {
    tracing::error!(
        "the volumes of this server belong to the cluster {cluster}, of which its master knows \
         nothing: the master's directory {} was lost, or is another one. Nothing can be written, and \
         no other cluster is founded; what is stored can be read at {server}. Put the directory back \
         from a backup and start again; without a backup run `dulse cluster recover --from \
         {server}`, with this and every other volume server of the cluster",
        raft.dir().display()
    );
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
    let id = raft.id();
    let is_alone = raft.core().with_raft_state(move |state| {
        let membership = state.membership_state.effective().membership();
        membership.voter_ids().eq([id])
    });
    is_alone.await.map_err(|error| error.to_string())
}

async fn lead_and_found(raft: &Raft) -> Result<(), ProposeError> {
    let mut metrics = raft.metrics().clone();
    while raft.elected_term().is_none() {
        metrics.changed().await.map_err(|_| ProposeError::Stopped)?;
    }
    name_cluster(raft).await
}

/// Gives the cluster a name unless it has one: that of the cluster to be recovered, if there is one. It
/// stays without, and nothing is assigned, while volume servers say that they are of a cluster: its
/// recovery was interrupted after the masters had come together.
pub(super) async fn name_cluster(raft: &Raft) -> Result<(), ProposeError> {
    if raft.read(|state| state.cluster.is_some()) {
        return Ok(());
    }
    let heard = raft.gathering().heard_clusters();
    let command = match (raft.gathering().recovery(), heard.first()) {
        (Some(recovery), _) => Command::RecoverCluster(recovery),
        (None, None) => Command::FoundCluster { cluster: ClusterId::random() },
        (None, Some(HeardCluster { cluster, .. })) => {
            let servers = heard.iter().map(|heard| heard.server.clone()).collect();
            let obstacle = Obstacle::StateLost { servers, cluster: *cluster }.to_string();
            if raft.gathering().note_obstacle(Some(obstacle.clone())) {
                tracing::warn!("{obstacle}");
            }
            return Ok(());
        }
    };
    raft.propose(command).await?;
    Ok(())
}

fn core_config(timing: Timing) -> Result<Config, ConfigError> {
    let config = Config {
        cluster_name: "dulse".to_owned(),
        heartbeat_interval: milliseconds(timing.heartbeat),
        election_timeout_min: milliseconds(timing.election_min),
        election_timeout_max: milliseconds(timing.election_max),
        quorum_loss_probe_interval: Some(milliseconds(
            QUORUM_LOSS_PROBE.max(timing.election_max * 3),
        )),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timers_of_any_disk_make_a_configuration() {
        for ms in [0, 30, 31, 100, 250, 10_000] {
            let timing = Timing::of(Duration::from_millis(ms));
            core_config(timing).unwrap();
        }
    }
}
