//! Taking out what the volumes of a directory hold, as files.
//!
//! Each volume gets a directory of its own in an output directory that was empty before, and each
//! live needle a new file in it: nothing that is there is written over, whatever needles are
//! called. Every needle is verified; one that cannot be is reported and left out.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dulse_shared::{
    clock::Clock,
    id::{Collection, Fid, NeedleKey, VolumeId},
};

use super::{
    directory::{Directory, DirectoryError},
    export_name::{distinct_name, safe_name},
};
use crate::{
    disk::{Disk, OpenMode, VolumeFile, VolumeName, lock_unused, read_exact_at, write_all_at},
    engine::{
        check::{Finding, Subject, survey},
        open::{contradiction, read_sidecar},
        search::Budget,
        volume_files::{Files, OpenError},
    },
    format::{Needle, OffsetWidth, RowSize, record_len},
    http::gunzip,
    reader::expires_at_secs,
};

/// Problems that are kept; with more of them a disk has to be replaced first.
const MAX_KEPT: usize = 10_000;
/// Names that are tried for a needle.
const MAX_ATTEMPTS: u32 = 1000;

/// What is taken out, and how.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Only this collection.
    pub collection: Option<Collection>,
    /// Only this volume.
    pub volume: Option<VolumeId>,
    /// Leave gzipped data gzipped.
    pub is_raw: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct ExportReport {
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Needles that have expired.
    pub expired: u64,
    /// What could not be taken out, and why.
    pub problems: Vec<String>,
    /// How many more problems there were.
    pub more_problems: u64,
}

/// Why nothing can be taken out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is no data directory, a server has it open, or it cannot be read.
    #[error(transparent)]
    Dir(#[from] DirectoryError),
    /// Nothing in it is what was asked for.
    #[error("{dir} holds no volume {wanted}: `dulse check --json` lists what it holds")]
    NoSuchVolume {
        /// The directory.
        dir: PathBuf,
        /// Which volume was meant.
        wanted: String,
    },
    /// The output directory has something in it.
    #[error("{0} is not empty: name a new directory, so that nothing is written over")]
    NotEmpty(PathBuf),
    /// The file system says no.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ExportOptions {
    fn wants(&self, name: &VolumeName) -> bool {
        self.volume.is_none_or(|id| id == name.id)
            && self.collection.as_ref().is_none_or(|wanted| *wanted == name.collection)
    }

    /// Which volumes are meant, to go on after the word "volume"; `None` if all are.
    fn in_words(&self) -> Option<String> {
        let collection = |name: &Collection| format!("of the collection {:?}", name.as_str());
        match (self.volume, &self.collection) {
            (None, None) => None,
            (Some(id), None) => Some(id.to_string()),
            (None, Some(name)) => Some(collection(name)),
            (Some(id), Some(name)) => Some(format!("{id} {}", collection(name))),
        }
    }
}

impl ExportReport {
    fn problem(&mut self, text: String) {
        if self.problems.len() < MAX_KEPT {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }
}

/// Writes the live needles of the directory `dir` into `out`. `progress` hears how many more bytes
/// were read: each volume file is verified first, and then read again.
pub fn export_dir(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    out: &Path,
    options: &ExportOptions,
    clock: &Clock,
    progress: &mut dyn FnMut(u64),
) -> Result<ExportReport, ExportError> {
    let directory = Directory::read(&**disk, dir)?;
    let _lock = lock_unused(&**disk, dir).map_err(DirectoryError::from)?;
    let wanted: Vec<_> = directory.volumes.iter().filter(|name| options.wants(name)).collect();
    if wanted.is_empty()
        && let Some(wanted) = options.in_words()
    {
        return Err(ExportError::NoSuchVolume { dir: dir.to_owned(), wanted });
    }
    disk.create_dir(out).map_err(at(out))?;
    if !disk.list(out).map_err(at(out))?.is_empty() {
        return Err(ExportError::NotEmpty(out.to_owned()));
    }
    let mut export = Export {
        disk,
        dir,
        out,
        options,
        now_secs: clock.wall_secs(),
        report: ExportReport::default(),
    };
    for name in wanted {
        export.volume(name, progress)?;
    }
    Ok(export.report)
}

struct Export<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    out: &'a Path,
    options: &'a ExportOptions,
    now_secs: u64,
    report: ExportReport,
}

impl Export<'_> {
    fn volume(
        &mut self,
        name: &VolumeName,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ExportError> {
        let dat_path = name.dat(self.dir);
        let (files, own_from) = match self.open(name) {
            Ok(opened) => opened,
            Err(reason) => {
                self.report.problem(format!("{}: {reason}", dat_path.display()));
                return Ok(());
            }
        };
        let subject = Subject {
            dat: &*files.dat,
            dat_len: files.dat_len,
            idx: &*files.idx,
            superblock: files.superblock,
            width: files.width,
            own_from,
            checkpoint: None,
        };
        let mut done = 0;
        let mut advance = |position| {
            progress(position - done);
            done = position;
        };
        // It may be the only copy: whatever there is to be found is found, however long it takes.
        let surveyed =
            survey(&subject, Budget::unlimited(), &mut advance).map_err(at(&dat_path))?;
        for finding in surveyed.findings.as_slice().iter().filter(|f| f.is_damage()) {
            self.report.problem(format!("{}: {finding}", dat_path.display()));
        }
        let mut live: Vec<(u64, u32, NeedleKey)> = Vec::new();
        for (key, entry) in surveyed.map.iter() {
            if let RowSize::Live(size) = entry.size {
                live.push((entry.offset.as_bytes(), size, key));
            }
        }
        // In the order of the file, which is that of the disk.
        live.sort_unstable();
        let into = self.out.join(name.stem());
        self.disk.create_dir(&into).map_err(at(&into))?;
        for (offset, size, key) in live {
            let len = record_len(size, files.superblock.version);
            let is_own = own_from.is_some_and(|own_from| offset >= own_from);
            match read_needle(&files, offset, len, is_own) {
                Ok(needle) if needle.key == key => self.needle(name, &needle, &into)?,
                Ok(_) => self.lost(name, key, "another needle's record lies in its place"),
                Err(reason) => self.lost(name, key, &reason),
            }
            progress(len);
        }
        Ok(())
    }

    fn open(&self, name: &VolumeName) -> Result<(Files, Option<u64>), String> {
        let text = |error: OpenError| error.to_string();
        let mut sidecar = read_sidecar(&**self.disk, self.dir, name).map_err(text)?;
        let files = Files::open_to_read(self.disk, self.dir, name, OffsetWidth::default());
        let files = files.map_err(text)?;
        if let Some(sidecar) = &mut sidecar
            && let Some(what) = contradiction(&files.superblock, files.dat_len, sidecar)
        {
            return Err(Finding::Superblock(what).to_string());
        }
        Ok((files, sidecar.map(|sidecar| sidecar.own_from)))
    }

    fn lost(&mut self, name: &VolumeName, key: NeedleKey, reason: &str) {
        self.report.problem(format!("{}: needle {key}: {reason}", name.dat(self.dir).display()));
    }

    fn needle(
        &mut self,
        name: &VolumeName,
        needle: &Needle,
        into: &Path,
    ) -> Result<(), ExportError> {
        let expires_at = expires_at_secs(&needle.meta, needle.ts);
        if expires_at.is_some_and(|expires_at| expires_at <= self.now_secs) {
            self.report.expired += 1;
            return Ok(());
        }
        let fid = Fid { volume: name.id, key: needle.key, cookie: needle.cookie };
        let mut file_name = safe_name(needle.meta.name.as_deref(), &fid);
        if needle.meta.is_chunk_manifest {
            file_name.push_str(".chunks.json");
        }
        let is_packed = needle.meta.is_gzipped && gunzip::is_gzip(&needle.data);
        let unpacked = is_packed && !self.options.is_raw && self.can_unpack(&fid, &needle.data);
        if is_packed && !unpacked {
            file_name.push_str(".gz");
        }
        let (path, file) = self.create(into, &file_name, &fid)?;
        let written = write_data(&*file, &needle.data, unpacked);
        self.report.bytes += written.map_err(at(&path))?;
        self.report.files += 1;
        Ok(())
    }

    /// Whether gzipped data is what it says; else it is written as it is, and reported.
    fn can_unpack(&mut self, fid: &Fid, data: &Bytes) -> bool {
        match gunzip::measure(&data[..], |_| {}) {
            Ok(_) => true,
            Err(error) => {
                self.report.problem(format!("{fid}: cannot be decompressed: {error}"));
                false
            }
        }
    }

    /// A new file, under the first name that is free.
    fn create(
        &self,
        into: &Path,
        name: &str,
        fid: &Fid,
    ) -> Result<(PathBuf, Arc<dyn VolumeFile>), ExportError> {
        let mut path = into.join(name);
        for attempt in 0..MAX_ATTEMPTS {
            match self.disk.open(&path, OpenMode::CreateNew) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = into.join(distinct_name(name, fid, attempt));
                }
                file => return Ok((path.clone(), file.map_err(at(&path))?)),
            }
        }
        let source = io::ErrorKind::AlreadyExists.into();
        Err(ExportError::Io { path, source })
    }
}

fn read_needle(files: &Files, offset: u64, len: u64, is_own: bool) -> Result<Needle, String> {
    if offset.saturating_add(len) > files.dat_len {
        return Err("the volume file ends before its record does".to_owned());
    }
    let capacity = usize::try_from(len).map_err(|error| error.to_string())?;
    let mut record = vec![0; capacity];
    read_exact_at(&*files.dat, &mut record, offset).map_err(|error| error.to_string())?;
    let needle = Needle::decode(record.into(), files.superblock.version, is_own);
    needle.map_err(|error| error.to_string())
}

/// Writes data, unpacked or as it is; how many bytes.
fn write_data(file: &dyn VolumeFile, data: &Bytes, unpacked: bool) -> io::Result<u64> {
    if !unpacked {
        write_all_at(file, &mut [IoSlice::new(data)], 0)?;
        return Ok(data.len() as u64);
    }
    let (mut position, mut outcome) = (0, Ok(()));
    let len = gunzip::measure(&data[..], |piece| {
        if outcome.is_ok() {
            outcome = write_all_at(file, &mut [IoSlice::new(piece)], position);
            position += piece.len() as u64;
        }
    })?;
    outcome.map(|()| len)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io { path, source }
}
