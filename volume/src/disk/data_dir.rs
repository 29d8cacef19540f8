//! A data directory: its lock, its identity, the volume files in it, and the room of its disk.
//!
//! One process holds a directory at a time. The identity (`dulse.json`) says which server and
//! which cluster the files belong to, whatever address the server has today.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dulse_shared::{
    id::{ClusterId, ServerId},
    wire::DiskType,
};
use serde::{Deserialize, Serialize};

use super::{
    VolumeName,
    file::{Disk, Lock, OpenMode, durable_replace, read_small_file},
    trash::Trash,
};
use crate::config::{DirConfig, MinFreeSpace};

/// The identity's file.
pub const IDENTITY_FILE: &str = "dulse.json";
const LOCK_FILE: &str = "dulse.lock";
/// The format of the directory; a program that knows only older ones must not touch it.
const FORMAT_VERSION: u32 = 1;

/// Whose files a directory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The format of the directory.
    pub version: u32,
    /// The server.
    pub server: ServerId,
    /// The cluster, once the server has joined one.
    pub cluster: Option<ClusterId>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system says no.
    #[error("cannot {action} in the data directory {dir}: {source}; check --dir and its owner")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The directory.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {0} is in use by another dulse process: stop that one, or pass another \
         --dir"
    )]
    InUse(PathBuf),
    /// Its identity cannot be read.
    #[error(
        "{0} cannot be read as a dulse identity: {1}; restore it, or move it away to have the \
         directory join as a new server"
    )]
    Identity(PathBuf, String),
    /// It was written by a newer program.
    #[error("the data directory {dir} has format {found}; this program knows {FORMAT_VERSION}")]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Directories that belong to different servers or clusters.
    #[error(
        "the data directories {first} and {second} belong to different servers or clusters: start \
         one `dulse volume` for each"
    )]
    Mixed {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The same directory twice.
    #[error("the data directory {0} is given twice")]
    Twice(PathBuf),
}

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    files: Arc<dyn Disk>,
    path: PathBuf,
    disk: DiskType,
    identity: Mutex<Identity>,
    min_free_space: MinFreeSpace,
    total_bytes: AtomicU64,
    free_bytes: AtomicU64,
    /// Held for as long as the directory is used.
    _lock: Box<dyn Lock>,
}

/// A directory that is ours, before it is known whose files it holds.
struct LockedDir {
    path: PathBuf,
    disk: DiskType,
    lock: Box<dyn Lock>,
    identity: Option<Identity>,
}

/// Opens, locks and identifies all directories of a server.
///
/// New ones take the identity of the others, or a fresh one; a mixture is refused before anything
/// is written.
pub fn open_data_dirs(
    files: &Arc<dyn Disk>,
    configs: &[DirConfig],
    min_free_space: MinFreeSpace,
) -> Result<Vec<DataDir>, DataDirError> {
    let mut locked: Vec<LockedDir> = Vec::new();
    for config in configs {
        files.create_dir(&config.path).map_err(io_error("create it", &config.path))?;
        let path = files.resolve(&config.path).map_err(io_error("look", &config.path))?;
        if locked.iter().any(|other| other.path == path) {
            return Err(DataDirError::Twice(path));
        }
        let lock = lock_dir(&**files, &path)?;
        let identity = read_identity(&**files, &path)?;
        locked.push(LockedDir { path, disk: config.disk.clone(), lock, identity });
    }
    let known: Vec<_> = locked.iter().filter_map(|dir| Some((&dir.path, dir.identity?))).collect();
    if let Some(pair) = known.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        return Err(DataDirError::Mixed { first: pair[0].0.clone(), second: pair[1].0.clone() });
    }
    let identity = known.first().map_or_else(Identity::fresh, |(_, identity)| *identity);
    locked
        .into_iter()
        .map(|LockedDir { path, disk, lock, identity: found }| {
            if found.is_none() {
                write_identity(&**files, &path, &identity)?;
            }
            let dir = DataDir {
                files: files.clone(),
                path,
                disk,
                identity: Mutex::new(identity),
                min_free_space,
                total_bytes: AtomicU64::new(0),
                free_bytes: AtomicU64::new(0),
                _lock: lock,
            };
            dir.measure().map_err(io_error("measure the room", &dir.path))?;
            Ok(dir)
        })
        .collect()
}

impl Identity {
    fn fresh() -> Self {
        Self { version: FORMAT_VERSION, server: ServerId::random(), cluster: None }
    }
}

impl DataDir {
    /// Where its files come from.
    pub fn files(&self) -> &Arc<dyn Disk> {
        &self.files
    }

    /// Its trash.
    pub fn trash(&self) -> Trash {
        Trash::of(self.files.clone(), &self.path)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of disk it lies on.
    pub fn disk(&self) -> &DiskType {
        &self.disk
    }

    /// Whose files it holds.
    pub fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the cluster that the server has joined, durably.
    pub fn join(&self, cluster: ClusterId) -> Result<(), DataDirError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = Identity { cluster: Some(cluster), ..*identity };
        write_identity(&*self.files, &self.path, &joined)?;
        *identity = joined;
        Ok(())
    }

    /// The volumes whose `.dat` lies here.
    pub fn volume_names(&self) -> Result<Vec<VolumeName>, DataDirError> {
        let entries =
            self.files.list(&self.path).map_err(io_error("list the files", &self.path))?;
        let mut names = Vec::new();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".dat")) {
            match VolumeName::parse_dat(&entry.name) {
                Some(name) => names.push(name),
                None => {
                    let path = self.path.join(&entry.name);
                    tracing::warn!("{}: not a volume's name, left alone", path.display());
                }
            }
        }
        names.sort_by_key(|name| name.id);
        Ok(names)
    }

    /// Asks the file system how much room there is.
    pub fn measure(&self) -> io::Result<()> {
        let room = self.files.room(&self.path)?;
        self.total_bytes.store(room.total_bytes, Ordering::Relaxed);
        self.free_bytes.store(room.free_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Size of the file system in bytes, as last measured.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Bytes free for us, as last measured.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Below the first mark: no volume is created here, none is assigned.
    pub fn is_low(&self) -> bool {
        self.free_bytes() < self.min_free_space.bytes(self.total_bytes())
    }

    /// Whether that much more would leave it above the second mark.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let mark = self.min_free_space.bytes(self.total_bytes()) / 4;
        self.free_bytes() >= mark.saturating_add(bytes)
    }

    /// Below the second mark: nothing is uploaded, so that deletes and sidecars still fit.
    pub fn is_exhausted(&self) -> bool {
        self.free_bytes() < self.min_free_space.bytes(self.total_bytes()) / 4
    }
}

/// Makes sure that no other process uses a directory for as long as the answer is held.
pub fn lock_dir(files: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, DataDirError> {
    let made = files.open(&path.join(LOCK_FILE), OpenMode::WriteOrCreate);
    made.map_err(io_error("write", path))?;
    lock_made(files, path)
}

/// Makes sure that no process uses a directory for as long as the answer is held. Nothing is
/// written: `None` where none ever did.
pub fn lock_unused(files: &dyn Disk, path: &Path) -> Result<Option<Box<dyn Lock>>, DataDirError> {
    match lock_made(files, path) {
        Ok(lock) => Ok(Some(lock)),
        Err(DataDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn lock_made(files: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, DataDirError> {
    files.lock(&path.join(LOCK_FILE)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DataDirError::InUse(path.to_owned()),
        _ => io_error("take the lock", path)(error),
    })
}

fn read_identity(files: &dyn Disk, dir: &Path) -> Result<Option<Identity>, DataDirError> {
    let path = dir.join(IDENTITY_FILE);
    let bytes = read_small_file(files, &path).map_err(io_error("read dulse.json", dir))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let identity: Identity = serde_json::from_slice(&bytes)
        .map_err(|error| DataDirError::Identity(path, error.to_string()))?;
    if identity.version > FORMAT_VERSION {
        return Err(DataDirError::Newer { dir: dir.to_owned(), found: identity.version });
    }
    Ok(Some(identity))
}

fn write_identity(files: &dyn Disk, dir: &Path, identity: &Identity) -> Result<(), DataDirError> {
    let text = serde_json::to_vec_pretty(identity).map_err(io::Error::from);
    text.and_then(|text| durable_replace(files, &dir.join(IDENTITY_FILE), &text))
        .map_err(io_error("write dulse.json", dir))
}

fn io_error(action: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let dir = dir.to_owned();
    move |source| DataDirError::Io { action, dir, source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn open(paths: &[&Path]) -> Result<Vec<DataDir>, DataDirError> {
        let disk = DiskType::default();
        let configs: Vec<_> = paths
            .iter()
            .map(|path| DirConfig { path: path.to_path_buf(), disk: disk.clone() })
            .collect();
        open_data_dirs(&(Arc::new(RealDisk) as Arc<dyn Disk>), &configs, MinFreeSpace::Default)
    }

    #[test]
    fn a_directory_is_one_process_at_a_time_and_keeps_its_identity() {
        let temp = tempfile::tempdir().unwrap();
        let first = open(&[temp.path()]).unwrap();
        let cluster = ClusterId::random();
        first[0].join(cluster).unwrap();
        let error = open(&[temp.path()]).unwrap_err();
        assert!(matches!(error, DataDirError::InUse(_)), "{error}");
        let identity = first[0].identity();
        drop(first);
        let again = open(&[temp.path()]).unwrap();
        assert_eq!(again[0].identity(), identity);
        assert_eq!(identity.cluster, Some(cluster));
    }

    #[test]
    fn a_new_directory_joins_the_others_and_a_mixture_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(name));
        let server = open(&[&a]).unwrap()[0].identity().server;
        assert_eq!(open(&[&a, &b]).unwrap()[1].identity().server, server);
        open(&[&c]).unwrap();
        assert!(matches!(open(&[&a, &c]), Err(DataDirError::Mixed { .. })));
        assert!(matches!(open(&[&a, &a]), Err(DataDirError::Twice(_))));
    }

    #[test]
    fn an_unreadable_identity_is_named_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(IDENTITY_FILE), "{").unwrap();
        let error = open(&[temp.path()]).unwrap_err().to_string();
        assert!(error.contains("dulse.json"), "{error}");
        assert_eq!(fs::read(temp.path().join(IDENTITY_FILE)).unwrap(), b"{");
        let newer = r#"{"version":2,"server":"00000000000000000000000000000007","cluster":null}"#;
        fs::write(temp.path().join(IDENTITY_FILE), newer).unwrap();
        assert!(matches!(open(&[temp.path()]), Err(DataDirError::Newer { found: 2, .. })));
    }

    #[test]
    fn a_path_through_a_file_says_which_directory() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let error = open(&[&file.join("data")]).unwrap_err().to_string();
        assert!(error.contains("file/data") && error.contains("--dir"), "{error}");
    }
}
