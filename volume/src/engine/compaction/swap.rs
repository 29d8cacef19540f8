//! The new files take the place of the old ones.
//!
//! What a crash can leave, and why each is whole:
//! 1. Before the marker is durable: the old files, and new ones that nobody counts on. A start
//!    removes them.
//! 2. With the marker: the new files are complete and synced, and the sidecar says what holds for
//!    either `.dat`. A start renames what is not renamed yet.
//! 3. After both renames: the new files. A marker that is left renames nothing.
//!
//! Writes wait from the last round on, so nothing that was answered is in the old file alone.

use std::{
    io,
    path::Path,
    sync::{PoisonError, atomic::Ordering},
};

use super::{copy::Copy, run::CompactionError};
use crate::{
    disk::{Disk, OpenMode, VolumeName},
    engine::{
        checkpoint::WriteState,
        fill::FillAhead,
        index_file::IndexFile,
        volume::{Snapshot, Volume},
        volume_files::{OpenError, at},
    },
};

/// What was replaced, to be let go once nobody waits: the system frees a large file's blocks and pages
/// as it is closed, which takes a tenth of a second for the index alone of 30 million needles.
pub(super) struct Replaced {
    _snapshot: Snapshot,
    _idx: IndexFile,
}

impl Copy<'_> {
    /// Puts the new files in the place of the old ones, on the disk and in memory. The caller holds
    /// the write state, and the sidecar speaks of both.
    pub(super) fn swap(
        self,
        volume: &Volume,
        state: &mut WriteState,
    ) -> Result<Replaced, CompactionError> {
        let (disk, dir) = (&**volume.dir.files(), volume.dir.path());
        put_marker(disk, dir, &volume.name).inspect_err(|_| Self::withdraw(volume))?;
        if let Err(error) = rename_all(disk, dir, &volume.name) {
            // Which file the next start finds is open, so neither may grow.
            volume.fail("a swap of compacted files", &error);
            return Err(error.into());
        }
        let replaced = self.take_over(volume, state);
        drop(disk.remove(&volume.name.swap_marker(dir)));
        Ok(replaced)
    }

    /// Takes the marker away again; if it may have stayed, a start would swap.
    fn withdraw(volume: &Volume) {
        let (disk, dir) = (&**volume.dir.files(), volume.dir.path());
        if let Err(error) = remove_marker(disk, dir, &volume.name) {
            volume.fail("taking back a swap of compacted files", &error);
        }
    }

    fn take_over(self, volume: &Volume, state: &mut WriteState) -> Replaced {
        let generation = self.generation();
        // What the sidecar on the disk says of this file.
        state.checkpoint = state.next.take().map_or(generation.checkpoint, |next| next.checkpoint);
        state.sidecar_is_unknown = true;
        let idx = std::mem::replace(&mut state.idx, self.idx);
        state.idx_is_broken = false;
        state.fill = FillAhead::at_rest(self.len);
        let mut current = volume.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let new = Snapshot {
            revision: generation.generation,
            own_from: generation.own_from,
            map: self.map,
            dat: self.dat,
        };
        let snapshot = std::mem::replace(&mut *current, new);
        *volume.counters() = self.counters;
        volume.dat_len.store(self.len, Ordering::Release);
        Replaced { _snapshot: snapshot, _idx: idx }
    }
}

fn put_marker(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<()> {
    disk.open(&name.swap_marker(dir), OpenMode::WriteOrCreate)?;
    disk.sync_dir(dir)
}

/// Makes sure that no marker is there: one that an earlier swap left, or one whose removal a crash
/// undoes, would have a start take unfinished files for finished ones.
pub(super) fn remove_marker(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<()> {
    match disk.remove(&name.swap_marker(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => disk.sync_dir(dir),
    }
}

fn rename_all(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> io::Result<()> {
    disk.rename(&name.compacted_dat(dir), &name.dat(dir))?;
    disk.rename(&name.compacted_idx(dir), &name.idx(dir))?;
    disk.sync_dir(dir)
}

/// Finishes a swap that a crash interrupted; whether there was one.
pub fn finish_swap(disk: &dyn Disk, dir: &Path, name: &VolumeName) -> Result<bool, OpenError> {
    let marker = name.swap_marker(dir);
    match disk.open(&marker, OpenMode::Read) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(&marker)(error)),
    }
    let pairs =
        [(name.compacted_dat(dir), name.dat(dir)), (name.compacted_idx(dir), name.idx(dir))];
    for (new, old) in pairs {
        match disk.rename(&new, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&new)(error)),
            _ => {}
        }
    }
    let finished = disk.sync_dir(dir).and_then(|()| disk.remove(&marker));
    finished.map_err(at(&marker))?;
    tracing::info!(volume = %name.id, "finished the swap of compacted files that a crash interrupted");
    Ok(true)
}
