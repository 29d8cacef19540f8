//! What tests of the master stand on: the agreed state in memory, and reports to fill it with.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use dulse_shared::{
    id::{ClusterId, Collection, ReplicaPlacement, ServerId, Ttl, VolumeId},
    wire::{
        DirReport, DiskType, Epoch, ForeignVolume, Heartbeat, Incarnation, LocalState,
        VolumeConfig, VolumeReport,
    },
};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    assign::KeySource,
    cluster_log::{ClusterLog, MastersChange},
    cluster_state::{ClusterState, Command, Outcome},
    key_range::DrawError,
    raft::{Leadership, MembershipError, ProposeError},
    volume_layout::{LayoutKey, Place},
};

/// The limit that tests run with.
pub(crate) const LIMIT: u64 = 1_000_000;

/// A master by itself: what is proposed is applied at once.
pub(crate) struct LoneLog {
    state: Mutex<ClusterState>,
    applied: AtomicU64,
    is_leader: bool,
}

impl LoneLog {
    /// A founded cluster without volumes.
    pub(crate) fn founded(is_leader: bool) -> Self {
        let mut state = ClusterState::default();
        state.apply(&Command::FoundCluster { cluster: cluster() });
        Self { state: Mutex::new(state), applied: AtomicU64::new(1), is_leader }
    }
}

impl ClusterLog for LoneLog {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        async move {
            if !self.is_leader {
                return Err(ProposeError::NotLeader { leader: None });
            }
            let outcome = self.state.lock().unwrap().apply(&command);
            self.applied.fetch_add(1, Ordering::SeqCst);
            Ok(outcome)
        }
        .boxed()
    }

    fn show(&self, look: &mut dyn FnMut(&ClusterState)) {
        look(&self.state.lock().unwrap());
    }

    fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    fn change_masters(&self, _: MastersChange) -> BoxFuture<'_, Result<(), MembershipError>> {
        async { Err(MembershipError::Busy) }.boxed()
    }

    fn leadership(&self) -> Leadership {
        Leadership {
            is_leader: self.is_leader,
            term: 1,
            leader: self.is_leader.then(|| "127.0.0.1:9333".parse().unwrap()),
        }
    }
}

/// Keys from 1 in ranges of 100.
#[derive(Default)]
pub(crate) struct CountedKeys {
    next: AtomicU64,
    end: AtomicU64,
}

impl KeySource for CountedKeys {
    fn take(&self, count: u64) -> Option<u64> {
        let first = self.next.load(Ordering::SeqCst);
        let end = first.checked_add(count)?;
        if end > self.end.load(Ordering::SeqCst) {
            return None;
        }
        self.next.store(end, Ordering::SeqCst);
        Some(first)
    }

    fn draw(&self, count: u64) -> BoxFuture<'_, Result<u64, DrawError>> {
        let first = self.end.load(Ordering::SeqCst).max(1);
        self.next.store(first + count, Ordering::SeqCst);
        self.end.store(first + count.max(100), Ordering::SeqCst);
        async move { Ok(first) }.boxed()
    }

    fn keep_above(&self, _key: u64) -> bool {
        true
    }
}

/// The cluster of all tests.
pub(crate) fn cluster() -> ClusterId {
    ClusterId::from(0xc1)
}

/// A server's id from a small number.
pub(crate) fn server(n: u128) -> ServerId {
    ServerId::from(n)
}

/// A volume's id.
pub(crate) fn volume(n: u32) -> VolumeId {
    VolumeId::new(n).unwrap()
}

/// Where server `n` is reached.
pub(crate) fn place(n: u128) -> Arc<Place> {
    Arc::new(Place {
        server: server(n),
        url: format!("127.0.0.1:{}", 8080 + n),
        public_url: format!("public-{n}:80"),
        data_center: "dc".to_owned(),
        rack: "r".to_owned(),
    })
}

/// The layout of an assign without parameters.
pub(crate) fn plain_layout() -> LayoutKey {
    LayoutKey {
        collection: Collection::default(),
        placement: ReplicaPlacement::default(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
    }
}

/// The report of an empty volume at its first epoch.
pub(crate) fn report(n: u32) -> VolumeReport {
    VolumeReport {
        id: volume(n),
        collection: Collection::default(),
        placement: ReplicaPlacement::default(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
        device: 1,
        epoch: Epoch(1),
        size_bytes: 8,
        live_needles: 0,
        live_bytes: 0,
        garbage_needles: 0,
        garbage_bytes: 0,
        compaction_revision: 0,
        modified_at_secs: 0,
        local: LocalState::Ready,
        trouble: None,
    }
}

/// The report of a volume that was just made from its configuration.
pub(crate) fn report_of(config: &VolumeConfig) -> VolumeReport {
    VolumeReport {
        id: config.id,
        collection: config.collection.clone(),
        placement: config.placement,
        ttl: config.ttl,
        disk: config.disk.clone(),
        epoch: config.epoch,
        ..report(1)
    }
}

/// A volume file that was made elsewhere.
pub(crate) fn foreign(n: u32, placement: &str) -> ForeignVolume {
    ForeignVolume {
        id: volume(n),
        collection: Collection::default(),
        placement: placement.parse().unwrap(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
        live_needles: 5,
    }
}

/// A data directory with this many slots and some room.
pub(crate) fn dir(max_volumes: u32, volumes: u32) -> DirReport {
    DirReport {
        dir: "/data".to_owned(),
        disk: DiskType::default(),
        max_volumes,
        volumes,
        total_bytes: 100 << 30,
        free_bytes: 50 << 30,
        min_free_bytes: 1 << 30,
        is_low: false,
        trouble: None,
    }
}

/// A full first report of server `n` with 8 slots.
pub(crate) fn heartbeat(n: u128, volumes: Vec<VolumeReport>) -> Heartbeat {
    Heartbeat {
        server: server(n),
        incarnation: Incarnation(1),
        cluster: None,
        version: "0.1.0".to_owned(),
        url: format!("127.0.0.1:{}", 8080 + n),
        public_url: format!("public-{n}:80"),
        cluster_url: format!("127.0.0.1:{}", 18080 + n),
        data_center: String::new(),
        rack: String::new(),
        seq: 1,
        since: 0,
        dirs: vec![dir(8, u32::try_from(volumes.len()).unwrap())],
        volumes,
        gone: Vec::new(),
        foreign: Vec::new(),
        unserved: Vec::new(),
        max_key: 0,
        stopping: false,
    }
}
