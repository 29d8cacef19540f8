//! Recovers the agreed state from what volume servers hold, when all masters have lost it.
//!
//! Any master can be asked. One that is in no cluster first has them all found the lost one anew, far
//! above its old ids ([`crate::raft`] says when that may be); the leader then takes the volumes over,
//! a few hundred with each command. Nothing is ever replaced, so what was interrupted is repeated.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dulse_shared::{
    id::ServerId,
    net::{
        address::ServerAddress,
        peer::{PeerClient, PeerError},
    },
    wire::{AbsentServer, Code, HeldVolumes, Problem, RecoveryReport, StartRecovery, VolumeConfig},
};
use futures_util::future::try_join_all;

use crate::{
    assign::Assigner,
    cluster::Cluster,
    cluster_state::{Command, Outcome},
    leader::at_leader,
    plan::recovery::{NoRecovery, RecoveryPlan, plan_recovery},
};

/// `POST` a [`StartRecovery`] to the leader's cluster port, answered by a [`RecoveryReport`].
pub(crate) const RECOVER: &str = "/leader/recover";

/// A volume server reads a file for each of its volumes.
const HELD_LIMIT: Duration = Duration::from_secs(60);
/// Asking all of them, and committing what they hold.
const RECOVERY_LIMIT: Duration = Duration::from_secs(150);
/// Masters that have nothing else to wait for come together within two or three seconds.
const FOUNDING_LIMIT: Duration = Duration::from_secs(10);
const FOUNDING_PAUSE: Duration = Duration::from_millis(20);
/// Each volume server of the cluster has reported by then: twice a second, and more often before.
const REPORT_WAIT: Duration = Duration::from_millis(700);
/// Bytes of configurations in one command: half of what a command may have.
const MAX_BYTES_AT_ONCE: usize = 256 << 10;

/// Recovers, whichever master is asked.
pub(crate) async fn recover_anywhere(
    cluster: &Cluster,
    assigner: &Assigner,
    peers: &PeerClient,
    asked: &StartRecovery,
) -> Result<RecoveryReport, Problem> {
    let plan = plan(cluster, peers, &asked.from).await?;
    if asked.dry_run {
        return Ok(plan.report());
    }
    if cluster.cluster_id().is_err() {
        tracing::warn!("somebody asked to recover cluster {}", plan.recovery.cluster);
        cluster.log.recover(plan.recovery);
        wait_until(cluster, || cluster.log.leadership().leader.is_some()).await?;
    }
    let here = || recover(cluster, assigner, peers, asked);
    at_leader(cluster, peers, RECOVER, || asked.clone(), RECOVERY_LIMIT, here).await
}

/// Recovers, if this master leads.
pub(crate) async fn recover(
    cluster: &Cluster,
    assigner: &Assigner,
    peers: &PeerClient,
    asked: &StartRecovery,
) -> Result<RecoveryReport, Problem> {
    let plan = plan(cluster, peers, &asked.from).await?;
    cluster.log.recover(plan.recovery);
    // A leader that came to lead without a name for its cluster takes this one.
    wait_until(cluster, || cluster.cluster_id().is_ok()).await?;
    cluster.log.require_leadership()?;
    propose(cluster, Command::RecoverCluster(plan.recovery)).await?;
    // What this master has in hand may be old ids, if it was of another cluster until now.
    let granted = cluster.log.read(|state| state.next_key);
    assigner.keep_above(granted.saturating_sub(1), "a recovery");
    let mut restored = 0;
    for command in commands_of(&plan) {
        restored += propose(cluster, command).await?;
    }
    cluster.log.end_recovery();
    cluster.refresh();
    tokio::time::sleep(REPORT_WAIT).await;
    let planned = plan.report();
    let absent = absent(cluster, &planned);
    let (next_key, next_volume_id) = cluster.log.read(|s| (s.next_key, s.next_volume_id));
    let report = RecoveryReport { restored, absent, next_key, next_volume_id, ..planned };
    tell(&report);
    Ok(report)
}

/// Volume servers of the cluster that were not asked: those that hold what was found, and those that
/// report to this master.
fn absent(cluster: &Cluster, report: &RecoveryReport) -> Vec<AbsentServer> {
    let asked: Vec<ServerId> = report.servers.iter().map(|asked| asked.server).collect();
    cluster.look(|_, topology| {
        let url = |id| topology.server(id).map(|server| server.url.clone());
        let holding = report.absent.iter().map(|absent| absent.server);
        let alive = topology.alive().map(|server| server.id).filter(|id| !asked.contains(id));
        let absent: BTreeSet<ServerId> = holding.chain(alive).collect();
        absent.into_iter().map(|server| AbsentServer { server, url: url(server) }).collect()
    })
}

fn tell(report: &RecoveryReport) {
    let RecoveryReport { cluster, restored, servers, next_key, next_volume_id, .. } = report;
    tracing::warn!(
        "cluster {cluster} was recovered from {} volume servers: {restored} volumes were taken over; \
         needle keys go on at {next_key}, volume ids at {next_volume_id}",
        servers.len()
    );
    for what in &report.left_out {
        tracing::warn!("not recovered: {what}");
    }
}

async fn plan(
    cluster: &Cluster,
    peers: &PeerClient,
    from: &[String],
) -> Result<RecoveryPlan, Problem> {
    let held = try_join_all(from.iter().map(|address| held_by(peers, address))).await?;
    let wall_ms = cluster.clock.wall_ns() / 1_000_000;
    let plan = cluster.log.read(|state| plan_recovery(state, &held, wall_ms, rand::random()));
    plan.map_err(|error| {
        let code = match error {
            NoRecovery::NoServers | NoRecovery::NotOfACluster { .. } => Code::BadRequest,
            NoRecovery::TwoClusters { .. } | NoRecovery::OtherCluster { .. } => Code::OtherCluster,
            NoRecovery::MastersLive { .. } => Code::Conflict,
        };
        Problem::new(code, error.to_string())
    })
}

async fn held_by(peers: &PeerClient, given: &str) -> Result<(String, HeldVolumes), Problem> {
    let parsed = given.parse::<ServerAddress>();
    let address =
        parsed.map_err(|error| Problem::new(Code::BadRequest, format!("--from: {error}")))?;
    let held = peers.fetch(&address.cluster(), "/admin/volumes", HELD_LIMIT).await;
    let held = held.map_err(|error: PeerError| {
        let message = format!(
            "nothing was recovered, because volume server {given} did not say what it holds: {error}. \
             Start it, or leave it out and repeat the recovery once it is back"
        );
        Problem::new(Code::NotReady, message)
    })?;
    Ok((given.to_owned(), held))
}

/// Waits until the masters have come together so far.
async fn wait_until(cluster: &Cluster, is_so_far: impl Fn() -> bool) -> Result<(), Problem> {
    let waiting = async {
        while !is_so_far() && cluster.cluster_id().is_err() {
            tokio::time::sleep(FOUNDING_PAUSE).await;
        }
    };
    if tokio::time::timeout(FOUNDING_LIMIT, waiting).await.is_ok() {
        return Ok(());
    }
    let why = cluster.log.obstacle();
    let why = why.unwrap_or_else(|| "none of them leads yet".to_owned());
    let message = format!(
        "the masters have not come together: {why}. They will recover the cluster once they have; then \
         repeat this"
    );
    Err(Problem::new(Code::NotReady, message))
}

/// Commits a command; how many volumes it made known.
async fn propose(cluster: &Cluster, command: Command) -> Result<u64, Problem> {
    match cluster.log.propose(command).await? {
        Outcome::Volumes { configs } => Ok(configs.len() as u64),
        Outcome::Refused { refusal } => Err(Problem::new(Code::OtherCluster, refusal.to_string())),
        _ => Ok(0),
    }
}

/// The commands that take everything over, each as large as one may be at most.
fn commands_of(plan: &RecoveryPlan) -> Vec<Command> {
    let cluster = plan.recovery.cluster;
    let mut commands = Vec::new();
    let mut rest = plan.volumes.as_slice();
    while !rest.is_empty() {
        let (volumes, later) = rest.split_at(fitting(rest).max(1));
        commands.push(Command::RecoverVolumes { cluster, volumes: volumes.to_vec() });
        rest = later;
    }
    commands
}

/// How many of the first ones fit into one command.
fn fitting(volumes: &[Arc<VolumeConfig>]) -> usize {
    let mut bytes = 0;
    let fits = |config: &&Arc<VolumeConfig>| {
        bytes += serde_json::to_vec(config).map_or(0, |json| json.len());
        bytes <= MAX_BYTES_AT_ONCE
    };
    volumes.iter().take_while(fits).count()
}
