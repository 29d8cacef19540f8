//! A disk that fails at the n-th operation.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use dulse_shared::wire::LocalState;
use dulse_volume::{
    disk::{DirEntry, Disk, Lock, OpenMode, RealDisk, Room, VolumeFile},
    engine::append::WriteError,
};

use crate::harness::Rig;

/// Countdowns: the operation that takes one to 0 fails. Negative ones never do.
#[derive(Debug)]
struct Faults {
    write: AtomicI64,
    sync: AtomicI64,
    truncate: AtomicI64,
}

#[derive(Clone, Debug)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn VolumeFile>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn new() -> Self {
        let never = || AtomicI64::new(-1);
        Self(Arc::new(Faults { write: never(), sync: never(), truncate: never() }))
    }

    fn wrap(&self, file: Arc<dyn VolumeFile>) -> Arc<dyn VolumeFile> {
        Arc::new(FaultyFile { file, faults: self.0.clone() })
    }
}

fn is_due(countdown: &AtomicI64) -> bool {
    countdown.fetch_sub(1, Ordering::Relaxed) == 1
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VolumeFile>> {
        RealDisk.open(path, mode).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        RealDisk.resolve(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealDisk.lock(path)
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        RealDisk.room(dir)
    }

    fn modified_at_secs(&self, path: &Path) -> u64 {
        RealDisk.modified_at_secs(path)
    }
}

impl VolumeFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_cached_at(buffer, offset)
    }

    /// The failing write leaves half of its first slice behind.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if is_due(&self.faults.write) {
            let half = &slices[0][..slices[0].len() / 2];
            self.file.write_vectored_at(&[IoSlice::new(half)], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_vectored_at(slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if is_due(&self.faults.sync) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }

    fn forget_cached(&self, offset: u64) -> io::Result<()> {
        self.file.forget_cached(offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        if is_due(&self.faults.truncate) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[test]
fn a_full_disk_is_taken_back_and_the_volume_goes_on() {
    let disk = FaultyDisk::new();
    let mut rig = Rig::on(Arc::new(disk.clone()));
    rig.put(1, b"before").unwrap();
    let len = rig.volume.report().size_bytes;
    disk.0.write.store(1, Ordering::Relaxed);
    assert!(matches!(rig.put(2, b"no room"), Err(WriteError::Refused(_))));
    assert_eq!(std::fs::metadata(rig.dat()).unwrap().len(), len);
    assert_eq!(rig.data(2), None);
    rig.put(3, b"room again").unwrap();
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert_eq!(rig.data(3).unwrap(), b"room again");
}

#[test]
fn a_failed_sync_is_never_retried() {
    let disk = FaultyDisk::new();
    let rig = Rig::on(Arc::new(disk.clone()));
    rig.put(1, b"before").unwrap();
    disk.0.sync.store(1, Ordering::Relaxed);
    assert!(matches!(rig.put(2, b"perhaps"), Err(WriteError::Unknown(_))));
    assert_eq!(rig.data(2), None, "what was not made durable is not visible");
    assert!(matches!(rig.put(3, b"never"), Err(WriteError::Refused(_))));
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    assert_eq!(rig.data(1).unwrap(), b"before");
}

#[test]
fn a_write_that_cannot_be_taken_back_fails_the_volume() {
    let disk = FaultyDisk::new();
    let mut rig = Rig::on(Arc::new(disk.clone()));
    rig.put(1, b"before").unwrap();
    disk.0.write.store(1, Ordering::Relaxed);
    disk.0.truncate.store(1, Ordering::Relaxed);
    assert!(matches!(rig.put(2, b"half"), Err(WriteError::Unknown(_))));
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert_eq!(rig.data(2), None);
    rig.put(2, b"after the restart").unwrap();
}

#[test]
fn an_index_that_cannot_be_written_loses_nothing() {
    let disk = FaultyDisk::new();
    let mut rig = Rig::on(Arc::new(disk.clone()));
    // The first write of a batch goes to the volume file, the second to the index.
    disk.0.write.store(2, Ordering::Relaxed);
    rig.put(1, b"durable").unwrap();
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    assert_eq!(rig.data(1).unwrap(), b"durable");
    rig.reopen(true);
    assert_eq!(rig.data(1).unwrap(), b"durable");
    assert_eq!(rig.volume.report().local, LocalState::Ready);
}
