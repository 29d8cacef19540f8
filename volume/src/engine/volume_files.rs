//! The files of a volume as they are opened, before anything of them is believed.
//!
//! What is decided here is only how they are to be read: the superblock's format, and the width of
//! the index's offsets. What they say is for [`super::recovery`].

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{fill::end_of_data, index_file::load_rows};
use crate::{
    disk::{Disk, NoFile, OpenMode, VolumeFile, VolumeName, read_exact_at, read_small_file},
    format::{
        IndexRow, OffsetWidth, RowSize, SUPERBLOCK_LEN, Superblock, SuperblockError, Vif,
        record_len,
    },
};

/// Why a volume cannot be opened. The others of the server are not concerned.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system says no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The superblock cannot be read.
    #[error("{path}: {source}; the file is left alone")]
    Superblock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SuperblockError,
    },
    /// Superblock and sidecar contradict each other, and the sidecar has a checksum.
    #[error(
        "{path}: its superblock {what}: it is damaged; the file is left alone: correct its first \
         eight bytes, or restore it"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// Neither file says how wide the index's offsets are.
    #[error(
        "{0}: it is unclear whether its offsets have 4 or 5 bytes; restore the .vif file, or remove \
         the .idx file to have it made anew"
    )]
    Width(PathBuf),
    /// The sidecar is a newer program's.
    #[error("{path}: its sidecar has format {found}, which this program does not know")]
    Newer {
        /// The sidecar.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The sidecar names another cluster.
    #[error("{path} belongs to the cluster {found}, this directory to {ours}: move it away")]
    OtherCluster {
        /// The sidecar.
        path: PathBuf,
        /// Its cluster.
        found: dulse_shared::id::ClusterId,
        /// Ours.
        ours: dulse_shared::id::ClusterId,
    },
}

/// The open files of a volume, before anything of them is believed.
#[derive(Debug)]
pub struct Files {
    /// Its name.
    pub name: VolumeName,
    /// The volume file.
    pub dat: Arc<dyn VolumeFile>,
    /// Its length.
    pub dat_len: u64,
    /// The index file, made if it was missing; [`NoFile`] if it is only read.
    pub idx: Arc<dyn VolumeFile>,
    /// What the volume file says of itself.
    pub superblock: Superblock,
    /// How wide the index keeps offsets.
    pub width: OffsetWidth,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

impl Files {
    /// Opens `.dat` and `.idx` and reads the superblock; changes nothing in them.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        name: &VolumeName,
        default_width: OffsetWidth,
    ) -> Result<Self, OpenError> {
        let (dat_path, idx_path) = (name.dat(dir), name.idx(dir));
        let dat = disk.open(&dat_path, OpenMode::Write).map_err(at(&dat_path))?;
        let idx = disk.open(&idx_path, OpenMode::WriteOrCreate).map_err(at(&idx_path))?;
        Self::from_open(disk, dir, name, default_width, dat, idx)
    }

    /// The same without a right to write. A missing index is an empty one.
    pub fn open_to_read(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        name: &VolumeName,
        default_width: OffsetWidth,
    ) -> Result<Self, OpenError> {
        let (dat_path, idx_path) = (name.dat(dir), name.idx(dir));
        let dat = disk.open(&dat_path, OpenMode::Read).map_err(at(&dat_path))?;
        let idx: Arc<dyn VolumeFile> = match disk.open(&idx_path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Arc::new(NoFile),
            idx => idx.map_err(at(&idx_path))?,
        };
        Self::from_open(disk, dir, name, default_width, dat, idx)
    }

    fn from_open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        name: &VolumeName,
        default_width: OffsetWidth,
        dat: Arc<dyn VolumeFile>,
        idx: Arc<dyn VolumeFile>,
    ) -> Result<Self, OpenError> {
        let dat_path = name.dat(dir);
        let mut superblock = [0; SUPERBLOCK_LEN];
        read_exact_at(&*dat, &mut superblock, 0).map_err(at(&dat_path))?;
        let superblock = Superblock::parse(&superblock)
            .map_err(|source| OpenError::Superblock { path: dat_path.clone(), source })?;
        let dat_len = dat.len().map_err(at(&dat_path))?;
        let mut files = Self {
            name: name.clone(),
            disk: disk.clone(),
            dat,
            dat_len,
            idx,
            superblock,
            width: default_width,
            dir: dir.to_owned(),
        };
        files.width = files.find_width(default_width)?;
        Ok(files)
    }

    /// The width that `.vif` names, or the only one under which `.idx` makes sense.
    fn find_width(&self, default: OffsetWidth) -> Result<OffsetWidth, OpenError> {
        let vif_path = self.name.vif(&self.dir);
        let vif = read_small_file(&*self.disk, &vif_path).map_err(at(&vif_path))?;
        let named = vif.and_then(|text| Vif::parse(&text).ok()).and_then(|vif| vif.offset_width);
        if let Some(width) = named {
            return Ok(width);
        }
        let idx_path = self.name.idx(&self.dir);
        if self.idx.is_empty().map_err(at(&idx_path))? {
            return Ok(default);
        }
        let four = self.makes_sense(OffsetWidth::Four).map_err(at(&idx_path))?;
        let five = self.makes_sense(OffsetWidth::Five).map_err(at(&idx_path))?;
        match (four, five) {
            (true, false) => Ok(OffsetWidth::Four),
            (false, true) => Ok(OffsetWidth::Five),
            _ => Err(OpenError::Width(idx_path)),
        }
    }

    /// Whether every row parses and names a place for a record, and the last of them ends at the end
    /// of `.dat`. Rows without a place, as other programs write them for needles that were deleted
    /// while they vacuumed, say less than the records do.
    pub(super) fn ends_together(&self, width: OffsetWidth) -> io::Result<bool> {
        let first = self.superblock.first_needle_offset().as_bytes();
        let extent = self.extent_of_rows(width)?;
        Ok(extent.is_some_and(|extent| extent.start >= first && extent.end == self.dat_len))
    }

    /// The same, but zeros may follow: a server that died leaves them.
    fn makes_sense(&self, width: OffsetWidth) -> io::Result<bool> {
        let end = self.extent_of_rows(width)?.map(|extent| extent.end);
        let Some(end) = end.filter(|end| *end <= self.dat_len) else { return Ok(false) };
        Ok(end_of_data(&*self.dat, end, self.dat_len)? == end)
    }

    /// From the lowest place that the index names to where the last of its records ends; `None` if
    /// some row does not parse.
    fn extent_of_rows(&self, width: OffsetWidth) -> io::Result<Option<Range<u64>>> {
        let idx_len = self.idx.len()?;
        let first = self.superblock.first_needle_offset().as_bytes();
        let mut extent = first..first;
        let (rows_len, _) = load_rows(&*self.idx, width, idx_len, |row| {
            extent.start = extent.start.min(row.offset.as_bytes());
            extent.end = extent.end.max(self.end_of(&row));
        })?;
        Ok((rows_len == idx_len).then_some(extent))
    }

    fn end_of(&self, row: &IndexRow) -> u64 {
        let size = match row.size {
            RowSize::Live(size) => size,
            RowSize::Tombstone => 0,
        };
        row.offset.as_bytes().saturating_add(record_len(size, self.superblock.version))
    }
}

/// The error of an operation on `path`.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}
