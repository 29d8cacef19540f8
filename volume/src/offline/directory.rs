//! A data directory as it lies there: its volumes, and what is left over in it.
//!
//! A directory with neither is none: a mistyped path or a disk that is not mounted must not pass for
//! one in which all is well.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{DataDirError, DirEntry, Disk, IDENTITY_FILE, VolumeName},
    engine::{
        check::{Finding, stray_names},
        remains::{Remains, remains_of},
    },
};

/// What a volume has beside its `.dat`.
const BESIDE: [&str; 3] = ["idx", "vif", "dulse"];
/// What an interrupted compaction leaves; the marker says that it was complete.
const COMPACTED: [&str; 2] = ["cpd", "cpx"];
const COMPACTION_MARKER: &str = "cpc";
/// What an erasure-coded volume has instead of a `.dat`.
const ERASURE_CODED: &str = "ecx";

/// Why nothing can be done with a directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is none.
    #[error("{0} does not exist: name the data directory, and mount its disk first")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0} is not a directory: name the data directory in which the volume files lie")]
    NotADirectory(PathBuf),
    /// Nothing of ours is in it.
    #[error(
        "{0} holds no volumes and no {IDENTITY_FILE}: is the disk mounted, and is it the data \
         directory?"
    )]
    NoVolumes(PathBuf),
    /// A server has it open.
    #[error(
        "{0} is in use by another dulse process: stop it first, or copy the directory while it is \
         stopped"
    )]
    InUse(PathBuf),
    /// The file system says no.
    #[error("cannot read the directory {dir}: {source}; check who owns it, and its disk")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be locked.
    #[error("cannot {action} in {dir}: {source}; check who owns it, and its disk")]
    NoLock {
        /// What was tried.
        action: &'static str,
        /// The directory.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no directory of this program's.
    #[error(transparent)]
    Other(DataDirError),
}

impl From<DataDirError> for DirectoryError {
    fn from(error: DataDirError) -> Self {
        match error {
            DataDirError::InUse(dir) => Self::InUse(dir),
            DataDirError::Io { action, dir, source } => Self::NoLock { action, dir, source },
            other => Self::Other(other),
        }
    }
}

impl DirectoryError {
    /// The error of looking at `dir`.
    pub(super) fn of(dir: &Path) -> impl FnOnce(io::Error) -> Self {
        let dir = dir.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(dir),
            io::ErrorKind::NotADirectory => Self::NotADirectory(dir),
            _ => Self::Io { dir, source },
        }
    }
}

/// What lies in a directory.
#[derive(Debug)]
pub struct Directory {
    /// Its volumes, in the order of their ids.
    pub volumes: Vec<VolumeName>,
    /// What belongs to none of them.
    pub findings: Vec<Finding>,
}

impl Directory {
    /// Looks at the directory `dir`; an error if nothing in it is a volume's or a server's.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, DirectoryError> {
        let entries = disk.list(dir).map_err(DirectoryError::of(dir))?;
        let files: BTreeSet<&str> = entries.iter().filter_map(file_name).collect();
        let mut volumes: Vec<_> =
            files.iter().filter_map(|name| VolumeName::parse_dat(name)).collect();
        volumes.sort_by(|a, b| (a.id, a.collection.as_str()).cmp(&(b.id, b.collection.as_str())));
        let mut findings = Vec::new();
        for file in &files {
            let found = finding(disk, dir, &files, file);
            findings
                .extend(found.map_err(|source| DirectoryError::Io { dir: dir.into(), source })?);
        }
        if volumes.is_empty() && findings.is_empty() && !files.contains(IDENTITY_FILE) {
            return Err(DirectoryError::NoVolumes(dir.to_owned()));
        }
        Ok(Self { volumes, findings })
    }
}

fn file_name(entry: &DirEntry) -> Option<&str> {
    (!entry.is_dir).then_some(entry.name.as_str())
}

/// What is wrong with the presence of `file`. Names that mean nothing to us are nobody's business.
fn finding(
    disk: &dyn Disk,
    dir: &Path,
    files: &BTreeSet<&str>,
    file: &str,
) -> io::Result<Option<Finding>> {
    if is_leftover(files, file) {
        return Ok(Some(Finding::Stray(file.to_owned())));
    }
    let beside = BESIDE.iter().find_map(|suffix| VolumeName::parse(file, suffix));
    let Some(name) = beside.filter(|name| !has(files, name, "dat")) else {
        return Ok(None);
    };
    if has(files, &name, ERASURE_CODED) {
        return Ok(None);
    }
    if let Some(Remains::Unmade(_)) = remains_of(disk, dir, files, &name)? {
        return Ok(Some(Finding::Stray(file.to_owned())));
    }
    Ok(Some(Finding::NoVolumeFile(file.to_owned())))
}

fn is_leftover(files: &BTreeSet<&str>, file: &str) -> bool {
    let Some(stem) = file.rsplit_once('.').map(|(stem, _)| stem) else {
        return false;
    };
    if file.strip_suffix(".new") == Some(IDENTITY_FILE) {
        return true;
    }
    let compacted = COMPACTED.iter().find_map(|suffix| VolumeName::parse(file, suffix));
    if let Some(name) = compacted {
        return !has(files, &name, COMPACTION_MARKER);
    }
    let owner = BESIDE.iter().find_map(|suffix| VolumeName::parse(stem, suffix));
    owner.is_some_and(|name| stray_names(&name).any(|stray| stray == file))
}

fn has(files: &BTreeSet<&str>, name: &VolumeName, suffix: &str) -> bool {
    files.contains(name.with_suffix(suffix).as_str())
}
