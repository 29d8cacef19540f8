//! Which of the directories that a server is started with it uses.
//!
//! A mount point without its disk is an empty directory on another disk: to write there would fill
//! that one and look as if the data were lost. So each directory remembers which ones the server
//! had. One that was known and has no identity now is left alone, and the server starts without it
//! and says so; one that was never seen is made. If no directory has an identity, all are new.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use dulse_shared::id::ClusterId;

use super::{
    data_dir::{
        DataDir, DataDirError, Identity, IdentityFile, io_error, lock_dir, read_identity,
        write_identity,
    },
    file::{Disk, Lock},
    real::RealDisk,
    room::DiskRoom,
};
use crate::config::DirConfig;

/// The cluster that the directories of a server say they belong to, as far as one can be read; nothing
/// is opened or changed.
pub fn cluster_of(configs: &[DirConfig]) -> Option<ClusterId> {
    let identities = configs.iter().map(|config| read_identity(&RealDisk, &config.path));
    identities.filter_map(|file| file.ok()??.identity.cluster).next()
}

/// A directory as it was found.
struct FoundDir<'a> {
    config: &'a DirConfig,
    /// Its path without symbolic links, and what it says, if it can be read.
    found: Result<(PathBuf, Option<IdentityFile>), DataDirError>,
    lock: Option<Box<dyn Lock>>,
}

/// The disks of the directories opened so far, by file system.
type Rooms = Vec<(u64, Arc<DiskRoom>)>;

/// Opens, locks and identifies all directories of a server.
///
/// New ones take the identity of the others, or a fresh one; a mixture is refused before anything
/// is written. One that is missing is in the answer as one that has failed, as long as another
/// one of the server is there.
pub fn open_data_dirs(
    files: &Arc<dyn Disk>,
    configs: &[DirConfig],
) -> Result<Vec<DataDir>, DataDirError> {
    let mut found: Vec<FoundDir<'_>> = configs.iter().map(|dir| look(&**files, dir)).collect();
    refuse_twice(&found)?;
    for dir in &mut found {
        dir.lock(&**files)?;
    }
    let known_dirs = known_dirs(&found);
    let identity = common_identity(&found)?;
    let is_first_start = identity.is_none();
    let identity = identity.unwrap_or_else(Identity::fresh);
    let file = IdentityFile { identity, dirs: spellings(&found) };
    let mut rooms = Rooms::new();
    let mut dirs = Vec::new();
    for dir in found {
        let is_known = !is_first_start && dir.spellings().iter().any(|s| known_dirs.contains(s));
        let config = dir.config;
        let opened = match (&dir.found, is_known) {
            (Ok((_, None)), true) => Err(missing()),
            _ => dir.open(files, &file, &mut rooms).map_err(Unusable::Error),
        };
        dirs.push(match opened {
            Ok(dir) => dir,
            Err(Unusable::Error(error)) if !(is_known && is_disk_trouble(&error)) => {
                return Err(error);
            }
            Err(unusable) => without(files, config, identity, &unusable),
        });
    }
    match dirs.iter().any(|dir| dir.failure().is_none()) {
        true => Ok(dirs),
        false => Err(DataDirError::NoneLeft(dirs.iter().map(|dir| dir.path().into()).collect())),
    }
}

/// Why the server starts without a directory.
enum Unusable {
    Missing(String),
    Error(DataDirError),
}

fn missing() -> Unusable {
    Unusable::Missing(
        "it has no dulse.json, which it had at the last start: is its disk mounted? If the disk is \
         gone for good, start once without this --dir; what is given after that is new"
            .to_owned(),
    )
}

fn without(
    files: &Arc<dyn Disk>,
    config: &DirConfig,
    identity: Identity,
    unusable: &Unusable,
) -> DataDir {
    let reason = match unusable {
        Unusable::Missing(reason) => reason.clone(),
        Unusable::Error(error) => error.to_string(),
    };
    tracing::error!(
        "{}: {reason}; the server starts without this directory and its volumes",
        config.path.display()
    );
    DataDir::unusable(files, config, identity, &reason)
}

/// Whether an error is the disk's, and not one of whoever starts the server.
fn is_disk_trouble(error: &DataDirError) -> bool {
    matches!(error, DataDirError::Io { .. } | DataDirError::Identity(..))
}

/// Looks at a directory and changes nothing.
fn look<'a>(files: &dyn Disk, config: &'a DirConfig) -> FoundDir<'a> {
    let path = &config.path;
    let resolved = match files.is_there(path) {
        Ok(true) => files.resolve(path).map_err(io_error("look", path)),
        Ok(false) => Ok(path.clone()),
        Err(error) => Err(io_error("look", path)(error)),
    };
    let found = resolved.and_then(|path| {
        let identity = read_identity(files, &path)?;
        Ok((path, identity))
    });
    FoundDir { config, found, lock: None }
}

fn refuse_twice(found: &[FoundDir<'_>]) -> Result<(), DataDirError> {
    let paths: Vec<&PathBuf> =
        found.iter().filter_map(|dir| Some(&dir.found.as_ref().ok()?.0)).collect();
    for (at, path) in paths.iter().enumerate() {
        if paths.iter().take(at).any(|other| other == path) {
            return Err(DataDirError::Twice((*path).clone()));
        }
    }
    Ok(())
}

/// Every directory that one of them remembers.
fn known_dirs(found: &[FoundDir<'_>]) -> Vec<String> {
    let files = found.iter().filter_map(FoundDir::identity_file);
    files.flat_map(|file| file.dirs.iter().cloned()).collect()
}

/// What the directories of this start are called, to be remembered.
fn spellings(found: &[FoundDir<'_>]) -> Vec<String> {
    let mut all: Vec<String> = found.iter().flat_map(FoundDir::spellings).collect();
    all.sort();
    all.dedup();
    all
}

/// The identity that they share; none if none has one. A directory that was away while the server
/// joined its cluster, or that a crash kept from being told, takes over the cluster of the others.
fn common_identity(found: &[FoundDir<'_>]) -> Result<Option<Identity>, DataDirError> {
    let mut common: Option<(&PathBuf, Identity)> = None;
    for dir in found {
        let Ok((path, Some(IdentityFile { identity, .. }))) = &dir.found else { continue };
        let Some((first, ours)) = common else {
            common = Some((path, *identity));
            continue;
        };
        let is_other_cluster = ours.cluster.is_some()
            && identity.cluster.is_some()
            && ours.cluster != identity.cluster;
        if ours.server != identity.server || is_other_cluster {
            return Err(DataDirError::Mixed { first: first.clone(), second: path.clone() });
        }
        common = Some((first, Identity { cluster: ours.cluster.or(identity.cluster), ..ours }));
    }
    Ok(common.map(|(_, identity)| identity))
}

impl FoundDir<'_> {
    fn identity_file(&self) -> Option<&IdentityFile> {
        self.found.as_ref().ok()?.1.as_ref()
    }

    /// Makes sure that no other process uses a directory which has an identity.
    fn lock(&mut self, files: &dyn Disk) -> Result<(), DataDirError> {
        let Ok((path, Some(_))) = &self.found else { return Ok(()) };
        match lock_dir(files, path) {
            Ok(lock) => self.lock = Some(lock),
            Err(error) if is_disk_trouble(&error) => self.found = Err(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The path as it was given, and without symbolic links.
    fn spellings(&self) -> Vec<String> {
        let given = std::path::absolute(&self.config.path).ok();
        let resolved = self.found.as_ref().ok().map(|(path, _)| path.clone());
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        given.into_iter().chain(resolved).map(text).collect()
    }

    /// Makes it if it is new, and has it say whose it is.
    fn open(
        self,
        files: &Arc<dyn Disk>,
        file: &IdentityFile,
        rooms: &mut Rooms,
    ) -> Result<DataDir, DataDirError> {
        let (path, said) = self.found?;
        let (path, lock) = match self.lock {
            Some(lock) => (path, lock),
            None => make(&**files, &path)?,
        };
        if said.as_ref() != Some(file) {
            write_identity(&**files, &path, file)?;
        }
        let room = measure(&**files, &path, rooms)?;
        let config = self.config;
        let file = file.clone();
        Ok(DataDir::locked(files, config, path, file, lock, room))
    }
}

fn make(files: &dyn Disk, path: &Path) -> Result<(PathBuf, Box<dyn Lock>), DataDirError> {
    files.create_dir(path).map_err(io_error("create it", path))?;
    let path = files.resolve(path).map_err(io_error("look", path))?;
    let lock = lock_dir(files, &path)?;
    Ok((path, lock))
}

/// The room of a directory's disk, shared with those on the same one.
fn measure(
    files: &dyn Disk,
    path: &Path,
    rooms: &mut Rooms,
) -> Result<(Arc<DiskRoom>, u64), DataDirError> {
    let room = files.room(path).map_err(io_error("measure the room", path))?;
    let known = rooms.iter().find(|(device, _)| *device == room.device);
    let disk = known.map(|(_, disk)| disk.clone()).unwrap_or_default();
    disk.measure(|| Ok(room)).map_err(io_error("measure the room", path))?;
    rooms.push((room.device, disk.clone()));
    Ok((disk, room.device))
}
