//! How a volume comes to be: created, opened again, or admitted from another program.
//!
//! The sidecar is written before the volume file when a volume is created, and after everything
//! else when one is admitted: a volume file with a sidecar is always ours and whole.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64},
};

use dulse_shared::{
    id::ClusterId,
    wire::{Epoch, ForeignVolume, VolumeConfig},
};

use super::{
    check::stray_names,
    checkpoint::WriteState,
    compaction::finish_swap,
    counters::Counters,
    doubt::Doubt,
    duplicate::Duplicate,
    expiry::Ending,
    failure::Failure,
    fill::FillAhead,
    foreign_stamp::ForeignStamps,
    index_file::load_rows,
    needle_map::{Entry, Loader, NeedleMap},
    recovery::Loaded,
    remains,
    scrub::ScrubBook,
    served::Served,
    sidecar::{Checkpoint, Found, SIDECAR_VERSION, Sidecar},
    verified::VerifiedLately,
    volume::{Shared, Snapshot, Volume},
    volume_files::{Files, OpenError},
    watched_file::{ReadWatch, WatchedFile},
};
use crate::{
    disk::{
        DataDir, Disk, OpenMode, VolumeFile, VolumeName, durable_replace, read_small_file,
        write_all_at,
    },
    format::{CURRENT_VERSION, OffsetWidth, SUPERBLOCK_LEN, Superblock, Vif},
    writer::Queue,
};

/// A volume file that was found in a directory.
#[derive(Debug)]
pub enum Discovered {
    /// One of ours, open.
    Own(Arc<Volume>),
    /// One that no cluster has claimed.
    Foreign(ForeignVolume),
}

/// What opening needs to know besides the files.
#[derive(Clone, Debug)]
pub struct Opener {
    /// What all volumes of the server share.
    pub shared: Arc<Shared>,
    /// The offsets of new volumes.
    pub default_width: OffsetWidth,
}

/// Whose a volume is.
struct Claim {
    cluster: ClusterId,
    config: VolumeConfig,
    own_from: u64,
    /// Its time was over when it was last open.
    has_expired: bool,
    /// What the sidecar says, or will say first.
    checkpoint: Checkpoint,
}

impl Opener {
    /// Opens what lies under `name` if it is ours; only looks at it otherwise.
    pub fn discover(&self, dir: &Arc<DataDir>, name: &VolumeName) -> Result<Discovered, OpenError> {
        let Some(mut sidecar) = read_sidecar(&**dir.files(), dir.path(), name)? else {
            return self.inspect(dir, name).map(Discovered::Foreign);
        };
        let ours = dir.identity().cluster;
        if let Some(ours) = ours.filter(|ours| *ours != sidecar.cluster) {
            let path = name.dat(dir.path());
            return Err(OpenError::OtherCluster { path, found: sidecar.cluster, ours });
        }
        finish_swap(&**dir.files(), dir.path(), name)?;
        let files = Files::open(dir.files(), dir.path(), name, self.default_width)?;
        if let Some(what) = contradiction(&files.superblock, files.dat_len, &mut sidecar) {
            return Err(OpenError::Contradiction { path: name.dat(dir.path()), what });
        }
        let mut loaded =
            files.load_own(&sidecar.checkpoint, sidecar.own_from, &dir.trash(), self.now_ns())?;
        let Sidecar { cluster, config, own_from, has_expired, checkpoint, .. } = sidecar;
        // That of a tombstone which a compaction dropped is in no record any more.
        loaded.counters.max_ts = loaded.counters.max_ts.max(checkpoint.max_ts);
        // What is appended from here on is ours, however long the file was once.
        let is_shorter = loaded.dat_len < own_from;
        let own_from = own_from.min(loaded.dat_len);
        let claim = Claim { cluster, config, own_from, has_expired, checkpoint };
        let volume = self.assemble(dir, name, claim, loaded);
        if is_shorter {
            let path = name.sidecar(dir.path());
            volume.write_checkpoint().map_err(|source| OpenError::Io { path, source })?;
        }
        remove_strays(dir, name);
        Ok(Discovered::Own(volume))
    }

    /// Makes the files of a new, empty volume. If that fails half way, what was made is removed, as
    /// far as the disk lets it: the masters may have the volume created in another directory.
    pub fn create(
        &self,
        dir: &Arc<DataDir>,
        cluster: ClusterId,
        config: VolumeConfig,
    ) -> io::Result<Arc<Volume>> {
        let name = VolumeName { collection: config.collection.clone(), id: config.id };
        refuse_to_replace(&**dir.files(), dir.path(), &name)?;
        let mut begun = Vec::new();
        let made = self.make(dir, cluster, config, &name, &mut begun);
        if made.is_err() {
            take_back(dir, &name, &begun);
        }
        made
    }

    fn make(
        &self,
        dir: &Arc<DataDir>,
        cluster: ClusterId,
        config: VolumeConfig,
        name: &VolumeName,
        begun: &mut Vec<PathBuf>,
    ) -> io::Result<Arc<Volume>> {
        let disk = &**dir.files();
        let mut begin = |path: PathBuf| {
            begun.push(path.clone());
            path
        };
        let superblock = Superblock {
            version: CURRENT_VERSION,
            placement: config.placement,
            ttl: config.ttl,
            compaction_revision: 0,
            extra_len: 0,
        };
        let own_from = superblock.first_needle_offset().as_bytes();
        let checkpoint = Checkpoint { dat_len: own_from, ..Checkpoint::default() };
        let claim = Claim { cluster, config, own_from, has_expired: false, checkpoint };
        claim.sidecar(&superblock).write(disk, &begin(name.sidecar(dir.path())))?;
        let expire_at_secs = match superblock.ttl.duration() {
            Some(ttl) => self.shared.stamps.clock().wall_secs() + ttl.as_secs(),
            None => 0,
        };
        let vif = Vif::new(self.default_width, expire_at_secs);
        durable_replace(disk, &begin(name.vif(dir.path())), vif.encode().as_bytes())?;
        let idx = empty_file(disk, &begin(name.idx(dir.path())))?;
        let dat = empty_file(disk, &begin(name.dat(dir.path())))?;
        write_all_at(&*dat, &mut [IoSlice::new(&superblock.encode())], 0)?;
        dat.sync_data()?;
        disk.sync_dir(dir.path())?;
        let idx = super::index_file::IndexFile::open_at(idx, self.default_width, 0, 0)?;
        let loaded = Loaded {
            dat,
            superblock,
            width: self.default_width,
            map: NeedleMap::default(),
            counters: Counters::default(),
            idx,
            dat_len: own_from,
            damage: None,
            doubt: Doubt::default(),
            ignored_stamps: 0,
        };
        Ok(self.assemble(dir, name, claim, loaded))
    }

    /// Takes in a foreign volume that the cluster state now lists.
    pub fn admit(
        &self,
        dir: &Arc<DataDir>,
        cluster: ClusterId,
        config: VolumeConfig,
    ) -> Result<Arc<Volume>, OpenError> {
        self.admit_watched(dir, cluster, config, Arc::new(|_| true))
    }

    /// The same. `watch` hears of every read of the volume file, all of which may have to be read; once
    /// it has ended one it has to end all that follow. The volume is then as foreign as before.
    pub fn admit_watched(
        &self,
        dir: &Arc<DataDir>,
        cluster: ClusterId,
        config: VolumeConfig,
        watch: ReadWatch,
    ) -> Result<Arc<Volume>, OpenError> {
        let name = VolumeName { collection: config.collection.clone(), id: config.id };
        finish_swap(&**dir.files(), dir.path(), &name)?;
        let mut files = Files::open(dir.files(), dir.path(), &name, self.default_width)?;
        let dat = files.dat.clone();
        files.dat = Arc::new(WatchedFile::new(dat.clone(), watch));
        let loaded = files.load_foreign(&dir.trash(), self.now_ns())?;
        let loaded = Loaded { dat, ..loaded };
        // What a damaged volume's sidecar covers is nothing, so that every start finds the damage.
        let first = loaded.superblock.first_needle_offset().as_bytes();
        let checkpoint = Checkpoint { dat_len: first, ..Checkpoint::default() };
        let own_from = loaded.dat_len;
        let claim = Claim { cluster, config, own_from, has_expired: false, checkpoint };
        let volume = self.assemble(dir, &name, claim, loaded);
        let sidecar_path = name.sidecar(dir.path());
        volume.write_checkpoint().map_err(|source| OpenError::Io { path: sidecar_path, source })?;
        remove_strays(dir, &name);
        Ok(volume)
    }

    /// What a foreign volume's superblock and index say.
    fn inspect(&self, dir: &DataDir, name: &VolumeName) -> Result<ForeignVolume, OpenError> {
        let files = Files::open(dir.files(), dir.path(), name, self.default_width)?;
        let mut loader = Loader::default();
        let mut counters = Counters::default();
        let version = files.superblock.version;
        let mut moved = |before, after| counters.moved(before, after, version);
        let io_error = |source| OpenError::Io { path: name.idx(dir.path()), source };
        let idx_len = files.idx.len().map_err(io_error)?;
        load_rows(&*files.idx, files.width, idx_len, |row| {
            loader.enter(row.key, Entry { offset: row.offset, size: row.size }, &mut moved);
        })
        .map_err(io_error)?;
        loader.finish(moved);
        Ok(ForeignVolume {
            id: name.id,
            collection: name.collection.clone(),
            placement: files.superblock.placement,
            ttl: files.superblock.ttl,
            disk: dir.disk().clone(),
            live_needles: counters.live_needles,
        })
    }

    fn assemble(
        &self,
        dir: &Arc<DataDir>,
        name: &VolumeName,
        claim: Claim,
        loaded: Loaded,
    ) -> Arc<Volume> {
        self.shared.stamps.saw(loaded.counters.max_ts);
        let foreign_stamps = ForeignStamps::default();
        foreign_stamps.ignored(name.id, loaded.ignored_stamps);
        let write_state = WriteState {
            fill: FillAhead::at_rest(loaded.dat_len),
            checkpoint: claim.checkpoint,
            checkpointed_at: self.shared.stamps.clock().boot(),
            idx: loaded.idx,
            idx_is_broken: false,
            next: None,
            sidecar_is_unknown: false,
        };
        Arc::new(Volume {
            name: name.clone(),
            dir: dir.clone(),
            cluster: claim.cluster,
            superblock: loaded.superblock,
            width: loaded.width,
            shared: self.shared.clone(),
            served: Served::new(claim.config),
            compaction: Mutex::new(()),
            snapshot: RwLock::new(Snapshot {
                revision: loaded.superblock.compaction_revision,
                own_from: claim.own_from,
                map: loaded.map,
                dat: loaded.dat,
            }),
            counters: Mutex::new(loaded.counters),
            dat_len: AtomicU64::new(loaded.dat_len),
            damage: loaded.damage,
            doubt: loaded.doubt,
            duplicate: Duplicate::default(),
            foreign_stamps,
            ending: Ending::from_sidecar(claim.has_expired),
            failure: Failure::default(),
            write_state: Mutex::new(write_state),
            queue: Queue::default(),
            verified: VerifiedLately::default(),
            scrubbed: ScrubBook::default(),
        })
    }

    fn now_ns(&self) -> u64 {
        self.shared.stamps.clock().wall_ns()
    }
}

/// A volume file that could not be opened, or was put there meanwhile, is nobody's to overwrite.
/// One without a needle is what an interrupted creation left. Nor is an index with a row, which may
/// be all that is left of a volume.
fn refuse_to_replace(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<()> {
    let without_a_row = OffsetWidth::Four.row_len() - 1;
    for (path, len) in [(name.dat(dir), SUPERBLOCK_LEN), (name.idx(dir), without_a_row)] {
        match disk.open(&path, OpenMode::Read) {
            Ok(file) if file.len()? > len as u64 => {
                let text = format!("{} is there already and is left alone", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes what a creation that failed has made, the volume file first. Whatever stays still has its
/// sidecar, which says that nothing is in it, so that the next start removes it or sets it aside.
fn take_back(dir: &DataDir, name: &VolumeName, begun: &[PathBuf]) {
    let file_name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    let files: Vec<String> = begun.iter().rev().filter_map(file_name).collect();
    if let Err(error) = remains::remove(&**dir.files(), dir.path(), &files) {
        let path = dir.path().display();
        tracing::warn!(
            "{path}: what is left of the failed creation of volume {} cannot be removed: {error}; the next start does it",
            name.id
        );
    }
}

/// Turns a sidecar into what it says of the file with this superblock; how it cannot be that
/// volume's, if so. A superblock has no checksum of its own, and one wrong byte of it would have new
/// needles expire, or the whole file read as garbage.
pub fn contradiction(
    superblock: &Superblock,
    dat_len: u64,
    sidecar: &mut Sidecar,
) -> Option<String> {
    let Some(speaking) = sidecar.speaking_of(superblock.compaction_revision) else {
        let (found, kept) = (superblock.compaction_revision, sidecar.generation);
        return Some(format!("has the compaction revision {found}, its sidecar {kept}"));
    };
    *sidecar = speaking;
    let Sidecar { own_from, config, .. } = sidecar;
    let first = superblock.first_needle_offset().as_bytes();
    if superblock.version != CURRENT_VERSION && *own_from < dat_len {
        let version = superblock.version.as_byte();
        return Some(format!("says version {version}, and it holds records of version 3"));
    }
    if superblock.ttl != config.ttl {
        return Some(format!("has the ttl {:?}, its sidecar {:?}", superblock.ttl, config.ttl));
    }
    if first > *own_from {
        return Some(format!("has the first needle at {first}, its sidecar one at {own_from}"));
    }
    None
}

/// What a crash left beside the volume's files is of no use: what it was to replace is whole.
fn remove_strays(dir: &DataDir, name: &VolumeName) {
    for stray in stray_names(name) {
        let path = dir.path().join(stray);
        match dir.files().remove(&path) {
            Ok(()) => tracing::info!("removed {}, left over from a crash", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("cannot remove {}: {error}", path.display()),
        }
    }
}

/// Also clears what an interrupted creation left.
fn empty_file(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
    let file = disk.open(path, OpenMode::WriteOrCreate)?;
    file.truncate(0)?;
    Ok(file)
}

impl Claim {
    fn sidecar(&self, superblock: &Superblock) -> Sidecar {
        let revision = superblock.compaction_revision;
        new_sidecar(self.cluster, &self.config, self.own_from, revision, self.checkpoint)
    }
}

/// A sidecar with nothing in it that only several members need.
pub(super) fn new_sidecar(
    cluster: ClusterId,
    config: &VolumeConfig,
    own_from: u64,
    generation: u16,
    checkpoint: Checkpoint,
) -> Sidecar {
    Sidecar {
        version: SIDECAR_VERSION,
        cluster,
        fence: Epoch(config.epoch.0),
        config: config.clone(),
        generation,
        own_from,
        resolved_len: checkpoint.dat_len,
        aborted: Vec::new(),
        reconciled: Vec::new(),
        has_expired: false,
        checkpoint,
        next: None,
    }
}

/// The sidecar of a volume, if it has one that can be read.
pub fn read_sidecar(
    disk: &dyn Disk,
    dir: &Path,
    name: &VolumeName,
) -> Result<Option<Sidecar>, OpenError> {
    let path = name.sidecar(dir);
    let bytes = read_small_file(disk, &path)
        .map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match bytes.map_or(Found::Absent(None), |bytes| Sidecar::decode(&bytes)) {
        Found::Sidecar(sidecar) => Ok(Some(*sidecar)),
        Found::Newer(found) => Err(OpenError::Newer { path, found }),
        Found::Absent(reason) => {
            if let Some(reason) = reason {
                tracing::warn!("{}: the sidecar cannot be read: {reason}", path.display());
            }
            Ok(None)
        }
    }
}
