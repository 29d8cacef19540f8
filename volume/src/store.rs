//! The volumes of a server: found at start, created and admitted since, closed at the end.
//!
//! A volume is in the store only while its files are whole and its sidecar names this cluster.
//! Files that nobody has claimed yet are listed apart and left untouched.

mod admission;
mod contradictions;
mod deletion;
mod holdings;
mod side_by_side;
mod twins;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak, atomic::Ordering},
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, ServerId, VolumeId},
    wire::{DirReport, ForeignVolume, UnservedVolume, VolumeConfig, VolumeReport},
};
use tokio::sync::watch;

use self::{
    admission::Admissions,
    contradictions::Contradictions,
    side_by_side::side_by_side,
    twins::{Opened, Others},
};
pub use self::{
    admission::{Foreign, Standing},
    contradictions::Contradiction,
};
use crate::{
    disk::{DataDir, DataDirError, VolumeName},
    engine::{
        clock_trust::ClockTrust,
        open::{Discovered, Opener},
        volume::Volume,
        volume_files::OpenError,
    },
    unserved::Unserved,
    writer,
};

/// Slots of a directory at least, whatever the size of its disk.
const MIN_SLOTS: u64 = 8;

/// Volumes that are closed side by side: each waits for syncs most of the time.
const CLOSED_AT_ONCE: usize = 16;

/// The volumes and directories of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

/// The volumes of a server for as long as it runs.
#[derive(Clone, Debug)]
pub struct WeakStore(Weak<Inner>);

impl WeakStore {
    /// The store, unless its server has ended.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store)
    }
}

#[derive(Debug)]
struct Inner {
    dirs: Vec<Arc<DataDir>>,
    opener: Opener,
    volumes: RwLock<HashMap<VolumeId, Arc<Volume>>>,
    foreign: Mutex<BTreeMap<(usize, VolumeId), Foreign>>,
    unserved: Mutex<Unserved>,
    /// Held while volumes are created or taken over from the foreign ones, so that two never share
    /// an id; never while a volume's files are read.
    changing: Mutex<()>,
    admissions: Admissions,
    /// What the start found and could not open.
    others: OnceLock<Others>,
    contradictions: Contradictions,
    changed: watch::Sender<()>,
    /// Held while a cluster is joined: masters of two may answer at once.
    joining: Mutex<()>,
}

/// Why a volume cannot be created, or its configuration not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The server has not joined a cluster yet.
    #[error("the volume server has not joined a cluster yet")]
    NoCluster,
    /// Another cluster's master asks.
    #[error("this volume server belongs to the cluster {ours}, not to {theirs}")]
    OtherCluster {
        /// Ours.
        ours: ClusterId,
        /// The caller's.
        theirs: ClusterId,
    },
    /// No directory has a slot and room.
    #[error("no data directory has a free slot and room for volume {0}")]
    NoRoom(VolumeId),
    /// The server has files of that id already.
    #[error("volume {0} exists here already, under another configuration")]
    Exists(VolumeId),
    /// Its files cannot be made.
    #[error("cannot create volume {id}: {source}")]
    Create {
        /// The volume.
        id: VolumeId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a cluster was not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another one was.
    #[error("this volume server belongs to the cluster {ours}, not to {theirs}")]
    OtherCluster {
        /// Ours.
        ours: ClusterId,
        /// The one to be joined.
        theirs: ClusterId,
    },
    /// A directory cannot take note of it.
    #[error(transparent)]
    Dir(#[from] DataDirError),
}

impl Store {
    /// What does not keep it from ending.
    pub fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.0))
    }

    /// Opens every volume of `dirs`, several at a time. One that cannot be opened is reported and
    /// left alone; the others are not concerned. So is a directory that cannot be read, unless it
    /// is the only one.
    pub fn open(dirs: Vec<DataDir>, opener: Opener) -> Result<Self, DataDirError> {
        let store = Self(Arc::new(Inner {
            dirs: dirs.into_iter().map(Arc::new).collect(),
            opener,
            volumes: RwLock::default(),
            foreign: Mutex::default(),
            unserved: Mutex::default(),
            changing: Mutex::default(),
            admissions: Admissions::default(),
            others: OnceLock::new(),
            contradictions: Contradictions::default(),
            changed: watch::Sender::new(()),
            joining: Mutex::default(),
        }));
        let (mut found, mut opened) = (Vec::new(), Opened::default());
        for (index, dir) in store.0.dirs.iter().enumerate() {
            match store.look_into(dir, &mut opened) {
                Ok(names) => found.extend(names.into_iter().map(|name| (index, name))),
                Err(error) if store.is_only_usable(dir) => return Err(error),
                Err(error) => {
                    tracing::error!("{error}; the server starts without this directory");
                    dir.fail(&error.to_string());
                }
            }
        }
        let mut discovered = store.discover_all(&found);
        // In the order of the directories, whichever was opened first.
        discovered.sort_by_key(|(at, _)| *at);
        for (at, result) in discovered {
            let (dir_index, name) = &found[at];
            store.take_in(*dir_index, name, result, &mut opened);
        }
        store.serve(opened);
        Ok(store)
    }

    /// The volumes of a directory, after what interrupted creations left there is gone.
    fn look_into(
        &self,
        dir: &DataDir,
        opened: &mut Opened,
    ) -> Result<Vec<VolumeName>, DataDirError> {
        if dir.failure().is_some() {
            return Ok(Vec::new());
        }
        // What is on its way to the trash is not missing.
        deletion::finish_moves(dir);
        let looked = lock(&self.0.unserved).look_for_remains(dir);
        let lost = looked.map_err(|source| DataDirError::Io {
            action: "look for what is left over",
            dir: dir.path().to_owned(),
            source,
        })?;
        lost.iter().for_each(|name| opened.add_lost(dir, name));
        dir.volume_names()
    }

    fn is_only_usable(&self, dir: &DataDir) -> bool {
        let mut others = self.0.dirs.iter().filter(|other| other.path() != dir.path());
        others.all(|other| other.failure().is_some())
    }

    /// Opens several at a time; each result with its position in `found`.
    fn discover_all(
        &self,
        found: &[(usize, VolumeName)],
    ) -> Vec<(usize, Result<Discovered, OpenError>)> {
        let discovered = Mutex::new(Vec::with_capacity(found.len()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        side_by_side(found, threads, |at, (dir_index, name)| {
            let result = self.0.opener.discover(&self.0.dirs[*dir_index], name);
            lock(&discovered).push((at, result));
        });
        discovered.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(
        &self,
        dir_index: usize,
        name: &VolumeName,
        result: Result<Discovered, OpenError>,
        opened: &mut Opened,
    ) {
        let dir = &self.0.dirs[dir_index];
        match result {
            Ok(Discovered::Own(volume)) => opened.add(volume),
            Ok(Discovered::Foreign(volume)) => {
                opened.add_foreign(dir, name);
                self.let_wait(dir_index, volume);
            }
            Err(error) => {
                lock(&self.0.unserved).note(name, &error.to_string());
                opened.add_unopened(dir, name, &error);
            }
        }
    }

    /// Lists a volume that nobody has claimed. One directory may have two with an id, in two
    /// collections: the first waits.
    fn let_wait(&self, dir_index: usize, volume: ForeignVolume) {
        let mut foreign = lock(&self.0.foreign);
        if let Some(first) = foreign.get(&(dir_index, volume.id)) {
            let name =
                |of: &ForeignVolume| VolumeName { collection: of.collection.clone(), id: of.id };
            let dir = self.0.dirs[dir_index].path();
            let reason = format!(
                "{} and {} have the same id: the first may be admitted; move one away and start the \
                 server again",
                name(&first.volume).dat(dir).display(),
                name(&volume).dat(dir).display(),
            );
            lock(&self.0.unserved).note(&name(&volume), &reason);
            return;
        }
        foreign.insert((dir_index, volume.id), Foreign { volume, standing: Standing::Unclaimed });
    }

    /// Whoever adds a volume makes sure that none with its id is served.
    fn insert(&self, volume: Arc<Volume>) {
        let mut volumes = self.0.volumes.write().unwrap_or_else(PoisonError::into_inner);
        volumes.insert(volume.id(), volume);
    }

    /// An open volume.
    pub fn volume(&self, id: VolumeId) -> Option<Arc<Volume>> {
        self.0.volumes.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All open volumes, by id.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        let volumes = self.0.volumes.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = volumes.values().cloned().collect();
        all.sort_by_key(|volume| volume.id());
        all
    }

    /// Volumes that have files here and are not served.
    pub fn unserved(&self) -> Vec<UnservedVolume> {
        lock(&self.0.unserved).reports()
    }

    /// Why a volume that has files here is not served, if so.
    pub fn unserved_reason(&self, id: VolumeId) -> Option<String> {
        lock(&self.0.unserved).reason_of(id).map(str::to_owned)
    }

    /// The server's id, the same in all its directories.
    pub fn server(&self) -> ServerId {
        self.0.dirs.first().map_or(ServerId::from(0), |dir| dir.identity().server)
    }

    /// The cluster that the server has joined.
    pub fn cluster(&self) -> Option<ClusterId> {
        let usable = self.0.dirs.iter().find(|dir| dir.failure().is_none());
        usable.or(self.0.dirs.first()).and_then(|dir| dir.identity().cluster)
    }

    /// Joins a cluster, durably, unless another was joined before, be it a moment ago; nothing
    /// changes if it was this one.
    pub fn join(&self, cluster: ClusterId) -> Result<(), JoinError> {
        let _joining = lock(&self.0.joining);
        if let Some(ours) = self.cluster().filter(|ours| *ours != cluster) {
            return Err(JoinError::OtherCluster { ours, theirs: cluster });
        }
        for dir in self.0.dirs.iter().filter(|dir| dir.identity().cluster != Some(cluster)) {
            dir.join(cluster)?;
        }
        Ok(())
    }

    /// The size at which a volume is full, in bytes; 0 until a master told it.
    pub fn volume_size_limit_bytes(&self) -> u64 {
        self.0.opener.shared.volume_size_limit_bytes.load(Ordering::Relaxed)
    }

    /// Takes note of the size at which a volume is full.
    pub fn limit_volume_size(&self, bytes: u64) {
        self.0.opener.shared.volume_size_limit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says whether something may be deleted by the server's clock.
    pub fn clock_trust(&self) -> &ClockTrust {
        &self.0.opener.shared.clock_trust
    }

    /// Measures the room of every disk anew.
    pub fn measure(&self) {
        for dir in &self.0.dirs {
            dir.measure(self.clock());
        }
    }

    /// The data directories.
    pub fn data_dirs(&self) -> &[Arc<DataDir>] {
        &self.0.dirs
    }

    /// The directories and their room.
    pub fn dirs(&self) -> Vec<DirReport> {
        let held = self.slots_in_use();
        let reports = self.0.dirs.iter().zip(held).map(|(dir, volumes)| DirReport {
            dir: dir.path().display().to_string(),
            disk: dir.disk().clone(),
            max_volumes: self.slots(dir),
            volumes,
            total_bytes: dir.total_bytes(),
            free_bytes: dir.free_bytes(),
            min_free_bytes: dir.min_free_bytes(),
            is_low: dir.is_low(),
            trouble: dir.failure().map(str::to_owned),
        });
        reports.collect()
    }

    /// Slots of a directory: as told, else what its disk holds of full volumes.
    fn slots(&self, dir: &DataDir) -> u32 {
        dir.max_volumes().unwrap_or_else(|| {
            let limit = self.volume_size_limit_bytes().max(1);
            let limit = if limit == 1 { u64::MAX } else { limit };
            u32::try_from((dir.total_bytes() / limit).max(MIN_SLOTS)).unwrap_or(u32::MAX)
        })
    }

    fn slots_in_use(&self) -> Vec<u32> {
        let volumes = self.volumes();
        let foreign = lock(&self.0.foreign);
        let in_use = self.0.dirs.iter().enumerate().map(|(index, dir)| {
            let own = volumes.iter().filter(|volume| volume.dir().path() == dir.path()).count();
            let others = foreign.keys().filter(|(other, _)| *other == index).count();
            u32::try_from(own + others).unwrap_or(u32::MAX)
        });
        in_use.collect()
    }

    /// What every volume says of itself.
    pub fn reports(&self) -> Vec<VolumeReport> {
        self.volumes().iter().map(|volume| volume.report()).collect()
    }

    /// The highest needle key on the disks.
    pub fn max_key(&self) -> u64 {
        self.volumes().iter().map(|volume| volume.keys().1).max().unwrap_or(0)
    }

    /// Wakes at every change that masters should hear of at once.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Creates a volume that the cluster state lists. Repeating it answers the same volume.
    pub fn create(
        &self,
        cluster: ClusterId,
        config: VolumeConfig,
    ) -> Result<Arc<Volume>, StoreError> {
        self.check_cluster(cluster)?;
        let _changing = lock(&self.0.changing);
        if let Some(volume) = self.volume(config.id) {
            let is_same = volume.config().members == config.members;
            return if is_same { Ok(volume) } else { Err(StoreError::Exists(config.id)) };
        }
        let is_foreign = lock(&self.0.foreign).keys().any(|(_, id)| *id == config.id);
        if is_foreign || lock(&self.0.unserved).has(config.id) {
            return Err(StoreError::Exists(config.id));
        }
        let id = config.id;
        let dir = self.roomiest_dir(&config).ok_or(StoreError::NoRoom(id))?;
        let volume = self.0.opener.create(dir, cluster, config);
        let volume = volume.map_err(|source| StoreError::Create { id, source })?;
        self.insert(volume.clone());
        self.0.changed.send_replace(());
        Ok(volume)
    }

    fn roomiest_dir(&self, config: &VolumeConfig) -> Option<&Arc<DataDir>> {
        let in_use = self.slots_in_use();
        let with_room = self.0.dirs.iter().zip(in_use).filter(|(dir, in_use)| {
            *dir.disk() == config.disk && !dir.is_low() && *in_use < self.slots(dir)
        });
        with_room.max_by_key(|(dir, _)| dir.free_bytes()).map(|(dir, _)| dir)
    }

    /// Where time comes from.
    pub(crate) fn clock(&self) -> &Clock {
        self.0.opener.shared.stamps.clock()
    }

    fn check_cluster(&self, theirs: ClusterId) -> Result<(), StoreError> {
        match self.cluster() {
            Some(ours) if ours == theirs => Ok(()),
            Some(ours) => Err(StoreError::OtherCluster { ours, theirs }),
            None => Err(StoreError::NoCluster),
        }
    }

    /// Closes all volumes, several at a time: what waits is written, then a checkpoint.
    pub fn close(&self) {
        side_by_side(&self.volumes(), CLOSED_AT_ONCE, |_, volume| writer::close(volume));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
