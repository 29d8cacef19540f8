//! `dulse server`: a master and a volume server that knows it over loopback.

use std::path::PathBuf;

use dulse_client::MAX_NEEDLE_BYTES;
use dulse_master::{Master, MasterConfig, VolumesBeside};
use dulse_shared::{
    net::{address::ServerAddress, metrics::Metrics, tasks::Tasks},
    wire::DiskType,
};
use dulse_volume::{
    config::{DirConfig, check_volume_size_limit},
    disk::cluster_of,
    server::VolumeServer,
};

use super::{
    lifetime::{self, Running},
    listening::{Listening, PortFlags, cluster_port, default_dir},
    master::{MasterPorts, check_replication, master_config, start_master},
    ready::{ReadyText, reachable_host},
    volume::{VolumePlace, start_volume, volume_config, with_limits},
};
use crate::{
    cli::ServerArgs,
    cli_values::VolumeDir,
    exit::{Exit, one_line},
};

const MASTER_FLAGS: PortFlags =
    PortFlags { public: "--master-port", cluster: "--master-cluster-port" };
const VOLUME_FLAGS: PortFlags =
    PortFlags { public: "--volume-port", cluster: "--volume-cluster-port" };

/// Runs both roles until the process is told to stop.
pub(crate) fn run_server(args: ServerArgs) -> Result<(), Exit> {
    check_replication(&args.cluster)?;
    check_volume_size_limit(
        args.cluster.volume_size_limit.0,
        MAX_NEEDLE_BYTES,
        args.store.large_volumes,
    )
    .map_err(|error| Exit::Usage(one_line(&error)))?;
    let dir = args.dir.clone().map_or_else(default_dir, Ok)?;
    let volumes = VolumeDir { path: dir.clone(), disk: DiskType::default() };
    let plan = Plan {
        dir,
        volume_dirs: with_limits(vec![volumes], &args.store)?,
        listening: Listening::among(&args.cluster.peers, args.master_port, &args.listen)?,
        master: MasterPorts {
            port: args.master_port,
            cluster_port: cluster_port(args.master_cluster_port, args.master_port, MASTER_FLAGS)?,
        },
        volume_cluster_port: cluster_port(
            args.volume_cluster_port,
            args.volume_port,
            VOLUME_FLAGS,
        )?,
        args,
    };
    lifetime::run(async |tasks| start(plan, tasks).await)
}

/// Flags and what follows from them.
struct Plan {
    dir: PathBuf,
    volume_dirs: Vec<DirConfig>,
    listening: Listening,
    master: MasterPorts,
    volume_cluster_port: u16,
    args: ServerArgs,
}

impl Plan {
    /// What the volumes here say of the cluster that they belong to, for a master that may not know.
    fn volumes_beside(&self) -> Option<VolumesBeside> {
        let cluster = cluster_of(&self.volume_dirs)?;
        let host = self.listening.advertise.clone();
        let (port, cluster_port) = (self.args.volume_port, self.volume_cluster_port);
        let server = ServerAddress { host, port, cluster_port }.to_string();
        Some(VolumesBeside { server, cluster })
    }
}

async fn start(plan: Plan, tasks: &Tasks) -> Result<RunningServer, Exit> {
    let metrics = Metrics::default();
    let peers = plan.args.cluster.peers.clone();
    let beside = plan.volumes_beside();
    let master =
        master_config(plan.dir.join("master"), plan.master, &plan.listening, &plan.args.cluster);
    let master = MasterConfig { beside, ..master };
    let master = start_master(master, MASTER_FLAGS, &metrics, tasks).await?;
    let place = VolumePlace {
        dirs: plan.volume_dirs,
        port: plan.args.volume_port,
        cluster_port: plan.volume_cluster_port,
        masters: masters(&master, &plan.listening, peers),
    };
    let volume = volume_config(place, &plan.listening, plan.args.store);
    let volume = start_volume(volume, VOLUME_FLAGS, &metrics, tasks).await?;
    volume.ready().await;
    let running = RunningServer { master, volume };
    running.announce();
    Ok(running)
}

/// The master of this process where its cluster port is, the others where they are.
fn masters(own: &Master, listening: &Listening, peers: Vec<ServerAddress>) -> Vec<ServerAddress> {
    let (port, cluster_port) = (own.public_address().port(), own.cluster_address().port());
    let here = |host: String| ServerAddress { host, port, cluster_port };
    let advertised = here(listening.advertise.clone());
    let others = peers.into_iter().filter(|peer| *peer != advertised);
    [here(reachable_host(own.cluster_address()))].into_iter().chain(others).collect()
}

struct RunningServer {
    master: Master,
    volume: VolumeServer,
}

impl RunningServer {
    fn announce(&self) {
        let public = self.master.public_address();
        let host = reachable_host(public);
        let volume = self.volume.public_address();
        let mut ready = ReadyText::default();
        ready.listener("master", &host, public, self.master.cluster_address());
        let cluster = self.volume.cluster_address();
        ready.listener("volume server", &reachable_host(volume), volume, cluster);
        ready.room(&self.volume.room());
        let submit = format!("http://{host}:{}/submit", public.port());
        ready.attempt(&format!("curl -F file=@README.md {submit}"));
        ready.print();
    }
}

impl Running for RunningServer {
    async fn leave(&self) {
        self.master.leave().await;
    }

    /// The volume server first: it tells the master that it goes.
    async fn stop(self) {
        self.volume.stop().await;
        self.master.stop().await;
    }
}
