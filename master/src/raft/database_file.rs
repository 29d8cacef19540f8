//! The file beneath the database: its name made durable, its bytes read from the disk.
//!
//! Invariants: no name that leads to the file can be lost once it is open; what is read is what
//! the disk has; a file whose making was interrupted is empty. What the file holds is the
//! database's business.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    path::Path,
};

use dulse_shared::disk::{fsync_dir, parent};
use redb::{BackendError, StorageBackend};
use rustix::fs::{Advice, fadvise};

/// redb makes its header, in the first sector, without these bytes, syncs it, and only then
/// writes them.
const MAGIC_BYTES: usize = 9;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// A new database is a little over a megabyte of zeros; no larger file is one.
const MAX_UNFINISHED_BYTES: u64 = 4 << 20;
const ALL: (Bound<u64>, Bound<u64>) = (Bound::Unbounded, Bound::Unbounded);

/// Opens or makes the file. Its directory is there.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // Whoever made them may have been killed before it made them durable.
    let dir = parent(path);
    fsync_dir(dir)?;
    match fsync_dir(parent(dir)) {
        // Then somebody else made the directory there, before.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        synced => synced?,
    }
    // After a sync that failed the kernel takes for written what the disk lacks, and shows it to
    // the next process: what is built on that is lost with it.
    file.sync_data()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(file)
}

/// Empties a file whose making was interrupted: redb refuses it, and nothing was promised yet.
pub(super) fn empty_if_unfinished(file: &impl StorageBackend) -> io::Result<()> {
    if !is_unfinished(file)? {
        return Ok(());
    }
    match file.try_lock_range(ALL.0, ALL.1) {
        // It is being made.
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(BackendError::Unsupported) => return empty(file),
        Err(error) => return Err(error.into()),
    }
    // It may have been made before it was locked.
    let emptied = if is_unfinished(file)? { empty(file) } else { Ok(()) };
    file.unlock_range(ALL.0, ALL.1)?;
    emptied
}

fn empty(file: &impl StorageBackend) -> io::Result<()> {
    file.set_len(0)?;
    file.sync_data()
}

/// Whether there are but zeros, a header without its first bytes excepted.
fn is_unfinished(file: &impl StorageBackend) -> io::Result<bool> {
    let len = file.len()?;
    if len == 0 || len > MAX_UNFINISHED_BYTES {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read(0, &mut bytes)?;
    let magic = bytes.iter().take(MAGIC_BYTES);
    let rest = bytes.iter().skip(SECTOR_BYTES);
    Ok(magic.chain(rest).all(|byte| *byte == 0))
}
