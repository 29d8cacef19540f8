//! A data directory with one volume that can be closed, dropped and opened again.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use dulse_shared::{
    clock::Clock,
    id::{ClusterId, Collection, Cookie, NeedleKey, ReplicaPlacement, Ttl, VolumeId},
    net::metrics::Metrics,
    wire::{DiskType, Epoch, Member, VolumeConfig, VolumeState},
};
use dulse_volume::{
    config::{DirConfig, DirLimits},
    disk::{
        DataDir, Disk, RealDisk, VolumeName, open_data_dirs, read_small_file,
        simulated::SimulatedDisk, write_all_at,
    },
    engine::{
        clock_trust::ClockTrust,
        metrics::EngineMetrics,
        open::{Discovered, Opener},
        stamp::StampSource,
        volume::{Shared, Volume},
        volume_files::OpenError,
        write::{Write, WriteError, Written},
    },
    format::{Needle, NeedleMeta, NewNeedle, OffsetWidth},
    needle_data::{NeedleData, Spool},
    reader::{Found, ReadError, read_needle},
    writer,
};
use tempfile::TempDir;

pub struct Rig {
    _temp: Option<TempDir>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub dir: Arc<DataDir>,
    pub opener: Opener,
    pub volume: Arc<Volume>,
}

thread_local! {
    pub static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().unwrap();
}

/// What the clock of a simulated machine says.
pub const NOW_NS: u64 = 1_795_305_600_000_000_000;
/// Where volumes lie on a simulated disk.
pub const SIMULATED_DIR: &str = "/data";

pub fn name() -> VolumeName {
    VolumeName { collection: Collection::default(), id: VolumeId::new(7).unwrap() }
}

pub fn key(key: u64) -> NeedleKey {
    NeedleKey::new(key).unwrap()
}

pub const COOKIE: Cookie = Cookie(0xc00c_1e00);

pub fn needle(key: u64, data: &[u8]) -> NewNeedle<NeedleData> {
    NewNeedle {
        key: NeedleKey::new(key).unwrap(),
        cookie: COOKIE,
        data: Bytes::copy_from_slice(data).into(),
        checksum: crc32c::crc32c(data),
        meta: NeedleMeta {
            name: Some(Bytes::from_static(b"a name")),
            last_modified_secs: Some(1_700_000_000),
            ..NeedleMeta::default()
        },
    }
}

/// The same needle, its data in a spool file of this disk.
pub fn spooled(disk: &dyn Disk, key: u64, data: &[u8]) -> io::Result<NewNeedle<NeedleData>> {
    let file = disk.spool(Path::new(SIMULATED_DIR))?;
    write_all_at(&*file, &mut [IoSlice::new(data)], 0)?;
    let data_in_file = NeedleData::Spooled(Spool::new(file, data.len() as u64));
    Ok(NewNeedle { data: data_in_file, ..needle(key, data) })
}

pub fn volume_config(dir: &DataDir) -> VolumeConfig {
    VolumeConfig {
        id: name().id,
        collection: Collection::default(),
        placement: ReplicaPlacement::default(),
        ttl: Ttl::NONE,
        disk: DiskType::default(),
        closed: false,
        epoch: Epoch(1),
        members: vec![Member { server: dir.identity().server, slot: 0 }],
        state: VolumeState::Writable,
        last_writable: None,
        sealed_with: Vec::new(),
        decision: None,
        next_slot: 0,
    }
}

pub fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

pub fn opener_at(clock: Clock) -> Opener {
    let shared = Shared {
        stamps: StampSource::new(clock.clone()),
        clock_trust: ClockTrust::new(clock),
        volume_size_limit_bytes: AtomicU64::new(30 << 30),
        max_needle_bytes: 256 << 20,
        metrics: EngineMetrics::register(&Metrics::default()),
    };
    Opener { shared: Arc::new(shared), default_width: OffsetWidth::Four }
}

pub fn open_dir(disk: &Arc<dyn Disk>, path: &Path) -> Arc<DataDir> {
    let dirs = [DirConfig::at(path).with_limits(DirLimits::NONE)];
    Arc::new(open_data_dirs(disk, &dirs).unwrap().remove(0))
}

pub fn read_of(volume: &Arc<Volume>, key: u64) -> Result<Needle, ReadError> {
    let read = read_needle(volume, self::key(key), COOKIE);
    match RUNTIME.with(|runtime| runtime.block_on(read))? {
        Found::Whole(needle) => Ok(needle),
        Found::Large(_) => panic!("the needles here are small"),
    }
}

/// Lets time pass on a manual clock while the server looks at it regularly.
pub fn watch(clock: &Clock, trust: &ClockTrust, length: Duration) {
    let mut left = length;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(60));
        clock.advance(step);
        trust.look();
        left -= step;
    }
}

impl Rig {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().to_owned();
        Self { _temp: Some(temp), ..Self::create(real_disk(), path, Clock::System, Ttl::NONE) }
    }

    pub fn on(disk: &SimulatedDisk) -> Self {
        Self::with_ttl(disk, "")
    }

    /// A volume whose needles live so long.
    pub fn with_ttl(disk: &SimulatedDisk, ttl: &str) -> Self {
        let clock = Clock::manual(NOW_NS);
        Self::create(Arc::new(disk.clone()), SIMULATED_DIR.into(), clock, ttl.parse().unwrap())
    }

    /// On a disk of a test's own making.
    pub fn over(disk: Arc<dyn Disk>) -> Self {
        Self::create(disk, SIMULATED_DIR.into(), Clock::manual(NOW_NS), Ttl::NONE)
    }

    pub fn create(disk: Arc<dyn Disk>, path: PathBuf, clock: Clock, ttl: Ttl) -> Self {
        Self::create_with(disk, path, clock, |config| VolumeConfig { ttl, ..config })
    }

    /// A volume with a configuration that differs from the ordinary one.
    pub fn create_with(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        clock: Clock,
        configure: impl FnOnce(VolumeConfig) -> VolumeConfig,
    ) -> Self {
        let dir = open_dir(&disk, &path);
        let cluster = ClusterId::from(1);
        dir.join(cluster).unwrap();
        let opener = opener_at(clock);
        let config = configure(volume_config(&dir));
        let volume = opener.create(&dir, cluster, config).unwrap();
        Self { _temp: None, disk, path, dir, opener, volume }
    }

    pub fn clock(&self) -> &Clock {
        self.opener.shared.stamps.clock()
    }

    /// Lets time pass while the server looks at its clock regularly.
    pub fn watch(&self, length: Duration) {
        watch(self.clock(), &self.opener.shared.clock_trust, length);
    }

    pub fn dat(&self) -> PathBuf {
        name().dat(self.dir.path())
    }

    pub fn idx(&self) -> PathBuf {
        name().idx(self.dir.path())
    }

    pub fn put(&self, key: u64, data: &[u8]) -> Result<Written, WriteError> {
        self.commit(vec![Write::Put(needle(key, data))]).remove(0)
    }

    pub fn delete(&self, key: u64) -> Result<Written, WriteError> {
        self.commit(vec![Write::Delete { key: self::key(key), cookie: COOKIE }]).remove(0)
    }

    pub fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, WriteError>> {
        self.volume.commit(writes)
    }

    pub fn read(&self, key: u64) -> Result<Needle, ReadError> {
        read_of(&self.volume, key)
    }

    pub fn data(&self, key: u64) -> Option<Vec<u8>> {
        match self.read(key) {
            Ok(needle) => Some(needle.data.to_vec()),
            Err(ReadError::NotFound) => None,
            Err(error) => panic!("needle {key}: {error}"),
        }
    }

    /// Opens the volume again, after a clean close or as if the process had been killed.
    pub fn reopen(&mut self, is_clean: bool) {
        if is_clean {
            writer::close(&self.volume);
        }
        match self.opener.discover(&self.dir, &name()).unwrap() {
            Discovered::Own(volume) => self.volume = volume,
            Discovered::Foreign(foreign) => panic!("it is ours, not {foreign:?}"),
        }
    }

    /// A new process: it has seen no stamps, and its clock stands where the old one's stood.
    pub fn restart(&mut self) {
        let clock = self.opener.shared.stamps.clock().clone();
        self.opener = opener_at(clock);
    }

    /// Opens the volume again, and takes it in if it has lost its sidecar.
    pub fn try_start(&mut self, config: &VolumeConfig) -> Result<(), OpenError> {
        match self.opener.discover(&self.dir, &name())? {
            Discovered::Own(volume) => self.volume = volume,
            Discovered::Foreign(_) => {
                self.volume = self.opener.admit(&self.dir, ClusterId::from(1), config.clone())?;
            }
        }
        Ok(())
    }

    /// What lies in the trash.
    pub fn trash(&self) -> Vec<Vec<u8>> {
        let trash = self.path.join("trash");
        let Ok(entries) = self.disk.list(&trash) else {
            return Vec::new();
        };
        let read = |name| read_small_file(&*self.disk, &trash.join(name)).unwrap().unwrap();
        entries.into_iter().map(|entry| read(entry.name)).collect()
    }
}
