//! A simulated disk on which reads of volume files wait as long as a test likes, or fail wherever it
//! likes.

use std::{
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_volume::disk::{
    DirEntry, Disk, Lock, OpenMode, Room, VolumeFile,
    simulated::{EIO, SimulatedDisk},
};

/// Longer than anything takes here that does not wait for the gate.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Reads of volume files wait while it is closed.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    pub fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().is_closed = false;
        self.changed.notify_all();
    }

    /// Returns once a read waits.
    pub fn wait_for_a_reader(&self) {
        let state = self.state.lock().unwrap();
        let nobody = |state: &mut GateState| state.waiting == 0;
        let waited = self.changed.wait_timeout_while(state, DEADLINE, nobody).unwrap();
        assert!(!waited.1.timed_out(), "nobody reads");
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.is_closed).unwrap();
        state.waiting -= 1;
    }
}

#[derive(Clone, Debug)]
pub struct TroubledDisk {
    pub disk: SimulatedDisk,
    pub gate: Arc<Gate>,
    /// What of volume files it does not give.
    pub silent: Arc<Mutex<Range<u64>>>,
    /// How often it was asked for that.
    pub refused: Arc<AtomicU64>,
    /// Bytes of volume files that were asked for.
    pub asked: Arc<AtomicU64>,
}

impl TroubledDisk {
    /// An empty disk without troubles.
    pub fn new() -> Self {
        Self {
            disk: SimulatedDisk::new(1),
            gate: Arc::default(),
            silent: Arc::default(),
            refused: Arc::default(),
            asked: Arc::default(),
        }
    }
}

impl Disk for TroubledDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VolumeFile>> {
        let file = self.disk.open(path, mode)?;
        if path.extension().is_none_or(|extension| extension != "dat") {
            return Ok(file);
        }
        Ok(Arc::new(TroubledFile { file, disk: self.clone() }))
    }

    fn spool(&self, dir: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.disk.spool(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.resolve(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_there(path)
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        self.disk.room(dir)
    }

    fn modified_at_secs(&self, path: &Path) -> u64 {
        self.disk.modified_at_secs(path)
    }
}

#[derive(Debug)]
struct TroubledFile {
    file: Arc<dyn VolumeFile>,
    disk: TroubledDisk,
}

impl VolumeFile for TroubledFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.gate.pass();
        self.disk.asked.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let silent = self.disk.silent.lock().unwrap().clone();
        if silent.contains(&offset) {
            self.disk.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let before = usize::try_from(silent.start.saturating_sub(offset)).unwrap();
        let len = if before == 0 { buffer.len() } else { buffer.len().min(before) };
        self.file.read_at(&mut buffer[..len], offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.disk.silent.lock().unwrap().contains(&offset) {
            return Ok(None);
        }
        self.file.read_cached_at(buffer, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_vectored_at(slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_writeback(&self, range: Range<u64>) {
        self.file.begin_writeback(range);
    }

    fn forget_cached(&self, range: Range<u64>) -> io::Result<()> {
        self.file.forget_cached(range)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
