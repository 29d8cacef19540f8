//! The master's data directory: there, writable, and held by one process at a time.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::error::MasterStartError;

/// The lock lies on this file. It stays when the process ends; the lock does not.
const LOCK_FILE: &str = "dulse.lock";

/// A data directory that no other process uses until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing and takes its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, MasterStartError> {
        std::fs::create_dir_all(dir).map_err(unusable(dir.to_owned()))?;
        let path = dir.join(LOCK_FILE);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(unusable(path.clone()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                Err(MasterStartError::DirInUse { path: dir.to_owned() })
            }
            Err(error) => Err(unusable(path)(error.into())),
        }
    }
}

fn unusable(path: PathBuf) -> impl FnOnce(io::Error) -> MasterStartError {
    |source| MasterStartError::Dir { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_held_by_one_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/master");
        let held = DataDir::open(&dir).unwrap();
        let second = DataDir::open(&dir).unwrap_err();
        assert!(matches!(&second, MasterStartError::DirInUse { path } if *path == dir));
        assert!(second.to_string().contains("in use by another dulse process"));
        drop(held);
        DataDir::open(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("dir")).unwrap_err().to_string();
        assert!(error.contains("file/dir") && error.contains("--dir"), "{error}");
    }
}
