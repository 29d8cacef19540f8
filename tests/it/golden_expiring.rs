//! SeaweedFS's expiring needles, served under a clock that stands still: in this process, because
//! a program has only the machine's clock.

use std::{num::NonZeroU64, path::Path, time::Duration};

use dulse_client::MAX_NEEDLE_BYTES;
use dulse_master::{Master, MasterConfig};
use dulse_shared::{
    clock::Clock,
    id::ReplicaPlacement,
    net::{address::ServerAddress, metrics::Metrics, resolver::Resolver, tasks::Tasks},
};
use dulse_volume::{
    DirConfig, VolumeServer, VolumeServerConfig,
    maintenance::{Routine, RoutineScrub, RoutineVacuum},
};

use crate::{
    golden::{EXPIRING, Expected, assert_served, await_admission, expected, golden, volumes_of},
    http::{get, runtime},
};

const HOST: &str = "127.0.0.1";
/// 2026-11-22, the day after they were written.
const NEXT_DAY: u64 = 1_795_305_600;
/// More than three days after they were written.
const LATER: u64 = NEXT_DAY + 3 * 24 * 3600;

/// A master and a volume server in this process.
struct Store {
    master: Master,
    volume: VolumeServer,
    tasks: Tasks,
}

impl Store {
    async fn start(dir: &Path, wall_secs: u64) -> Self {
        let (clock, metrics, tasks) =
            (Clock::manual(wall_secs * 1_000_000_000), Metrics::default(), Tasks::new());
        let config = MasterConfig {
            peers: Vec::new(),
            beside: None,
            dir: dir.join("master"),
            bind: HOST.to_owned(),
            port: 0,
            cluster_port: 0,
            identity: None,
            advertise: HOST.to_owned(),
            volume_size_limit_bytes: 30 << 30,
            default_replication: ReplicaPlacement::default(),
            max_needle_bytes: MAX_NEEDLE_BYTES,
        };
        let master = Master::start(config, clock.clone(), metrics.clone(), &tasks).await.unwrap();
        let config = volume_config(dir, &master);
        let volume = VolumeServer::start(config, clock, metrics, &tasks).await.unwrap();
        volume.ready().await;
        Self { master, volume, tasks }
    }

    fn master_url(&self) -> String {
        format!("http://{}", self.master.public_address())
    }

    fn volume_url(&self) -> String {
        format!("http://{}", self.volume.public_address())
    }

    async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.drain(std::time::Duration::from_secs(20)).await);
        self.volume.stop().await;
        self.master.stop().await;
    }
}

pub(crate) fn volume_config(dir: &Path, master: &Master) -> VolumeServerConfig {
    VolumeServerConfig {
        dirs: vec![DirConfig::at(dir)],
        bind: HOST.to_owned(),
        port: 0,
        cluster_port: 0,
        identity: None,
        advertise: HOST.to_owned(),
        public_url: None,
        masters: vec![ServerAddress {
            host: HOST.to_owned(),
            port: master.public_address().port(),
            cluster_port: master.cluster_address().port(),
        }],
        resolver: Resolver::system(),
        data_center: "DefaultDataCenter".to_owned(),
        rack: "DefaultRack".to_owned(),
        large_volumes: false,
        max_needle_bytes: MAX_NEEDLE_BYTES,
        routine: Routine {
            scrub: RoutineScrub {
                interval: None,
                bytes_per_sec: NonZeroU64::MAX,
                quiet_after_start: Duration::ZERO,
            },
            vacuum: RoutineVacuum { garbage_threshold: None },
        },
    }
}

/// Copies the expiring volumes of both golden directories into one.
fn copy_expiring(width: &str, to: &Path) -> Vec<u64> {
    let mut ids = Vec::new();
    for side in ["a", "b"] {
        let from = golden(width).join(side);
        for id in volumes_of(&from, EXPIRING) {
            ids.push(id);
            for end in ["dat", "idx", "vif"] {
                let name = format!("{EXPIRING}_{id}.{end}");
                std::fs::copy(from.join(&name), to.join(&name)).unwrap();
            }
        }
    }
    ids
}

fn served_until_it_expires(width: &str) {
    let dir = tempfile::tempdir().unwrap();
    let ids = copy_expiring(width, dir.path());
    let is_expiring = |one: &Expected| ids.contains(&one.volume());
    let expected: Vec<Expected> = expected(width).into_iter().filter(is_expiring).collect();
    assert!(expected.len() > 20, "{} needles of {EXPIRING}", expected.len());

    let store = runtime().block_on(Store::start(dir.path(), NEXT_DAY));
    await_admission(&store.master_url(), &ids);
    assert_served(&store.master_url(), &expected);
    runtime().block_on(store.stop());

    let store = runtime().block_on(Store::start(dir.path(), LATER));
    await_admission(&store.master_url(), &ids);
    for one in expected.iter().filter(|one| one.has_lifetime()) {
        let answer = get(&format!("{}/{}", store.volume_url(), one.fid));
        assert!(answer.error(404, "not_found").contains(&one.fid), "{}", answer.text());
    }
    runtime().block_on(store.stop());
}

#[test]
fn expiring_needles_with_4_byte_offsets_are_served_until_their_time() {
    served_until_it_expires("offset4");
}

#[test]
fn expiring_needles_with_5_byte_offsets_are_served_until_their_time() {
    served_until_it_expires("offset5");
}
