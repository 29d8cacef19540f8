//! The vacuum as a job of a directory's worker: which volume is due, how fast it goes, and how it
//! ended.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::VolumeId,
    wire::{JobKind, VacuumOutcome},
};

use super::{
    job::{Job, Origin},
    vacuum_schedule::{Candidate, due},
    worker::Worker,
};
use crate::engine::{
    compaction::{Compacted, CompactionError, Pace},
    volume::Volume,
};

/// After a step a vacuum rests for this many times as long as the step took, so that most of a busy
/// disk and processor are left to clients.
const REST_PER_STEP: u32 = 3;
/// A step that took long because others were busy is not made to wait for longer than this.
const MAX_REST: Duration = Duration::from_millis(250);

/// The vacuums of one directory's volumes in this run of the server.
pub(super) type Vacuums = BTreeMap<VolumeId, Vacuumed>;

/// The vacuums of one volume.
#[derive(Clone, Debug)]
pub(super) struct Vacuumed {
    /// How many ended.
    pub(super) completed: u64,
    /// How the last one did.
    pub(super) last: VacuumOutcome,
    ended_at: BootTime,
}

impl Worker {
    /// The routine vacuum whose time has come.
    pub(super) fn due_vacuum(&self) -> Option<Job> {
        let volumes = self.volumes();
        let takes_part = volumes.iter().filter(|volume| volume.refuses_deletes().is_ok());
        let candidates: Vec<_> = takes_part.map(|volume| self.candidate(volume)).collect();
        let volume = due(&candidates, self.vacuum, self.clock.boot())?;
        Some(Job { kind: JobKind::Vacuum, volume, origin: Origin::Routine })
    }

    /// A volume as the schedule sees it.
    pub(super) fn candidate(&self, volume: &Volume) -> Candidate {
        let report = volume.report();
        let vacuumed_at = self.vacuums().get(&report.id).map(|vacuums| vacuums.ended_at);
        let (size_bytes, garbage_bytes) = (report.size_bytes, report.garbage_bytes);
        Candidate { volume: report.id, size_bytes, garbage_bytes, vacuumed_at }
    }

    /// Compacts a volume.
    pub(super) fn vacuum(&self, job: Job, volume: &Arc<Volume>) {
        let report = volume.report();
        // What lives is read again once it is copied.
        self.starts(report.size_bytes.saturating_add(report.live_bytes));
        let step_began = self.clock.boot();
        let result = volume.compact(&mut Rests { worker: self, job, volume, step_began });
        if !matches!(result, Err(CompactionError::Stopped)) {
            self.note_vacuum(volume, &result, report.size_bytes);
        }
    }

    fn note_vacuum(
        &self,
        volume: &Volume,
        result: &Result<Compacted, CompactionError>,
        size_bytes: u64,
    ) {
        let (before_bytes, after_bytes, expired, error) = match result {
            Ok(done) => (done.before_bytes, done.after_bytes, done.expired, None),
            Err(error) => (size_bytes, size_bytes, 0, Some(error.to_string())),
        };
        match result {
            Ok(Compacted { writes_stopped, doubted, postponed, bad_stretches, .. }) => {
                self.vacuum_metrics.note(before_bytes.saturating_sub(after_bytes), *writes_stopped);
                tracing::info!(volume = %volume.id(), "compacted from {before_bytes} to {after_bytes} bytes, {expired} expired needles deleted, writes waited {} ms", writes_stopped.as_millis());
                if *doubted > 0 {
                    tracing::info!(volume = %volume.id(), "{doubted} needles whose time seems over are kept, because the clock was not steady for long enough or a master's differs; they are hidden, and a later vacuum deletes them");
                }
                if *postponed > 0 {
                    tracing::info!(volume = %volume.id(), "{postponed} expired needles are kept, because the file was as long as its index can address and had no place for their deletes; they are hidden, and a vacuum deletes them once the file is shorter");
                }
                if *bad_stretches > 0 {
                    tracing::warn!(volume = %volume.id(), "{bad_stretches} stretches of garbage that began with a bad record were dropped: check the disk");
                }
            }
            Err(error) => {
                self.vacuum_metrics.failures.inc();
                tracing::warn!(volume = %volume.id(), "cannot be compacted: {error}; it is as it was");
            }
        }
        let ended_at_secs = self.clock.wall_secs();
        let last = VacuumOutcome { ended_at_secs, before_bytes, after_bytes, expired, error };
        let mut vacuums = self.vacuums();
        let completed = vacuums.get(&volume.id()).map_or(0, |before| before.completed) + 1;
        let ended_at = self.clock.boot();
        vacuums.insert(volume.id(), Vacuumed { completed, last, ended_at });
    }

    /// What is known of vacuums.
    pub(super) fn vacuums(&self) -> MutexGuard<'_, Vacuums> {
        self.vacuums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rests after each step in proportion to what it took.
struct Rests<'a> {
    worker: &'a Worker,
    job: Job,
    volume: &'a Arc<Volume>,
    step_began: BootTime,
}

impl Pace for Rests<'_> {
    fn after(&mut self, bytes: u64) -> ControlFlow<()> {
        let took = self.worker.clock.since(self.step_began);
        let rest = || (took * REST_PER_STEP).min(MAX_REST);
        let goes_on = self.worker.step(self.job, self.volume, bytes, rest);
        self.step_began = self.worker.clock.boot();
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
