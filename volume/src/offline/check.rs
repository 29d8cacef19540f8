//! Checking the volumes of a directory that no server has open, our own and those of another
//! program.
//!
//! Nothing is written unless repairs are asked for, and those change only what can be made anew
//! from the volume files or was never acknowledged: see `repair`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use dulse_shared::clock::Clock;

use super::{
    directory::{Directory, DirectoryError},
    repair::repair,
};
use crate::{
    disk::{Disk, OpenMode, VolumeName, lock_dir, lock_unused},
    engine::{
        check::{Finding, Findings, Subject, Survey, check_sidecar, survey},
        open::{contradiction, read_sidecar},
        search::Budget,
        sidecar::Sidecar,
        volume_files::{Files, OpenError},
    },
    format::OffsetWidth,
};

/// Whether what is safe to mend is mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repairs {
    /// Nothing is written.
    None,
    /// Indexes are made anew, torn tails cut, leftovers moved to the trash.
    Safe,
}

/// What was found in a directory.
#[derive(Debug)]
pub struct DirReport {
    /// The directory.
    pub dir: PathBuf,
    /// Its volumes.
    pub volumes: Vec<VolumeReport>,
    /// What belongs to none of them.
    pub findings: Vec<Finding>,
    /// What was mended of that.
    pub repaired: Vec<String>,
}

/// What was found of a volume. After a repair, what is still there.
#[derive(Debug)]
pub struct VolumeReport {
    /// The volume.
    pub name: VolumeName,
    /// Whether it has a sidecar that can be read.
    pub is_own: bool,
    /// Length of the volume file in bytes.
    pub bytes: u64,
    /// Records that verify.
    pub records: u64,
    /// Needles that can be read.
    pub live_needles: u64,
    /// What is wrong.
    pub findings: Findings,
    /// What was mended.
    pub repaired: Vec<String>,
}

/// Why a directory cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is none, a server has it open, or it cannot be read.
    #[error(transparent)]
    Dir(#[from] DirectoryError),
    /// The file system says no.
    #[error("cannot read {path}: {source}; check who owns it, and its disk")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is left over cannot be moved to the trash.
    #[error("cannot repair what lies in {dir}: {source}; check who owns it, and its disk")]
    Repair {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl DirReport {
    /// Whether nothing is wrong, or nothing any more.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.volumes.iter().all(|volume| volume.findings.is_empty())
    }
}

/// Bytes of all volume files of a directory: what a check reads.
pub fn bytes_to_check(disk: &dyn Disk, dir: &Path) -> Result<u64, CheckError> {
    let mut bytes = 0;
    for name in Directory::read(disk, dir)?.volumes {
        let path = name.dat(dir);
        let len = disk.open(&path, OpenMode::Read).and_then(|dat| dat.len());
        bytes += len.map_err(|source| CheckError::Io { path, source })?;
    }
    Ok(bytes)
}

/// Checks a directory. `progress` hears how many more bytes were read.
pub fn check_dir(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    repairs: Repairs,
    clock: &Clock,
    progress: &mut dyn FnMut(u64),
) -> Result<DirReport, CheckError> {
    let directory = Directory::read(&**disk, dir)?;
    let lock = match repairs {
        Repairs::None => lock_unused(&**disk, dir),
        Repairs::Safe => lock_dir(&**disk, dir).map(Some),
    };
    let _lock = lock.map_err(DirectoryError::from)?;
    let volumes = directory.volumes.iter().map(|name| check_volume(disk, dir, name, progress));
    let mut report = DirReport {
        dir: dir.to_owned(),
        volumes: volumes.collect(),
        findings: directory.findings,
        repaired: Vec::new(),
    };
    if repairs == Repairs::Safe {
        let repaired = repair(disk, &mut report, clock.wall_ns());
        repaired.map_err(|source| CheckError::Repair { dir: dir.to_owned(), source })?;
    }
    Ok(report)
}

/// Checks a volume. What keeps it from being looked at is a finding as well.
pub(super) fn check_volume(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    name: &VolumeName,
    progress: &mut dyn FnMut(u64),
) -> VolumeReport {
    let mut report = VolumeReport {
        name: name.clone(),
        is_own: false,
        bytes: 0,
        records: 0,
        live_needles: 0,
        findings: Findings::default(),
        repaired: Vec::new(),
    };
    if let Err(error) = look_at(disk, dir, &mut report, progress) {
        report.findings.push(Finding::Unreadable(error.to_string()));
    }
    report
}

fn look_at(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    report: &mut VolumeReport,
    progress: &mut dyn FnMut(u64),
) -> Result<(), OpenError> {
    let name = report.name.clone();
    let mut sidecar = read_sidecar(&**disk, dir, &name)?;
    report.is_own = sidecar.is_some();
    let files = Files::open_to_read(disk, dir, &name, OffsetWidth::default())?;
    report.bytes = files.dat_len;
    let contradiction = sidecar
        .as_mut()
        .and_then(|sidecar| contradiction(&files.superblock, files.dat_len, sidecar));
    if let Some(what) = contradiction {
        report.findings.push(Finding::Superblock(what));
        return Ok(());
    }
    let mut done = 0;
    let mut advance = |position| {
        progress(position - done);
        done = position;
    };
    let surveyed = survey(&subject(&files, sidecar.as_ref()), Budget::new(None), &mut advance);
    let Survey { findings, counters, records, valid_len, .. } =
        surveyed.map_err(|source| OpenError::Io { path: name.dat(dir), source })?;
    let has_index = disk.open(&name.idx(dir), OpenMode::Read).is_ok();
    report.records = records;
    report.live_needles = counters.live_needles;
    report.findings = if has_index { findings } else { without_index(&findings) };
    if let Some(sidecar) = &sidecar {
        check_sidecar(sidecar, &name, &files.superblock, valid_len, &mut report.findings);
    }
    Ok(())
}

/// Every record lacks its row then: said once.
fn without_index(findings: &Findings) -> Findings {
    let mut others = Findings::default();
    others.push(Finding::NoIndex);
    for finding in findings.as_slice() {
        if !matches!(finding, Finding::NotIndexed { .. } | Finding::Checkpoint { .. }) {
            others.push(finding.clone());
        }
    }
    others
}

fn subject<'a>(files: &'a Files, sidecar: Option<&Sidecar>) -> Subject<'a> {
    Subject {
        dat: &*files.dat,
        dat_len: files.dat_len,
        idx: &*files.idx,
        superblock: files.superblock,
        width: files.width,
        own_from: sidecar.map(|sidecar| sidecar.own_from),
        checkpoint: sidecar.map(|sidecar| sidecar.checkpoint),
    }
}
