//! Carrying out a sequence on a volume on a simulated disk, and holding every answer, every read
//! and every check against the reference.

use std::{ops::ControlFlow, path::PathBuf};

use dulse_shared::{clock::Clock, wire::LocalState};
use dulse_volume::{
    disk::simulated::{Fault, Operation, SimulatedDisk},
    engine::{check::Finding, compaction::Pace, write::Write},
    reader::ReadError,
    writer,
};

use crate::{
    harness::{COOKIE, Rig, key, name, needle, spooled},
    reference::{Data, Injury, Reference},
    steps::{Action, Change, File, KEYS, Step, Trouble},
};

/// A volume, its disk and what is known of it.
pub struct Machine {
    pub disk: SimulatedDisk,
    rig: Rig,
    reference: Reference,
    /// Copies of the index, for one to come back.
    old_indexes: Vec<Vec<u8>>,
    /// Tells the needles apart.
    puts: u64,
    /// What a failed sync lost may look like damage. What a crash tore must not.
    may_look_damaged: bool,
    flipped: Vec<(PathBuf, usize)>,
    /// It was without its sidecar once.
    is_foreign: bool,
    /// The volume cannot be opened any more.
    is_over: bool,
}

type Outcome = Result<(), String>;

/// Runs a sequence from an empty volume on.
pub fn run(steps: &[Step], seed: u64) -> Outcome {
    let mut machine = Machine::new(seed);
    for (index, step) in steps.iter().enumerate() {
        machine.step(step).map_err(|error| format!("step {index}, {step:?}: {error}"))?;
        if machine.is_over {
            break;
        }
    }
    Ok(())
}

/// The same until the machine stops, after so many operations. It then starts again and goes on.
pub fn run_and_stop(steps: &[Step], seed: u64, after: u64) -> Outcome {
    let mut machine = Machine::new(seed);
    machine.disk.stop_after(after);
    for step in steps {
        let was_stopped = machine.disk.is_stopped();
        if !was_stopped {
            machine.act(&step.action, false)?;
        }
        if machine.disk.is_stopped() {
            machine.crash()?;
            machine.verify(true)?;
            return machine.goes_on();
        }
        machine.verify(true)?;
    }
    machine.crash()?;
    machine.verify(true)
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let rig = Rig::on(&disk);
        Self {
            disk,
            rig,
            reference: Reference::default(),
            old_indexes: Vec::new(),
            puts: 0,
            may_look_damaged: false,
            flipped: Vec::new(),
            is_foreign: false,
            is_over: false,
        }
    }

    fn step(&mut self, step: &Step) -> Outcome {
        self.old_indexes.extend(self.disk.contents(&self.rig.idx()));
        match &step.trouble {
            Trouble::None => self.act(&step.action, true)?,
            Trouble::Fault { operation, extension, nth, fault } => {
                if matches!(fault, Fault::LosesPages { .. }) {
                    // Rows are synced by checkpoints only, so the pages may be theirs.
                    self.index_changed();
                }
                self.disk.plan(*operation, *extension, *nth, *fault);
                self.act(&step.action, false)?;
                let came_to_pass = self.disk.forgive();
                if came_to_pass && *fault == Fault::Misdirects {
                    self.reference.injure();
                    self.reference.injure();
                }
                self.may_look_damaged |= came_to_pass && *operation == Operation::Sync;
            }
            Trouble::Full { free_bytes } => {
                self.disk.limit_free_bytes(*free_bytes);
                self.act(&step.action, false)?;
                self.disk.limit_free_bytes(1 << 40);
                // A server does so twice a second.
                self.rig.dir.measure(&Clock::System);
            }
            Trouble::Stop { after } => {
                self.disk.stop_after(*after);
                self.act(&step.action, false)?;
                self.crash()?;
            }
        }
        self.verify(false)
    }

    /// What a machine that started again after a stop still has to do: take a write and keep it.
    fn goes_on(&mut self) -> Outcome {
        if self.rig.volume.report().local != LocalState::Ready {
            return if self.may_look_damaged { Ok(()) } else { Err("it is not ready".to_owned()) };
        }
        self.act(&Action::Batch(vec![Change::Put(1, 20), Change::Delete(2)]), true)?;
        self.crash()?;
        self.verify(false)
    }

    pub fn act(&mut self, action: &Action, is_calm: bool) -> Outcome {
        match action {
            Action::Batch(changes) => self.batch(changes, is_calm),
            Action::Checkpoint => match self.rig.volume.checkpoint() {
                Err(error) if is_calm && self.is_ready() => Err(format!("checkpoint: {error}")),
                _ => Ok(()),
            },
            Action::Compact { meanwhile } => self.compact(meanwhile, is_calm),
            Action::Reopen { is_clean } => self.reopen(*is_clean),
            Action::Crash => self.crash(),
            Action::LoseIndex => self.while_closed(|machine, paths| {
                machine.disk.erase(&paths.idx);
                machine.index_changed();
            }),
            Action::StaleIndex => self.while_closed(|machine, paths| {
                let half = machine.old_indexes.len() / 2;
                if let Some(old) = machine.old_indexes.get(half).cloned() {
                    machine.disk.put(&paths.idx, old);
                }
                machine.index_changed();
            }),
            Action::LoseSidecar => self.lose_sidecar(),
            Action::Flip { file, bit, is_open } => self.flip(*file, *bit, *is_open),
        }
    }

    /// The index is a cache; only next to damage it is the only one that knows.
    fn index_changed(&mut self) {
        if self.reference.injury != Injury::None {
            self.reference.injure();
        }
    }

    fn is_ready(&self) -> bool {
        self.rig.volume.report().local == LocalState::Ready
    }

    fn batch(&mut self, changes: &[Change], is_calm: bool) -> Outcome {
        let may_refuse = !is_calm || !self.is_ready();
        let (mut writes, mut batch) = (Vec::new(), Vec::new());
        for change in changes {
            let (k, data) = self.write_of(change);
            batch.push(match (&data, change) {
                (None, _) => Write::Delete { key: key(k), cookie: COOKIE },
                (Some(data), Change::PutSpooled(..)) => match spooled(&self.disk, k, data) {
                    Ok(needle) => Write::Put(needle),
                    // It does not come as far as the volume.
                    Err(_) if !is_calm => continue,
                    Err(error) => return Err(format!("cannot spool: {error}")),
                },
                (Some(data), _) => Write::Put(needle(k, data)),
            });
            writes.push((k, data));
        }
        let answers = self.rig.commit(batch);
        for ((key, data), answer) in writes.into_iter().zip(&answers) {
            self.reference.answered(key, data, answer, may_refuse)?;
        }
        Ok(())
    }

    fn compact(&mut self, meanwhile: &[Change], is_calm: bool) -> Outcome {
        let must_succeed =
            is_calm && self.is_ready() && self.reference.injury == Injury::None && !self.is_foreign;
        let volume = self.rig.volume.clone();
        let mut pace =
            Meanwhile { machine: self, changes: Some(meanwhile), is_calm, outcome: Ok(()) };
        let compacted = volume.compact(&mut pace);
        pace.outcome?;
        // Rows of the old file speak of records that are not in this one.
        self.old_indexes.clear();
        match compacted {
            Err(error) if must_succeed => Err(format!("compaction: {error}")),
            _ => Ok(()),
        }
    }

    fn write_of(&mut self, change: &Change) -> (u64, Data) {
        match change {
            Change::Delete(key) => (*key, None),
            Change::Put(key, len) | Change::PutSpooled(key, len) => {
                self.puts += 1;
                let tag = self.puts.to_le_bytes();
                (*key, Some(tag.iter().copied().cycle().take(*len).collect()))
            }
        }
    }

    fn reopen(&mut self, is_clean: bool) -> Outcome {
        if is_clean {
            writer::close(&self.rig.volume);
        }
        self.start()
    }

    fn crash(&mut self) -> Outcome {
        self.disk.crash();
        if self.reference.injury != Injury::None {
            self.reference.injure();
        }
        self.start()
    }

    /// Starts the process again. A start that something stands in the way of is repeated once that
    /// is gone, and must then succeed.
    fn start(&mut self) -> Outcome {
        let config = (*self.rig.volume.config()).clone();
        let removals: [fn(&mut Self); 3] = [|_| {}, Self::remove_obstacles, Self::flip_back];
        let mut opened = Ok(());
        for remove in removals {
            remove(self);
            self.rig.restart();
            opened = self.rig.try_start(&config);
            if self.disk.is_stopped() {
                return Ok(());
            }
            if opened.is_ok() {
                return self.observe();
            }
        }
        // Written over by the test, and left alone as it should be.
        self.is_over = self.reference.injury == Injury::Often;
        match opened {
            Err(error) if !self.is_over => Err(format!("it cannot be opened: {error}")),
            _ => Ok(()),
        }
    }

    fn remove_obstacles(&mut self) {
        self.disk.forgive();
        self.disk.limit_free_bytes(1 << 40);
    }

    /// What could not be opened was found out, and left alone.
    fn flip_back(&mut self) {
        for (path, bit) in self.flipped.drain(..) {
            self.disk.flip(&path, bit);
        }
    }

    /// What the first reads after a start find is from then on what is known.
    fn observe(&mut self) -> Outcome {
        KEYS.into_iter().try_for_each(|key| self.read(key, true))
    }

    fn while_closed(&mut self, change: impl FnOnce(&mut Self, &Paths)) -> Outcome {
        let paths = Paths::of(&self.rig);
        change(self, &paths);
        self.start()
    }

    /// Without its sidecar the volume is nobody's until it is admitted again.
    fn lose_sidecar(&mut self) -> Outcome {
        // A failed append left what may be a torn record, and only in records that are known to be
        // ours does a sum tell that a header is one.
        if !self.is_ready() {
            self.reference.injure();
            self.reference.injure();
        }
        self.disk.erase(&Paths::of(&self.rig).sidecar);
        // Where its own records begin is forgotten, and with it that a tail may be cut.
        self.may_look_damaged = true;
        self.is_foreign = true;
        self.reference.keys_are_unsummed = true;
        if self.reference.injury != Injury::None {
            self.reference.injure();
        }
        self.start()
    }

    fn flip(&mut self, file: File, bit: usize, is_open: bool) -> Outcome {
        let paths = Paths::of(&self.rig);
        let path = match file {
            File::Dat => &paths.dat,
            File::Idx => &paths.idx,
            File::Sidecar => &paths.sidecar,
        };
        let Some(bits) = self.disk.contents(path).map(|bytes| bytes.len() * 8) else {
            return Ok(());
        };
        if bits == 0 {
            return Ok(());
        }
        let bit = bit % bits;
        self.disk.flip(path, bit);
        self.flipped.push((path.clone(), bit));
        if self.rig.volume.report().local != LocalState::Ready || self.is_foreign {
            // Its index does not know all of it, or its records are taken for another program's,
            // whose headers have no sum.
            self.reference.injure();
        }
        self.reference.injure();
        if is_open {
            return Ok(());
        }
        self.start()
    }

    fn read(&mut self, key: u64, is_restarted: bool) -> Outcome {
        let mut found = self.rig.read(key);
        if is_restarted && matches!(found, Err(ReadError::Io { .. })) {
            // Only the disk that fails one operation.
            found = self.rig.read(key);
        }
        let found = match found {
            Ok(needle) => Ok(Some(needle.data.to_vec())),
            Err(ReadError::NotFound) => Ok(None),
            Err(ReadError::Corrupt { .. }) => Err(()),
            Err(error) => return Err(error.to_string()),
        };
        self.reference.read(key, found, is_restarted)
    }

    /// Everything reads as it should, and the volume finds nothing wrong with itself, unless the
    /// test damaged something.
    fn verify(&mut self, is_brief: bool) -> Outcome {
        if self.is_over {
            return Ok(());
        }
        for key in KEYS {
            self.read(key, false)?;
        }
        if is_brief {
            return Ok(());
        }
        let findings = self.rig.volume.check().map_err(|error| format!("check: {error}"))?;
        let local = self.rig.volume.report().local;
        let is_sound = self.reference.injury == Injury::None;
        // Without its sidecar a volume is served by its index, which does not speak of what was torn.
        let is_torn = self.is_foreign && findings.as_slice().iter().all(Finding::is_damage);
        match local {
            LocalState::Ready if is_sound && !findings.is_empty() && !is_torn => {
                Err(format!("check found {:?}", findings.as_slice()))
            }
            LocalState::Damaged if is_sound && !self.may_look_damaged => {
                Err(format!("it counts as damaged: {:?}", findings.as_slice()))
            }
            LocalState::Ready => Ok(()),
            LocalState::Damaged | LocalState::Failed if findings.is_empty() => {
                Err(format!("it is {local:?} and check finds nothing"))
            }
            _ => Ok(()),
        }
    }
}

/// Commits a batch at the first pause of a compaction.
struct Meanwhile<'a> {
    machine: &'a mut Machine,
    changes: Option<&'a [Change]>,
    is_calm: bool,
    outcome: Outcome,
}

impl Pace for Meanwhile<'_> {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        if let Some(changes) = self.changes.take().filter(|changes| !changes.is_empty()) {
            self.outcome = self.machine.batch(changes, self.is_calm);
        }
        if self.outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

struct Paths {
    dat: PathBuf,
    idx: PathBuf,
    sidecar: PathBuf,
}

impl Paths {
    fn of(rig: &Rig) -> Self {
        let sidecar = name().sidecar(rig.dir.path());
        Self { dat: rig.dat(), idx: rig.idx(), sidecar }
    }
}
