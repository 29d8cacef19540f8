//! A data directory: its lock, its identity, the volume files in it, and the room of its disk.
//!
//! One process holds a directory at a time. The identity (`dulse.json`) says which server and
//! which cluster the files belong to, whatever address the server has today.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dulse_shared::{
    clock::Clock,
    id::{ClusterId, ServerId},
    wire::DiskType,
};
use serde::{Deserialize, Serialize};

use super::{
    VolumeName,
    dir_health::DirHealth,
    file::{Disk, Lock, OpenMode, durable_replace, read_small_file},
    room::DiskRoom,
    trash::Trash,
};
use crate::config::{DirConfig, DirLimits};

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
    /// Each of them was known and none is there.
    #[error("none of the data directories can be used; see the lines above: {0:?}")]
    NoneLeft(Vec<PathBuf>),
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
    /// The directories that the server was last started with.
    known_dirs: Vec<String>,
    limits: DirLimits,
    room: Arc<DiskRoom>,
    /// The file system that it lies on.
    device: u64,
    health: DirHealth,
    /// Held for as long as the directory is used; none of one that cannot be.
    _lock: Option<Box<dyn Lock>>,
}

/// What the identity's file says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct IdentityFile {
    /// Whose files they are.
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// The directories that the server was last started with, so that one that is missing is not
    /// taken for a new one.
    #[serde(default)]
    pub(super) dirs: Vec<String>,
}

impl Identity {
    /// That of a server which starts for the first time.
    pub(super) fn fresh() -> Self {
        Self { version: FORMAT_VERSION, server: ServerId::random(), cluster: None }
    }
}

impl DataDir {
    /// A directory that was locked and identified, on a disk whose room is known.
    pub(super) fn locked(
        files: &Arc<dyn Disk>,
        config: &DirConfig,
        path: PathBuf,
        identity: IdentityFile,
        lock: Box<dyn Lock>,
        (room, device): (Arc<DiskRoom>, u64),
    ) -> Self {
        Self {
            files: files.clone(),
            path,
            disk: config.disk.clone(),
            identity: Mutex::new(identity.identity),
            known_dirs: identity.dirs,
            limits: config.limits,
            room,
            device,
            health: DirHealth::default(),
            _lock: Some(lock),
        }
    }

    /// A directory that cannot be used; nothing in it is touched.
    pub(super) fn unusable(
        files: &Arc<dyn Disk>,
        config: &DirConfig,
        identity: Identity,
        reason: &str,
    ) -> Self {
        Self {
            files: files.clone(),
            path: config.path.clone(),
            disk: config.disk.clone(),
            identity: Mutex::new(identity),
            known_dirs: Vec::new(),
            limits: config.limits,
            room: Arc::default(),
            device: 0,
            health: DirHealth::failed(reason),
            _lock: None,
        }
    }

    /// Why it is not used, if so.
    pub fn failure(&self) -> Option<&str> {
        self.health.failure()
    }

    /// It is not used any more.
    pub(crate) fn fail(&self, reason: &str) {
        self.health.fail(reason);
    }

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

    /// A number of the file system it lies on; 0 if it cannot be used.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whose files it holds.
    pub fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the cluster that the server has joined, durably. One that cannot be used is passed
    /// over: it takes over what the others say when it is there again.
    pub fn join(&self, cluster: ClusterId) -> Result<(), DataDirError> {
        if self.failure().is_some() {
            return Ok(());
        }
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = Identity { cluster: Some(cluster), ..*identity };
        let file = IdentityFile { identity: joined, dirs: self.known_dirs.clone() };
        write_identity(&*self.files, &self.path, &file)?;
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

    /// Asks the file system how much room there is, and whether it is there and can be written.
    pub fn measure(&self, clock: &Clock) {
        if self.failure().is_some() {
            return;
        }
        let found = self.look();
        let path = self.path.display();
        if self.health.looked(found.as_ref().copied().map_err(String::as_str), clock) {
            tracing::error!(
                "{path}: {}; its volumes take no more writes until the server is started again",
                self.failure().unwrap_or_default()
            );
        } else if let Err(reason) = found {
            tracing::warn!("{path}: {reason}");
        }
    }

    fn look(&self) -> Result<(), String> {
        let room = self.room.measure(|| self.files.room(&self.path));
        let room = room.map_err(|error| format!("the directory cannot be reached: {error}"))?;
        if room.device != self.device {
            return Err("its disk was unmounted: another file system is in its place".to_owned());
        }
        if room.is_read_only {
            return Err("its disk is mounted read-only".to_owned());
        }
        match self.files.is_there(&self.path.join(IDENTITY_FILE)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("its {IDENTITY_FILE} is gone")),
            Err(error) => Err(format!("its {IDENTITY_FILE} cannot be reached: {error}")),
        }
    }

    /// Size of the file system in bytes, as last measured.
    pub fn total_bytes(&self) -> u64 {
        self.room.total_bytes()
    }

    /// Bytes free for us at least.
    pub fn free_bytes(&self) -> u64 {
        self.room.free_bytes()
    }

    /// Volumes it holds at most, if somebody said so.
    pub fn max_volumes(&self) -> Option<u32> {
        self.limits.max_volumes
    }

    /// The first mark, in free bytes.
    pub fn min_free_bytes(&self) -> u64 {
        self.limits.min_free_space.bytes(self.total_bytes())
    }

    /// Below the first mark: no volume is created here, none is assigned.
    pub fn is_low(&self) -> bool {
        self.free_bytes() < self.min_free_bytes() || self.failure().is_some()
    }

    /// Whether that much more would leave it above the second mark.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.free_bytes() >= self.second_mark_bytes().saturating_add(bytes)
    }

    /// Below the second mark: nothing is uploaded, so that deletes and sidecars still fit.
    pub fn is_exhausted(&self) -> bool {
        self.free_bytes() < self.second_mark_bytes()
    }

    /// Counts `bytes` that are about to be written, whatever is left after them.
    pub fn take_room(&self, bytes: u64) {
        self.room.take(bytes);
    }

    /// Counts `bytes` that are to be uploaded, if what is kept for deletes and sidecars stays free.
    pub fn try_take_room(&self, bytes: u64) -> bool {
        self.room.try_take(bytes, self.second_mark_bytes())
    }

    fn second_mark_bytes(&self) -> u64 {
        self.min_free_bytes() / 4
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

/// What the identity's file says, if there is one.
pub(super) fn read_identity(
    files: &dyn Disk,
    dir: &Path,
) -> Result<Option<IdentityFile>, DataDirError> {
    let path = dir.join(IDENTITY_FILE);
    let bytes = read_small_file(files, &path).map_err(io_error("read dulse.json", dir))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let file: IdentityFile = serde_json::from_slice(&bytes)
        .map_err(|error| DataDirError::Identity(path, error.to_string()))?;
    if file.identity.version > FORMAT_VERSION {
        return Err(DataDirError::Newer { dir: dir.to_owned(), found: file.identity.version });
    }
    Ok(Some(file))
}

/// Replaces the identity's file, durably.
pub(super) fn write_identity(
    files: &dyn Disk,
    dir: &Path,
    file: &IdentityFile,
) -> Result<(), DataDirError> {
    let text = serde_json::to_vec_pretty(file).map_err(io::Error::from);
    text.and_then(|text| durable_replace(files, &dir.join(IDENTITY_FILE), &text))
        .map_err(io_error("write dulse.json", dir))
}

/// The error of `action` on a directory.
pub(super) fn io_error(action: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let dir = dir.to_owned();
    move |source| DataDirError::Io { action, dir, source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::{RealDisk, open_data_dirs};

    fn open(paths: &[&Path]) -> Result<Vec<DataDir>, DataDirError> {
        let configs: Vec<_> = paths.iter().map(|path| DirConfig::at(*path)).collect();
        open_data_dirs(&(Arc::new(RealDisk) as Arc<dyn Disk>), &configs)
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
