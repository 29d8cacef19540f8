//! A file in memory, beneath redb, whose disk forgets, tears and fails as its seed says.
//!
//! What was not synced is kept apart from what was. A power cut keeps of the former, for each
//! sector of 512 bytes, what some of its writes had made of it, oldest first, whatever became of
//! its neighbours: writes are lost, torn and reordered. A sector by itself is whole, as on real
//! disks, which write one or do not. The length is one of those the file had since its last sync.
//!
//! A sync that fails leaves as little for certain, but the kernel takes all of it for written:
//! reads see what the disk may lack, and later syncs succeed. What is not simulated is a disk
//! that lies about a sync, and the file's name, which is the directory's matter.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The file. Clones are the same one.
#[derive(Clone)]
pub(super) struct SimulatedFile(Arc<Mutex<State>>);

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Read,
    Write,
    SetLen,
    Sync,
}

struct State {
    random: SmallRng,
    /// What reads see.
    cache: Vec<u8>,
    /// What survives a power cut for certain.
    disk: Vec<u8>,
    /// What the disk may or may not have.
    pending: Vec<Change>,
    /// Counts the processes that had the file open. Handles of earlier ones are dead.
    process: u64,
    /// How many operations that change something are left until power goes off.
    charge: Option<u64>,
    is_off: bool,
    /// The operation that will fail, after so many others of its kind.
    fault: Option<(Operation, u64)>,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// How much of what is pending survives: the extremes are as likely as what lies between.
#[derive(Clone, Copy)]
enum Mood {
    Nothing,
    Everything,
    Some,
}

impl SimulatedFile {
    /// An empty file.
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            random: SmallRng::seed_from_u64(seed),
            cache: Vec::new(),
            disk: Vec::new(),
            pending: Vec::new(),
            process: 0,
            charge: None,
            is_off: false,
            fault: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Opens it, in the process that runs now.
    pub(super) fn open(&self) -> Handle {
        Handle { file: self.clone(), process: self.state().process }
    }

    /// Power goes off at one of the next operations that change something: after `operations`.
    pub(super) fn cut_after(&self, operations: u64) {
        self.state().charge = Some(operations);
    }

    /// The `nth` such operation from now on fails (0 is the next).
    pub(super) fn fail(&self, operation: Operation, nth: u64) {
        self.state().fault = Some((operation, nth));
    }

    /// Nothing that was planned happens any more.
    pub(super) fn disarm(&self) {
        let mut state = self.state();
        state.charge = None;
        state.fault = None;
    }

    /// Whether power is off.
    pub(super) fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Power is lost, if it was not yet, and comes back.
    pub(super) fn power_cut(&self) {
        let mut state = self.state();
        state.settle();
        state.cache = state.disk.clone();
        state.next_process();
    }

    /// The process ends; the kernel goes on.
    pub(super) fn kill(&self) {
        self.state().next_process();
    }

    /// Writes what is to be written, and reads the disk from now on.
    pub(super) fn forget_cached(&self) {
        let mut state = self.state();
        state.sync();
        state.cache = state.disk.clone();
    }
}

impl State {
    fn next_process(&mut self) {
        self.process += 1;
        self.charge = None;
        self.is_off = false;
        self.fault = None;
    }

    /// Lets an operation begin, unless power is off or the operation is to fail.
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        if operation != Operation::Read && self.charge == Some(0) {
            self.is_off = true;
        }
        if self.is_off {
            return Err(io::Error::other("power is off"));
        }
        if operation != Operation::Read {
            self.charge = self.charge.map(|left| left - 1);
        }
        match &mut self.fault {
            Some((planned, left)) if *planned == operation && *left > 0 => *left -= 1,
            Some((planned, _)) if *planned == operation => {
                self.fault = None;
                return Err(io::Error::other("the disk failed"));
            }
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cache);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.disk);
        }
    }

    /// Some of what is pending reaches the disk, the rest never will.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let mood = Mood::draw(&mut self.random);
        let mut torn = self.disk.clone();
        for sector in touched_sectors(&pending, self.disk.len()) {
            let mut bytes = sector_of(&self.disk, sector);
            for change in &pending[..mood.some_of(pending.len(), &mut self.random)] {
                change.apply_to_sector(sector, &mut bytes);
            }
            let start = sector * SECTOR_BYTES;
            torn.resize(torn.len().max(start + SECTOR_BYTES), 0);
            torn[start..start + SECTOR_BYTES].copy_from_slice(&bytes);
        }
        let mut len = self.disk.len();
        for change in &pending[..mood.some_of(pending.len(), &mut self.random)] {
            len = change.len_after(len);
        }
        torn.resize(len, 0);
        self.disk = torn;
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                file.resize(file.len().max(offset + bytes.len()), 0);
                file[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => file.resize(*len, 0),
        }
    }

    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Write { offset, bytes } => len.max(offset + bytes.len()),
            Self::SetLen(len) => *len,
        }
    }

    fn apply_to_sector(&self, sector: usize, bytes: &mut [u8; SECTOR_BYTES]) {
        let start = sector * SECTOR_BYTES;
        match self {
            Self::Write { offset, bytes: written } => {
                let from = start.max(*offset);
                let to = (start + SECTOR_BYTES).min(offset + written.len());
                if from < to {
                    let written = &written[from - offset..to - offset];
                    bytes[from - start..to - start].copy_from_slice(written);
                }
            }
            // What lies behind the end is zeros if the file grows again.
            Self::SetLen(len) => {
                bytes[len.saturating_sub(start).min(SECTOR_BYTES)..].fill(0);
            }
        }
    }
}

/// The sectors of a file of `len` bytes that some of the changes make different.
fn touched_sectors(changes: &[Change], len: usize) -> Vec<usize> {
    let mut touched = Vec::new();
    let mut len = len;
    for change in changes {
        let range = match change {
            Change::Write { offset, bytes } => *offset..offset + bytes.len(),
            Change::SetLen(to) => *to..len.max(*to),
        };
        touched.extend(range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES));
        len = change.len_after(len);
    }
    touched.sort_unstable();
    touched.dedup();
    touched
}

fn sector_of(file: &[u8], sector: usize) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    let held = file.get(sector * SECTOR_BYTES..).unwrap_or_default();
    let held = &held[..held.len().min(SECTOR_BYTES)];
    bytes[..held.len()].copy_from_slice(held);
    bytes
}

impl Mood {
    fn draw(random: &mut SmallRng) -> Self {
        match random.random_range(0..4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    fn some_of(self, all: usize, random: &mut SmallRng) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => all,
            Self::Some => random.random_range(0..=all),
        }
    }
}

/// An open file.
#[derive(Clone)]
pub(super) struct Handle {
    file: SimulatedFile,
    process: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a simulated file, in process {}", self.process)
    }
}

impl Handle {
    /// The file, if this handle's process lives.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.file.state();
        if state.process == self.process {
            Ok(state)
        } else {
            Err(io::Error::other("the process is dead"))
        }
    }

    /// Makes the change, or part of it and then fails.
    fn change(&self, operation: Operation, change: Change) -> io::Result<()> {
        let mut state = self.state()?;
        let was_off = state.is_off;
        let begun = state.begin(operation);
        if begun.is_ok() {
            state.change(change);
        } else if !was_off && state.random.random_bool(0.5) {
            state.change(change.first_part());
        }
        begun
    }
}

impl Change {
    /// What a write that fails may have done before.
    fn first_part(mut self) -> Self {
        if let Self::Write { bytes, .. } = &mut self {
            bytes.truncate(bytes.len().div_ceil(2));
        }
        self
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.begin(Operation::Read)?;
        let offset = usize::try_from(offset).unwrap();
        let held = state.cache.get(offset..offset + out.len());
        out.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Operation::SetLen, Change::SetLen(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let was_off = state.is_off;
        let begun = state.begin(Operation::Sync);
        match &begun {
            Ok(()) => state.sync(),
            // Power that fails in the middle is settled when it does.
            Err(_) if state.is_off || was_off => {}
            Err(_) => state.settle(),
        }
        begun
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.change(Operation::Write, Change::Write { offset, bytes: data.to_vec() })
    }
}
