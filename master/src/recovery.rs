//! Recovers the agreed state from what volume servers hold, when all masters have lost it.
//!
//! Any master can be asked. One that is in no cluster first has them all found the lost one anew, far
//! above its old ids ([`crate::raft`] says when that may be); the leader then takes the volumes over,
//! a few hundred with each command. Nothing is ever replaced, so what was interrupted is repeated.

use std::time::Duration;

use dulse_shared::{
    id::ClusterId,
    net::{
        address::ServerAddress,
        peer::{PeerClient, PeerError},
    },
    wire::{Code, HeldVolumes, Problem, RecoveryReport, StartRecovery, VolumeConfig},
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
        found_again(cluster, &plan).await?;
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
    cluster.log.require_leadership()?;
    let plan = plan(cluster, peers, &asked.from).await?;
    let granted = cluster.log.read(|state| state.next_key);
    propose(cluster, Command::RecoverCluster(plan.recovery)).await?;
    if plan.recovery.next_key > granted {
        // What this master has in hand may be old ids, if it was of another cluster until now.
        assigner.keep_above(plan.recovery.next_key.saturating_sub(1), "a recovery");
    }
    let mut restored = 0;
    for command in commands_of(&plan) {
        restored += propose(cluster, command).await?;
    }
    cluster.refresh();
    let report = RecoveryReport { restored, ..plan.report() };
    tell(&report);
    Ok(report)
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
    let plan = cluster.log.read(|state| plan_recovery(state, &held, wall_ms));
    plan.map_err(|error| {
        let code = match error {
            NoRecovery::NoServers | NoRecovery::NotOfACluster { .. } => Code::BadRequest,
            NoRecovery::TwoClusters { .. } | NoRecovery::OtherCluster { .. } => Code::OtherCluster,
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

/// Has the masters found the lost cluster anew.
async fn found_again(cluster: &Cluster, plan: &RecoveryPlan) -> Result<(), Problem> {
    let wanted = plan.recovery.cluster;
    tracing::warn!("somebody asked to recover cluster {wanted}");
    cluster.log.recover(plan.recovery);
    let founded = async {
        loop {
            if let Ok(id) = cluster.cluster_id() {
                return id;
            }
            tokio::time::sleep(FOUNDING_PAUSE).await;
        }
    };
    match tokio::time::timeout(FOUNDING_LIMIT, founded).await {
        Ok(id) if id == wanted => Ok(()),
        Ok(ours) => Err(another_cluster(ours, wanted)),
        Err(_) => {
            let why = cluster.log.obstacle();
            let why = why.unwrap_or_else(|| "none of them leads yet".to_owned());
            let message = format!(
                "the masters have not come together: {why}. They will recover the cluster once they \
                 have; then repeat this"
            );
            Err(Problem::new(Code::NotReady, message))
        }
    }
}

fn another_cluster(ours: ClusterId, theirs: ClusterId) -> Problem {
    Problem::new(Code::OtherCluster, NoRecovery::OtherCluster { ours, theirs }.to_string())
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
fn fitting(volumes: &[VolumeConfig]) -> usize {
    let mut bytes = 0;
    let fits = |config: &&VolumeConfig| {
        bytes += serde_json::to_vec(config).map_or(0, |json| json.len());
        bytes <= MAX_BYTES_AT_ONCE
    };
    volumes.iter().take_while(fits).count()
}
