//! `dulse volume`: a volume server from its flags to its ready line.

use std::time::Duration;

use dulse_client::MAX_NEEDLE_BYTES;
use dulse_shared::{
    clock::Clock,
    net::{address::ServerAddress, metrics::Metrics, resolver::Resolver, tasks::Tasks},
    wire::DiskType,
};
use dulse_volume::{
    config::{DirConfig, DirLimits, VolumeServerConfig},
    maintenance::{Routine, RoutineScrub, RoutineVacuum},
    server::{VolumeServer, VolumeStartError},
};

use super::{
    lifetime::{self, Running},
    listening::{Listening, PortFlags, cluster_port, default_dir},
    ready::{ReadyText, reachable_host},
};
use crate::{
    cli::{StoreArgs, VolumeArgs},
    cli_values::VolumeDir,
    exit::{Exit, one_line},
};

/// A server that was just started has caches to fill and clients that waited for it.
const QUIET_AFTER_START: Duration = Duration::from_secs(600);

/// Runs a volume server until it is told to stop.
pub(crate) fn run_volume(args: VolumeArgs) -> Result<(), Exit> {
    let cluster_port = cluster_port(args.cluster_port, args.port, PortFlags::ALONE)?;
    let dirs = with_limits(dirs(args.dir)?, &args.store)?;
    let place = VolumePlace { dirs, port: args.port, cluster_port, masters: args.master };
    let config = volume_config(place, &Listening::from_args(&args.listen)?, args.store);
    lifetime::run(async |tasks| start(config, tasks).await)
}

fn dirs(asked_for: Vec<VolumeDir>) -> Result<Vec<VolumeDir>, Exit> {
    if !asked_for.is_empty() {
        return Ok(asked_for);
    }
    Ok(vec![VolumeDir { path: default_dir()?, disk: DiskType::default() }])
}

/// The directories, each with its own of the limits that were given.
pub(super) fn with_limits(dirs: Vec<VolumeDir>, args: &StoreArgs) -> Result<Vec<DirConfig>, Exit> {
    let limits = DirLimits::spread(&args.max_volumes, &args.min_free_space, dirs.len());
    let limits = limits.map_err(|error| Exit::Usage(one_line(&error)))?;
    let config = |(VolumeDir { path, disk }, limits)| DirConfig { path, disk, limits };
    Ok(dirs.into_iter().zip(limits).map(config).collect())
}

async fn start(config: VolumeServerConfig, tasks: &Tasks) -> Result<RunningVolume, Exit> {
    let volume = start_volume(config, PortFlags::ALONE, &Metrics::default(), tasks).await?;
    volume.ready().await;
    let public = volume.public_address();
    let host = reachable_host(public);
    let mut ready = ReadyText::default();
    ready.listener("volume server", &host, public, volume.cluster_address());
    ready.room(&volume.room());
    ready.attempt(&format!("curl http://{host}:{}/status", public.port()));
    ready.print();
    Ok(RunningVolume(volume))
}

/// What differs between a volume server of its own and one beside its master.
pub(super) struct VolumePlace {
    pub(super) dirs: Vec<DirConfig>,
    pub(super) port: u16,
    pub(super) cluster_port: u16,
    pub(super) masters: Vec<ServerAddress>,
}

pub(super) fn volume_config(
    place: VolumePlace,
    listening: &Listening,
    args: StoreArgs,
) -> VolumeServerConfig {
    VolumeServerConfig {
        dirs: place.dirs,
        bind: listening.bind.clone(),
        port: place.port,
        cluster_port: place.cluster_port,
        identity: listening.identity.clone(),
        advertise: listening.advertise.clone(),
        public_url: args.public_url,
        masters: place.masters,
        resolver: Resolver::system(),
        data_center: args.data_center,
        rack: args.rack,
        large_volumes: args.large_volumes,
        max_needle_bytes: MAX_NEEDLE_BYTES,
        routine: Routine {
            scrub: RoutineScrub {
                interval: Some(args.scrub_interval).filter(|interval| !interval.is_zero()),
                bytes_per_sec: args.scrub_rate,
                quiet_after_start: QUIET_AFTER_START,
            },
            vacuum: RoutineVacuum {
                garbage_threshold: Some(args.garbage_threshold).filter(|part| *part < 1.0),
            },
        },
    }
}

pub(super) async fn start_volume(
    config: VolumeServerConfig,
    flags: PortFlags,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<VolumeServer, Exit> {
    VolumeServer::start(config, Clock::System, metrics.clone(), tasks).await.map_err(|error| {
        match error {
            VolumeStartError::Bind(error) => Exit::Failed(one_line(&flags.name_in(error))),
            error => Exit::Failed(one_line(&error)),
        }
    })
}

struct RunningVolume(VolumeServer);

impl Running for RunningVolume {
    async fn leave(&self) {}

    async fn stop(self) {
        self.0.stop().await;
    }
}
