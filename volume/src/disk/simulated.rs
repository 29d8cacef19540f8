//! A disk in memory that forgets, tears, fails and lies as its seed says.
//!
//! What was not synced is kept apart from what was, directory entries included. A crash keeps of
//! the former what the seed picks: of a file any mixture of its sectors' states, of a directory any
//! of its changes. Everything is determined by the seed and the order of operations, so that a
//! failure replays. Files opened before a crash are dead after it.
//!
//! It is part of the library because the tests of the engine, which lie outside, stand on it.

mod fault;
mod inode;
mod random;
mod state;

use std::{
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use fault::{EIO, ENOSPC, Fault, Operation};
use fault::{Planned, failure};
use state::State;

use super::file::{DirEntry, Disk, Lock, OpenMode, Room, VolumeFile};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk of some size.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After `operations` more operations that change something, everything fails until the crash
    /// that this is the beginning of.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.state();
        state.stop_at = Some(state.operations.len() as u64 + operations);
    }

    /// Whether it has come to that.
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Power is lost and comes back: what was not synced is there in part. Faults are over.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// The operations so far that changed something.
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    /// The `nth` such operation from now on (0 is the next) on a file with this extension goes
    /// wrong.
    pub fn plan(&self, operation: Operation, extension: Option<&str>, nth: u64, fault: Fault) {
        let extension = extension.map(str::to_owned);
        self.state().faults.push(Planned { operation, extension, countdown: nth, fault });
    }

    /// Planned faults that have not come to pass are dropped; whether there were none left.
    pub fn forgive(&self) -> bool {
        let faults = std::mem::take(&mut self.state().faults);
        faults.is_empty()
    }

    /// How many bytes are free from now on.
    pub fn limit_free_bytes(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = state.used_bytes() + bytes;
    }

    /// What a look at the mount says from now on: which file system it is, and if it is only read.
    pub fn mount(&self, device: u64, is_read_only: bool) {
        self.state().mounted = (device, is_read_only);
    }

    /// The bytes of a file, as reads see them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.inode(path)?.cache.clone())
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().entries.keys().cloned().collect()
    }

    /// Puts a file there from outside, durably: a backup that was put back, say.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.state().put(path, bytes);
    }

    /// Takes a file away from outside, durably.
    pub fn erase(&self, path: &Path) {
        self.state().erase(path);
    }

    /// Flips a bit of a file on the disk alone: the cache still has what was written.
    pub fn flip_beneath_cache(&self, path: &Path, bit: usize) {
        if let Some(inode) = self.state().inode_mut(path) {
            inode.flip_beneath_cache(bit);
        }
    }

    /// Flips a bit of a file, in the cache too.
    pub fn flip(&self, path: &Path, bit: usize) {
        if let Some(inode) = self.state().inode_mut(path) {
            inode.flip(bit);
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VolumeFile>> {
        let mut state = self.state();
        let inode = state.open(path, mode)?;
        let (boot, disk) = (state.boot, self.clone());
        let access = if mode == OpenMode::Read { Access::Read } else { Access::Write };
        Ok(Arc::new(SimulatedFile { disk, inode, boot, access }))
    }

    fn spool(&self, dir: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let mut state = self.state();
        let inode = state.spool(dir)?;
        let (boot, disk) = (state.boot, self.clone());
        Ok(Arc::new(SimulatedFile { disk, inode, boot, access: Access::Spool }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().sync_dir(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.state().list(dir)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        state.take_lock(path)?;
        let (disk, boot) = (self.clone(), state.boot);
        Ok(Box::new(SimulatedLock { disk, path: path.to_owned(), boot }))
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        match self.open(path, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn room(&self, _dir: &Path) -> io::Result<Room> {
        let state = self.state();
        let free_bytes = state.capacity.saturating_sub(state.used_bytes());
        let (device, is_read_only) = state.mounted;
        Ok(Room { total_bytes: state.capacity, free_bytes, device, is_read_only })
    }

    fn modified_at_secs(&self, _path: &Path) -> u64 {
        0
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
    boot: u64,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    boot: u64,
    access: Access,
}

/// What a file was opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Read,
    Write,
    /// To read and write; it goes when it is closed.
    Spool,
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if self.access == Access::Spool && state.boot == self.boot {
            state.drop_spool(self.inode);
        }
    }
}

impl SimulatedFile {
    /// The disk, for one more operation on this file; the fault that meets it.
    fn begin(&self, operation: Operation) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.disk.state();
        if state.boot != self.boot || (self.access == Access::Read && operation != Operation::Read)
        {
            return Err(failure(EIO));
        }
        let fault = state.begin_on(operation, self.inode)?;
        Ok((state, fault))
    }
}

impl VolumeFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (state, _) = self.begin(Operation::Read)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let held = state.inodes[self.inode].cache.get(offset..).unwrap_or_default();
        let len = held.len().min(buffer.len());
        buffer[..len].copy_from_slice(&held[..len]);
        Ok(len)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.begin(Operation::Write)?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        match fault {
            Some(Fault::WritesShort) => {
                state.write(self.inode, offset, &bytes[..bytes.len().div_ceil(2)])
            }
            Some(Fault::Tears) => {
                state.write(self.inode, offset, &bytes[..bytes.len() / 2])?;
                Err(failure(ENOSPC))
            }
            Some(Fault::Misdirects) => {
                let elsewhere = state.elsewhere(self.inode, offset);
                state.write(self.inode, elsewhere, &bytes)?;
                Ok(bytes.len())
            }
            _ => state.write(self.inode, offset, &bytes),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, fault) = self.begin(Operation::Sync)?;
        if let Some(Fault::LosesPages { keeps_cache }) = fault {
            state.lose_pages(self.inode, keeps_cache);
            return Err(failure(EIO));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn begin_writeback(&self, _range: Range<u64>) {
        // The disk may have any of it at any time anyway.
    }

    fn forget_cached(&self, range: Range<u64>) -> io::Result<()> {
        let (mut state, _) = self.begin(Operation::Read)?;
        let start = usize::try_from(range.start).map_err(io::Error::other)?;
        let end = usize::try_from(range.end).unwrap_or(usize::MAX);
        state.inodes[self.inode].forget_cached(start..end);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.begin(Operation::Truncate)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        state.inodes[self.inode].truncate(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        if state.boot != self.boot {
            return Err(failure(EIO));
        }
        state.alive()?;
        Ok(state.inodes[self.inode].cache.len() as u64)
    }
}
