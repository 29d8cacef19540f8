//! Foreign volumes that take long to read: nothing else of the server waits for them, a stop ends
//! the reading, and one that cannot be read says why and is not read all the time.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, VolumeId},
    wire::{Epoch, VolumeConfig},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{
        Disk, VolumeName, open_data_dirs,
        simulated::{EIO, Fault, Operation},
    },
    engine::write::Write,
    store::{Standing, Store, StoreError},
};

use crate::{
    harness::{NOW_NS, SIMULATED_DIR, needle, opener_at, read_of, volume_config},
    troubled_disk::{DEADLINE, TroubledDisk},
};

const CLUSTER: u128 = 1;

struct Server {
    slow: TroubledDisk,
    clock: Clock,
    store: Store,
}

fn open(slow: &TroubledDisk, clock: &Clock) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(slow.clone());
    let dirs = [DirConfig::at(SIMULATED_DIR).with_limits(DirLimits::NONE)];
    let dirs = open_data_dirs(&disk, &dirs).unwrap();
    let store = Store::open(dirs, opener_at(clock.clone())).unwrap();
    store.join(ClusterId::from(CLUSTER)).unwrap();
    store
}

fn id(id: u32) -> VolumeId {
    VolumeId::new(id).unwrap()
}

fn name(id: u32) -> VolumeName {
    VolumeName { collection: "".parse().unwrap(), id: self::id(id) }
}

impl Server {
    /// With volume 1 of its own, and as many foreign ones behind it without an index, a needle in
    /// each.
    fn with_foreign(ids: std::ops::RangeInclusive<u32>) -> Self {
        let slow = TroubledDisk::new();
        let clock = Clock::manual(NOW_NS);
        let store = open(&slow, &clock);
        let server = Self { slow, clock, store };
        for id in 1..=*ids.end() {
            let volume = server.create(id).unwrap();
            let put = Write::Put(needle(5, format!("in volume {id}").as_bytes()));
            volume.commit(vec![put]).remove(0).unwrap();
        }
        server.store.close();
        let Self { slow, clock, store } = server;
        drop(store);
        for id in ids {
            slow.disk.erase(&name(id).sidecar(SIMULATED_DIR.as_ref()));
            slow.disk.erase(&name(id).idx(SIMULATED_DIR.as_ref()));
        }
        let store = open(&slow, &clock);
        Self { slow, clock, store }
    }

    fn config(&self, id: u32) -> VolumeConfig {
        let dir = &self.store.data_dirs()[0];
        VolumeConfig { id: self::id(id), ..volume_config(dir) }
    }

    fn create(&self, id: u32) -> Result<Arc<dulse_volume::engine::volume::Volume>, StoreError> {
        self.store.create(ClusterId::from(CLUSTER), self.config(id))
    }

    fn accept(&self, id: u32, epoch: u64) {
        let config = VolumeConfig { epoch: Epoch(epoch), ..self.config(id) };
        self.store.accept_config(ClusterId::from(CLUSTER), config).unwrap();
    }

    fn accept_both(&self) {
        self.accept(2, 1);
        self.accept(3, 1);
    }

    fn standing(&self, id: u32) -> Option<Standing> {
        let foreign = self.store.foreign().into_iter();
        let mut with_id = foreign.filter(|foreign| foreign.volume.id == self::id(id));
        with_id.next().map(|foreign| foreign.standing)
    }

    /// Admits what waits, on a thread of its own; hears when that is over.
    fn admit(&self) -> mpsc::Receiver<()> {
        let store = self.store.clone();
        let (done, over) = mpsc::channel();
        thread::spawn(move || {
            while store.admit_next() {}
            drop(store);
            done.send(())
        });
        over
    }

    fn data(&self, id: u32) -> Vec<u8> {
        let volume = self.store.volume(self::id(id)).unwrap();
        read_of(&volume, 5).unwrap().data.to_vec()
    }
}

/// What `work` gives, which must not wait for the gate.
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, result) = mpsc::channel();
    thread::spawn(move || give.send(work()));
    result.recv_timeout(DEADLINE).expect("it waits for the slow disk")
}

#[test]
fn nothing_waits_for_a_foreign_volume_that_is_being_read() {
    let server = Arc::new(Server::with_foreign(2..=3));
    assert_eq!(server.standing(2), Some(Standing::Unclaimed));
    server.slow.gate.close();
    // What masters say twice a second.
    let hear = |server: &Arc<Server>| {
        let server = server.clone();
        at_once(move || server.accept_both());
    };
    hear(&server);
    let over = server.admit();
    server.slow.gate.wait_for_a_reader();
    hear(&server);
    assert_eq!(server.standing(2), Some(Standing::UnderWay));
    assert_eq!(server.standing(3), Some(Standing::Waiting));
    let others = server.clone();
    let (taken, epoch) = at_once(move || {
        others.accept(1, 9);
        others.create(10).unwrap();
        let taken = [2, 3].map(|id| matches!(others.create(id), Err(StoreError::Exists(_))));
        others.store.refuse_foreign(id(2), "what an earlier answer said");
        (taken, others.store.volume(id(1)).unwrap().config().epoch)
    });
    assert_eq!((taken, epoch), ([true, true], Epoch(9)));
    assert_eq!(server.standing(2), Some(Standing::UnderWay));
    let served = |server: &Server| server.store.reports().iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(served(&server), [id(1), id(10)]);
    server.slow.gate.open();
    over.recv_timeout(DEADLINE).unwrap();
    assert!(server.store.foreign().is_empty());
    assert_eq!(served(&server), [id(1), id(2), id(3), id(10)]);
    assert_eq!((server.data(2), server.data(3)), (b"in volume 2".into(), b"in volume 3".into()));
}

#[test]
fn a_stop_ends_the_reading_and_the_next_start_reads_anew() {
    let server = Server::with_foreign(2..=3);
    server.slow.gate.close();
    server.accept_both();
    let before = server.slow.disk.contents(&name(2).dat(SIMULATED_DIR.as_ref()));
    let over = server.admit();
    server.slow.gate.wait_for_a_reader();
    server.store.stop_admitting();
    server.slow.gate.open();
    over.recv_timeout(DEADLINE).unwrap();
    assert_eq!(server.store.volumes().len(), 1, "neither was admitted");
    let sidecar = name(2).sidecar(SIMULATED_DIR.as_ref());
    assert_eq!(server.slow.disk.contents(&sidecar), None);
    assert_eq!(server.slow.disk.contents(&name(2).dat(SIMULATED_DIR.as_ref())), before);
    server.store.close();
    let Server { slow, clock, store } = server;
    drop(store);
    let server = Server { store: open(&slow, &clock), slow, clock };
    server.accept_both();
    server.admit().recv_timeout(DEADLINE).unwrap();
    assert_eq!((server.data(2), server.data(3)), (b"in volume 2".into(), b"in volume 3".into()));
}

#[test]
fn a_volume_that_cannot_be_read_says_why_and_rests_a_while() {
    let server = Server::with_foreign(2..=3);
    let try_both = || {
        server.accept_both();
        server.admit().recv_timeout(DEADLINE).unwrap();
    };
    // The second read of a volume file: the first looks at the superblock.
    server.slow.disk.plan(Operation::Read, Some("dat"), 1, Fault::Fails(EIO));
    try_both();
    assert!(server.slow.disk.forgive());
    let Some(Standing::Refused(reason)) = server.standing(2) else { panic!("it was refused") };
    assert!(reason.contains("2.dat") && reason.contains("os error 5"), "{reason}");
    assert_eq!(server.data(3), b"in volume 3", "the one behind it is not concerned");
    for _ in 0..3 {
        try_both();
        assert_eq!(server.standing(2), Some(Standing::Refused(reason.clone())), "it rests");
    }
    server.clock.advance(Duration::from_secs(60));
    try_both();
    assert_eq!((server.standing(2), server.data(2)), (None, b"in volume 2".into()));
}
