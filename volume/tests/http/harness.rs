//! A store with one volume behind a listener, and requests to it.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, Collection, Cookie, NeedleKey, ReplicaPlacement, Ttl, VolumeId},
    net::{
        metrics::{Metrics, RequestMetrics},
        server::{bind, spawn_server},
        tasks::Tasks,
    },
    wire::{DiskType, Epoch, Member, VolumeConfig, VolumeState},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{Disk, RealDisk, open_data_dirs},
    engine::{
        clock_trust::ClockTrust, metrics::EngineMetrics, open::Opener, stamp::StampSource,
        volume::Shared,
    },
    format::{NeedleMeta, NewNeedle, OffsetWidth},
    http::{HttpSettings, HttpState, PublicPort},
    maintenance::{Maintenance, Routine, RoutineScrub, RoutineVacuum},
    store::Store,
    writer::{self, PutOutcome},
};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;

/// 2026-11-22 00:00:00 UTC.
pub const NOW_SECS: u64 = 1_795_305_600;
/// The largest needle of the servers here.
pub const MAX_NEEDLE_BYTES: u64 = 4 << 20;

pub struct Server {
    _dir: TempDir,
    pub store: Store,
    pub maintenance: Maintenance,
    pub clock: Clock,
    tasks: Tasks,
    base: String,
    client: Client,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The stable word of an error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

pub fn open_store(dir: &Path, clock: Clock) -> Store {
    let dirs = [DirConfig::at(dir).with_limits(DirLimits::NONE)];
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dirs = open_data_dirs(&disk, &dirs).unwrap();
    let shared = Shared {
        stamps: StampSource::new(clock.clone()),
        clock_trust: ClockTrust::new(clock),
        volume_size_limit_bytes: AtomicU64::new(30 << 30),
        max_needle_bytes: MAX_NEEDLE_BYTES,
        metrics: EngineMetrics::register(&Metrics::default()),
    };
    let default_width = OffsetWidth::Four;
    let opener = Opener { shared: Arc::new(shared), default_width };
    Store::open(dirs, opener).unwrap()
}

pub fn config(store: &Store, id: VolumeId, ttl: &str) -> VolumeConfig {
    VolumeConfig {
        id,
        collection: Collection::default(),
        placement: ReplicaPlacement::default(),
        ttl: ttl.parse::<Ttl>().unwrap(),
        disk: DiskType::default(),
        closed: false,
        epoch: Epoch(1),
        members: vec![Member { server: store.server(), slot: 0 }],
        state: VolumeState::Writable,
        last_writable: None,
        sealed_with: Vec::new(),
        decision: None,
        next_slot: 0,
    }
}

impl Server {
    /// A server with volume 3, and volume 4 whose needles live three days.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW_SECS * 1_000_000_000);
        let store = open_store(dir.path(), clock.clone());
        let cluster = ClusterId::from(1);
        store.join(cluster).unwrap();
        for (id, ttl) in [(3, ""), (4, "3d")] {
            let config = config(&store, VolumeId::new(id).unwrap(), ttl);
            store.create(cluster, config).unwrap();
        }
        Self::serve(dir, store, clock).await
    }

    pub async fn serve(dir: TempDir, store: Store, clock: Clock) -> Self {
        let metrics = Metrics::default();
        let requests = RequestMetrics::register(&metrics, "volume");
        let tasks = Tasks::new();
        let listener = bind("127.0.0.1", 0, "--port").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let routine = Routine {
            scrub: RoutineScrub {
                interval: None,
                bytes_per_sec: NonZeroU64::MAX,
                quiet_after_start: Duration::ZERO,
            },
            vacuum: RoutineVacuum { garbage_threshold: None },
        };
        let maintenance = Maintenance::new(store.clone(), routine, &clock, &metrics);
        maintenance.spawn(&tasks);
        let state = HttpState::new(HttpSettings {
            store: store.clone(),
            maintenance: maintenance.clone(),
            clock: clock.clone(),
            metrics,
            tasks: tasks.clone(),
            masters: vec!["127.0.0.1:9333".parse().unwrap()],
            url: url.clone(),
            public_url: "outside:80".to_owned(),
            max_needle_bytes: MAX_NEEDLE_BYTES,
        });
        // The listener measures with the machine's clock, whatever the volumes are told.
        spawn_server("public", listener, PublicPort::new(state), requests, Clock::System, &tasks);
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { _dir: dir, store, maintenance, clock, tasks, base: format!("http://{url}"), client }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn read_with(&self, path: &str, name: &str, value: &str) -> Answer {
        self.send(self.request(Method::GET, path).header(name, value)).await
    }

    pub async fn head(&self, path: &str) -> Answer {
        self.send(self.request(Method::HEAD, path)).await
    }

    pub async fn put(&self, path: &str, data: &[u8]) -> Answer {
        self.send(self.request(Method::PUT, path).body(data.to_vec())).await
    }

    /// Stores a needle in volume 3 that is flagged as gzip whatever it holds, as other programs do.
    pub async fn put_flagged_gzip(&self, key: u64, cookie: Cookie, data: &[u8]) {
        let volume = self.store.volume(VolumeId::new(3).unwrap()).unwrap();
        let needle = NewNeedle {
            key: NeedleKey::new(key).unwrap(),
            cookie,
            data: bytes::Bytes::copy_from_slice(data).into(),
            checksum: crc32c::crc32c(data),
            meta: NeedleMeta { is_gzipped: true, ..NeedleMeta::default() },
        };
        assert_eq!(writer::put(&volume, needle, false).await.unwrap(), PutOutcome::Stored);
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
        self.store.close();
    }
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that gzip cannot make shorter.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(next).collect()
}
