//! The simulated disk's files, directories and faults, behind its lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use super::{
    super::file::{DirEntry, OpenMode},
    fault::{EIO, ENOSPC, Fault, Operation, Planned, failure},
    inode::{Inode, SECTOR_BYTES},
    random::Random,
};

/// Room of a disk unless a test limits it.
const CAPACITY_BYTES: u64 = 1 << 40;

/// Everything on the disk.
#[derive(Debug)]
pub(super) struct State {
    random: Random,
    /// Counts the crashes: what was opened before one is dead.
    pub(super) boot: u64,
    /// Files by number; one without an entry lives on for those who have it open.
    pub(super) inodes: Vec<Inode>,
    /// The entries that are seen.
    pub(super) entries: BTreeMap<PathBuf, usize>,
    /// Those that survive a crash for certain.
    durable: BTreeMap<PathBuf, usize>,
    /// Changes that may or may not.
    pending: Vec<EntryChange>,
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Files that never had an entry and are open.
    spools: BTreeSet<usize>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) capacity: u64,
    /// The file system that is mounted, and whether it is only read.
    pub(super) mounted: (u64, bool),
    pub(super) faults: Vec<Planned>,
    pub(super) operations: Vec<Operation>,
    pub(super) stop_at: Option<u64>,
    pub(super) is_stopped: bool,
}

/// A change of a directory, whole or not at all.
#[derive(Debug)]
enum EntryChange {
    Set { path: PathBuf, inode: usize },
    Move { from: PathBuf, to: PathBuf, inode: usize },
    Unset { path: PathBuf },
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            boot: 0,
            inodes: Vec::new(),
            entries: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            dirs: BTreeSet::new(),
            spools: BTreeSet::new(),
            locks: BTreeSet::new(),
            capacity: CAPACITY_BYTES,
            mounted: (0, false),
            faults: Vec::new(),
            operations: Vec::new(),
            stop_at: None,
            is_stopped: false,
        }
    }

    /// An error once the machine has stopped.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.is_stopped { Err(failure(EIO)) } else { Ok(()) }
    }

    /// One more operation, on the file with this number.
    pub(super) fn begin_on(
        &mut self,
        operation: Operation,
        inode: usize,
    ) -> io::Result<Option<Fault>> {
        if self.faults.is_empty() {
            return self.begin(operation, Path::new(""));
        }
        let path = self.entries.iter().find(|(_, held)| **held == inode);
        let path = path.map(|(path, _)| path.clone()).unwrap_or_default();
        self.begin(operation, &path)
    }

    /// One more operation: counted, refused if the machine has stopped, failed if that was planned.
    /// Otherwise the fault that its caller has to act out.
    fn begin(&mut self, operation: Operation, path: &Path) -> io::Result<Option<Fault>> {
        self.alive()?;
        if operation != Operation::Read {
            if self.stop_at == Some(self.operations.len() as u64) {
                self.is_stopped = true;
                return Err(failure(EIO));
            }
            self.operations.push(operation);
        }
        match self.due(operation, path) {
            Some(Fault::Fails(number)) => Err(failure(number)),
            fault => Ok(fault),
        }
    }

    fn due(&mut self, operation: Operation, path: &Path) -> Option<Fault> {
        let at = self.faults.iter().position(|planned| planned.concerns(operation, path))?;
        if self.faults[at].countdown == 0 {
            return Some(self.faults.remove(at).fault);
        }
        self.faults[at].countdown -= 1;
        None
    }

    pub(super) fn crash(&mut self) {
        for inode in &mut self.inodes {
            inode.crash(&mut self.random);
        }
        for change in std::mem::take(&mut self.pending) {
            if self.random.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        self.entries = self.durable.clone();
        for inode in std::mem::take(&mut self.spools) {
            self.inodes[inode] = Inode::default();
        }
        self.locks.clear();
        self.faults.clear();
        self.stop_at = None;
        self.is_stopped = false;
        self.boot += 1;
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<usize> {
        self.alive()?;
        match (self.entries.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => Ok(*inode),
            (None, OpenMode::Read | OpenMode::Write) => Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::WriteOrCreate | OpenMode::CreateNew) => self.create(path),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if !path.parent().is_some_and(|parent| self.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.begin(Operation::Create, path)?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.change_entry(EntryChange::Set { path: path.to_owned(), inode });
        Ok(inode)
    }

    /// A file without an entry, as long as it is open.
    pub(super) fn spool(&mut self, dir: &Path) -> io::Result<usize> {
        if !self.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.begin(Operation::Create, Path::new(""))?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.spools.insert(inode);
        Ok(inode)
    }

    /// Its last user is gone, and so is it.
    pub(super) fn drop_spool(&mut self, inode: usize) {
        self.spools.remove(&inode);
        self.inodes[inode] = Inode::default();
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Operation::Rename, from)?;
        let inode = *self.entries.get(from).ok_or(io::ErrorKind::NotFound)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change_entry(EntryChange::Move { from, to, inode });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.begin(Operation::Remove, path)?;
        if !self.entries.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_entry(EntryChange::Unset { path: path.to_owned() });
        Ok(())
    }

    fn change_entry(&mut self, change: EntryChange) {
        change.apply(&mut self.entries);
        self.pending.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.begin(Operation::SyncDir, dir)?;
        let (now, later) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.is_in(dir));
        self.pending = later;
        let now: Vec<EntryChange> = now;
        for change in now {
            change.apply(&mut self.durable);
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.alive()?;
        if !self.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        let is_here = |path: &&PathBuf| path.parent() == Some(dir);
        let files = self.entries.keys().filter(is_here).filter_map(name);
        let dirs = self.dirs.iter().filter(is_here).filter_map(name);
        let files = files.map(|name| DirEntry { name, is_dir: false });
        Ok(files.chain(dirs.map(|name| DirEntry { name, is_dir: true })).collect())
    }

    pub(super) fn take_lock(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        if !self.entries.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !self.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// Bytes of all files that have an entry or are spooled to.
    pub(super) fn used_bytes(&self) -> u64 {
        let inodes = self.entries.values().chain(&self.spools);
        inodes.map(|inode| self.inodes[*inode].cache.len() as u64).sum()
    }

    /// Writes what there is room for.
    pub(super) fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let end = offset + bytes.len();
        let grows = end.saturating_sub(self.inodes[inode].cache.len());
        let free = self.capacity.saturating_sub(self.used_bytes());
        let lacking = grows.saturating_sub(usize::try_from(free).unwrap_or(usize::MAX));
        let fits = bytes.len().saturating_sub(lacking);
        if fits == 0 && !bytes.is_empty() {
            return Err(failure(ENOSPC));
        }
        self.inodes[inode].write(offset, bytes[..fits].to_vec());
        Ok(fits)
    }

    /// Where a misdirected write goes: a few sectors away, within the file.
    pub(super) fn elsewhere(&mut self, inode: usize, offset: usize) -> usize {
        let sectors = self.inodes[inode].cache.len() / SECTOR_BYTES + 1;
        let away = (1 + self.random.below(sectors)) * SECTOR_BYTES;
        if offset >= away { offset - away } else { offset + away }
    }

    pub(super) fn lose_pages(&mut self, inode: usize, keeps_cache: bool) {
        self.inodes[inode].lose_pages(keeps_cache, &mut self.random);
    }

    pub(super) fn inode(&self, path: &Path) -> Option<&Inode> {
        self.entries.get(path).map(|inode| &self.inodes[*inode])
    }

    pub(super) fn inode_mut(&mut self, path: &Path) -> Option<&mut Inode> {
        self.entries.get(path).map(|inode| &mut self.inodes[*inode])
    }

    pub(super) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        self.erase(path);
        let inode = self.inodes.len();
        self.inodes.push(Inode::durable(bytes));
        self.entries.insert(path.to_owned(), inode);
        self.durable.insert(path.to_owned(), inode);
    }

    pub(super) fn erase(&mut self, path: &Path) {
        self.pending.retain(|change| !change.concerns(path));
        self.entries.remove(path);
        self.durable.remove(path);
    }
}

impl EntryChange {
    fn apply(&self, entries: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set { path, inode } => {
                entries.insert(path.clone(), *inode);
            }
            Self::Move { from, to, inode } => {
                // What stands at the old name may be another file by now.
                if entries.get(from) == Some(inode) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *inode);
            }
            Self::Unset { path } => {
                entries.remove(path);
            }
        }
    }

    /// A rename across directories counts for the one it goes to.
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Set { path, .. } | Self::Unset { path } | Self::Move { to: path, .. }) = self;
        path.parent() == Some(dir)
    }

    fn concerns(&self, path: &Path) -> bool {
        match self {
            Self::Set { path: changed, .. } | Self::Unset { path: changed } => changed == path,
            Self::Move { from, to, .. } => from == path || to == path,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::{super::SimulatedDisk, *};
    use crate::disk::{Disk, VolumeFile, durable_replace, read_exact_at, write_all_at};

    const DIR: &str = "/data";

    fn path(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    fn disk(seed: u64) -> SimulatedDisk {
        let disk = SimulatedDisk::new(seed);
        disk.create_dir(Path::new(DIR)).unwrap();
        disk
    }

    fn write(file: &dyn VolumeFile, bytes: &[u8], offset: u64) {
        write_all_at(file, &mut [IoSlice::new(bytes)], offset).unwrap();
    }

    /// What a crash leaves of `act`, over many seeds.
    fn outcomes(act: impl Fn(&SimulatedDisk)) -> BTreeSet<Option<Vec<u8>>> {
        let crashed = (0..200).map(|seed| {
            let disk = disk(seed);
            act(&disk);
            disk.crash();
            disk.contents(&path("f"))
        });
        crashed.collect()
    }

    #[test]
    fn only_a_synced_file_in_a_synced_directory_survives_for_certain() {
        let create = |disk: &SimulatedDisk| {
            let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
            write(&*file, b"bytes", 0);
            file
        };
        let synced = outcomes(|disk| {
            create(disk).sync_data().unwrap();
            disk.sync_dir(Path::new(DIR)).unwrap();
        });
        assert_eq!(synced, BTreeSet::from([Some(b"bytes".to_vec())]));
        let not_the_file = outcomes(|disk| {
            create(disk);
            disk.sync_dir(Path::new(DIR)).unwrap();
        });
        assert!(not_the_file.contains(&Some(Vec::new())), "{not_the_file:?}");
        assert!(not_the_file.contains(&Some(b"bytes".to_vec())));
        assert!(not_the_file.contains(&Some(vec![0; 5])));
        let not_the_entry = outcomes(|disk| create(disk).sync_data().unwrap());
        assert_eq!(not_the_entry, BTreeSet::from([None, Some(b"bytes".to_vec())]));
    }

    #[test]
    fn sectors_are_torn_apart_and_reordered_but_never_torn_within() {
        let left = outcomes(|disk| {
            let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
            write(&*file, &[1; 3 * SECTOR_BYTES], 0);
            file.sync_data().unwrap();
            disk.sync_dir(Path::new(DIR)).unwrap();
            write(&*file, &[2; 2 * SECTOR_BYTES], 0);
            write(&*file, &[3; 2 * SECTOR_BYTES], SECTOR_BYTES as u64);
        });
        let of_sectors = |bytes: &Option<Vec<u8>>| -> Vec<u8> {
            let sectors = bytes.as_ref().unwrap().chunks(SECTOR_BYTES);
            sectors
                .map(|sector| {
                    assert!(sector.iter().all(|byte| *byte == sector[0]));
                    sector[0]
                })
                .collect()
        };
        let left: BTreeSet<Vec<u8>> = left.iter().map(of_sectors).collect();
        assert_eq!(left.len(), 2 * 3 * 2, "every mixture is there: {left:?}");
    }

    #[test]
    fn a_failed_sync_loses_pages_and_the_next_one_says_nothing_of_it() {
        for keeps_cache in [false, true] {
            let left = outcomes(|disk| {
                let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
                disk.sync_dir(Path::new(DIR)).unwrap();
                write(&*file, &[7; 100], 0);
                disk.plan(Operation::Sync, None, 0, Fault::LosesPages { keeps_cache });
                assert!(file.sync_data().is_err());
                file.sync_data().unwrap();
                let mut seen = [0; 100];
                read_exact_at(&*file, &mut seen, 0).unwrap();
                assert!(!keeps_cache || seen == [7; 100]);
                file.forget_cached(0..u64::MAX).unwrap();
                read_exact_at(&*file, &mut seen, 0).unwrap();
                let before = seen;
                disk.crash();
                let after = disk.contents(&path("f")).unwrap();
                assert!(after.is_empty() || after == before, "the disk was read");
            });
            assert!(left.len() > 1, "{left:?}");
        }
    }

    #[test]
    fn a_replacement_is_whole_wherever_the_machine_stops() {
        let count = {
            let disk = disk(0);
            durable_replace(&disk, &path("f"), b"old").unwrap();
            let before = disk.operations().len();
            durable_replace(&disk, &path("f"), &[9; 2000]).unwrap();
            disk.operations().len() - before
        };
        assert_eq!(count, 6, "create, cut, write, sync, rename, sync the directory");
        for stop in 0..=count as u64 {
            let left = outcomes(|disk| {
                durable_replace(disk, &path("f"), b"old").unwrap();
                disk.stop_after(stop);
                let replaced = durable_replace(disk, &path("f"), &[9; 2000]);
                assert_eq!(replaced.is_ok(), stop == count as u64);
            });
            let old_or_new = BTreeSet::from([Some(b"old".to_vec()), Some(vec![9; 2000])]);
            assert!(left.is_subset(&old_or_new), "stopped after {stop}");
            assert!(stop < count as u64 || !left.contains(&Some(b"old".to_vec())));
        }
    }

    #[test]
    fn room_runs_out_in_the_middle_of_a_write() {
        let disk = disk(1);
        let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
        disk.limit_free_bytes(10);
        assert_eq!(file.write_vectored_at(&[IoSlice::new(&[1; 16])], 0).unwrap(), 10);
        let full = file.write_vectored_at(&[IoSlice::new(&[1; 16])], 10).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.write_vectored_at(&[IoSlice::new(&[2; 10])], 0).unwrap(), 10);
    }

    #[test]
    fn what_was_opened_before_a_crash_is_dead_after_it_and_locks_are_gone() {
        let disk = disk(1);
        let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        let lock = disk.lock(&path("f")).unwrap();
        assert_eq!(disk.lock(&path("f")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        disk.crash();
        assert!(file.sync_data().is_err() && file.len().is_err());
        let second = disk.lock(&path("f")).unwrap();
        drop(lock);
        assert_eq!(disk.lock(&path("f")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(second);
        disk.lock(&path("f")).unwrap();
    }

    #[test]
    fn a_spool_file_takes_room_while_it_is_open_and_leaves_nothing() {
        let disk = disk(1);
        disk.limit_free_bytes(10);
        let spool = disk.spool(Path::new(DIR)).unwrap();
        assert_eq!(spool.write_vectored_at(&[IoSlice::new(&[1; 16])], 0).unwrap(), 10);
        assert!(
            disk.spool(Path::new(DIR))
                .unwrap()
                .write_vectored_at(&[IoSlice::new(&[1])], 0)
                .is_err()
        );
        drop(spool);
        let spool = disk.spool(Path::new(DIR)).unwrap();
        write(&*spool, &[2; 10], 0);
        assert!(disk.paths().is_empty());
        disk.crash();
        assert!(spool.read_at(&mut [0; 1], 0).is_err());
        assert_eq!(disk.state().used_bytes(), 0);
    }
}
