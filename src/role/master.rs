//! `dulse master`: a master from its flags to its ready line.

use std::path::PathBuf;

use dulse_client::MAX_NEEDLE_BYTES;
use dulse_master::{Master, MasterConfig, MasterStartError};
use dulse_shared::{
    clock::Clock,
    id::ReplicaPlacement,
    net::{metrics::Metrics, tasks::Tasks},
};

use super::{
    lifetime::{self, Running},
    listening::{Listening, PortFlags, cluster_port, default_dir},
    ready::{ReadyText, reachable_host},
};
use crate::{
    cli::{ClusterArgs, MasterArgs},
    exit::{Exit, one_line},
};

/// Runs a master until it is told to stop.
pub(crate) fn run_master(args: MasterArgs) -> Result<(), Exit> {
    check_replication(&args.cluster)?;
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir()?.join("master"),
    };
    let ports = MasterPorts {
        port: args.port,
        cluster_port: cluster_port(args.cluster_port, args.port, PortFlags::ALONE)?,
    };
    let listening = Listening::among(&args.cluster.peers, args.port, &args.listen)?;
    let config = master_config(dir, ports, &listening, &args.cluster);
    lifetime::run(async |tasks| start(config, tasks).await)
}

async fn start(config: MasterConfig, tasks: &Tasks) -> Result<RunningMaster, Exit> {
    let dir = config.dir.clone();
    let master = start_master(config, PortFlags::ALONE, &Metrics::default(), tasks).await?;
    master.ready().await;
    let public = master.public_address();
    let mut ready = ReadyText::default();
    ready.listener("master", &reachable_host(public), public, master.cluster_address());
    ready.state(&dir);
    let url = format!("http://{}:{}", reachable_host(public), public.port());
    ready.attempt(&format!("curl {url}/cluster/status"));
    ready.print();
    Ok(RunningMaster(master))
}

/// The two ports of a master; 0 lets the system choose.
pub(super) struct MasterPorts {
    pub(super) port: u16,
    pub(super) cluster_port: u16,
}

pub(super) fn master_config(
    dir: PathBuf,
    ports: MasterPorts,
    listening: &Listening,
    args: &ClusterArgs,
) -> MasterConfig {
    MasterConfig {
        dir,
        bind: listening.bind.clone(),
        port: ports.port,
        cluster_port: ports.cluster_port,
        identity: listening.identity.clone(),
        advertise: listening.advertise.clone(),
        peers: args.peers.clone(),
        beside: None,
        volume_size_limit_bytes: args.volume_size_limit.0,
        default_replication: args.default_replication,
        max_needle_bytes: MAX_NEEDLE_BYTES,
    }
}

/// Nothing may pretend to keep copies that it does not keep.
pub(super) fn check_replication(args: &ClusterArgs) -> Result<(), Exit> {
    let asked_for = args.default_replication;
    if asked_for == ReplicaPlacement::default() {
        return Ok(());
    }
    Err(Exit::Usage(format!(
        "--default-replication {asked_for}: several copies of a volume are not built yet; leave \
         it at 000"
    )))
}

pub(super) async fn start_master(
    config: MasterConfig,
    flags: PortFlags,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Master, Exit> {
    Master::start(config, Clock::System, metrics.clone(), tasks).await.map_err(
        |error| match error {
            MasterStartError::Bind(error) => Exit::Failed(one_line(&flags.name_in(error))),
            error @ MasterStartError::NotAmongPeers { .. } => Exit::Usage(one_line(&error)),
            error => Exit::Failed(one_line(&error)),
        },
    )
}

struct RunningMaster(Master);

impl Running for RunningMaster {
    async fn leave(&self) {
        self.0.leave().await;
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}
