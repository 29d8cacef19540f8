//! One data directory's background work: a thread that does one job at a time.
//!
//! What an operator asked for goes first, even in the middle of routine work, which waits until it
//! is done. Every pause of a job ends at once when the server stops. What a job does has a file of
//! its own; another kind of job is an arm in [`Worker::perform`].

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    id::VolumeId,
    wire::{JobKind, JobPhase, JobProgress},
};

use super::{
    job::{Job, Origin},
    metrics::{ScrubMetrics, VacuumMetrics},
    pace::Pacer,
    schedule::RoutineScrub,
    scrub_file::ScrubFile,
    vacuum_job::Vacuums,
    vacuum_schedule::RoutineVacuum,
};
use crate::{disk::DataDir, engine::volume::Volume, store::Store};

/// How often routine work is looked for.
const TICK: Duration = Duration::from_secs(30);

/// What is done without being asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Routine {
    /// Scrubs.
    pub scrub: RoutineScrub,
    /// Vacuums.
    pub vacuum: RoutineVacuum,
}

/// A directory's worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) dir: Arc<DataDir>,
    pub(super) store: Store,
    pub(super) routine: RoutineScrub,
    pub(super) clock: Clock,
    pub(super) metrics: ScrubMetrics,
    /// Only the worker's own thread looks at it.
    pub(super) file: Mutex<ScrubFile>,
    pub(super) vacuum: RoutineVacuum,
    pub(super) vacuum_metrics: VacuumMetrics,
    pub(super) vacuums: Mutex<Vacuums>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: VecDeque<Job>,
    /// What is being done. The last is under way; those before wait for it.
    running: Vec<JobProgress>,
    is_stopping: bool,
}

impl Worker {
    pub(super) fn new(
        dir: Arc<DataDir>,
        store: Store,
        routine: Routine,
        clock: Clock,
        (metrics, vacuum_metrics): (ScrubMetrics, VacuumMetrics),
    ) -> Self {
        let Routine { scrub: routine, vacuum } = routine;
        Self {
            dir,
            store,
            routine,
            clock,
            metrics,
            file: Mutex::default(),
            vacuum,
            vacuum_metrics,
            vacuums: Mutex::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Whether a volume lies in the worker's directory.
    pub(super) fn has(&self, volume: &Volume) -> bool {
        volume.dir().path() == self.dir.path()
    }

    /// The volumes in the worker's directory.
    pub(super) fn volumes(&self) -> Vec<Arc<Volume>> {
        self.store.volumes().into_iter().filter(|volume| self.has(volume)).collect()
    }

    /// Does a job as soon as those that were asked for before are done. One that waits or runs
    /// already is not done twice.
    pub(super) fn ask(&self, kind: JobKind, volume: VolumeId) {
        let mut state = self.lock();
        if let Some(running) = state.running.iter_mut().find(|at| is_it(at, kind, volume)) {
            running.is_asked_for = true;
        } else if !state.asked.iter().any(|job| (job.kind, job.volume) == (kind, volume)) {
            state.asked.push_back(Job { kind, volume, origin: Origin::AskedFor });
            self.wake.notify_all();
        }
    }

    /// What is being done.
    pub(super) fn running(&self) -> Vec<JobProgress> {
        self.lock().running.clone()
    }

    /// Whether a job waits or runs, and how far it is if it runs.
    pub(super) fn phase(&self, kind: JobKind, volume: VolumeId) -> (JobPhase, Option<JobProgress>) {
        let state = self.lock();
        if let Some(at) = state.running.iter().find(|at| is_it(at, kind, volume)) {
            return (JobPhase::Running, Some(at.clone()));
        }
        let is_waiting = state.asked.iter().any(|job| (job.kind, job.volume) == (kind, volume));
        (if is_waiting { JobPhase::Waiting } else { JobPhase::Idle }, None)
    }

    /// Ends every job at its next step.
    pub(super) fn stop(&self) {
        self.lock().is_stopping = true;
        self.wake.notify_all();
    }

    /// The worker's life, on a thread of its own.
    pub(super) fn run(&self) {
        self.restore();
        let quiet_until = self.clock.boot().plus(self.routine.quiet_after_start);
        while !self.lock().is_stopping {
            self.see();
            let left = quiet_until.since(self.clock.boot());
            if let Some(job) = self.take_asked() {
                self.perform(job);
            } else if let Some(job) = self.due().filter(|_| left.is_zero()) {
                self.begin(&mut self.lock(), job);
                self.perform(job);
            } else {
                self.sleep(if left.is_zero() { TICK } else { left.min(TICK) });
            }
        }
    }

    /// The routine work whose time has come. Garbage first: it takes up room.
    fn due(&self) -> Option<Job> {
        self.due_vacuum().or_else(|| self.due_scrub())
    }

    /// The next job that was asked for; it counts as running from now on.
    fn take_asked(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.asked.pop_front()?;
        self.begin(&mut state, job);
        Some(job)
    }

    fn begin(&self, state: &mut State, job: Job) {
        state.running.push(job.begin(self.clock.wall_secs()));
    }

    /// Does a job that counts as running, unless the server stops or the volume goes.
    fn perform(&self, job: Job) {
        let volume = self.store.volume(job.volume).filter(|volume| self.has(volume));
        if let Some(volume) = volume {
            match job.kind {
                JobKind::Scrub => self.scrub(job, &volume),
                JobKind::Vacuum => self.vacuum(job, &volume),
            }
        }
        self.lock().running.pop();
    }

    /// The job under way begins, with so much to do.
    pub(super) fn starts(&self, total_bytes: u64) {
        if let Some(running) = self.lock().running.last_mut() {
            (running.done_bytes, running.total_bytes) = (0, total_bytes);
        }
    }

    /// A step of a job, of so many bytes: first comes what was asked for, then a pause. `false` if the
    /// job must end.
    pub(super) fn step(
        &self,
        job: Job,
        volume: &Arc<Volume>,
        bytes: u64,
        pause: impl FnOnce() -> Duration,
    ) -> bool {
        while job.origin == Origin::Routine
            && let Some(asked) = self.take_asked()
        {
            self.perform(asked);
        }
        let is_there = self.store.volume(job.volume).is_some_and(|now| Arc::ptr_eq(&now, volume));
        let goes_on = is_there && self.pause(pause());
        if goes_on && let Some(running) = self.lock().running.last_mut() {
            running.done_bytes = running.total_bytes.min(running.done_bytes + bytes);
        }
        goes_on
    }

    /// Waits until so many bytes may be read; `false` if the server stops.
    pub(super) fn keep_pace(&self, pacer: &Mutex<Pacer>, bytes: u64) -> bool {
        self.pause(self.pause_of(pacer, bytes))
    }

    /// How long that is.
    pub(super) fn pause_of(&self, pacer: &Mutex<Pacer>, bytes: u64) -> Duration {
        let mut pacer = pacer.lock().unwrap_or_else(PoisonError::into_inner);
        pacer.wait(bytes, self.clock.boot())
    }

    /// Waits; `false` if the server stops.
    fn pause(&self, length: Duration) -> bool {
        let goes_on = |state: &mut State| !state.is_stopping;
        let slept = self.wake.wait_timeout_while(self.lock(), length, goes_on);
        let (mut state, _) = slept.unwrap_or_else(PoisonError::into_inner);
        goes_on(&mut state)
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, limit: Duration) {
        let is_idle = |state: &mut State| state.asked.is_empty() && !state.is_stopping;
        drop(self.wake.wait_timeout_while(self.lock(), limit, is_idle));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_it(at: &JobProgress, kind: JobKind, volume: VolumeId) -> bool {
    (at.kind, at.volume) == (kind, volume)
}
