//! The scrub as a job of a directory's worker: which volume is due, and what becomes of the result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dulse_shared::{
    id::{NeedleKey, VolumeId},
    wire::JobKind,
};

use super::{
    job::{Job, Origin},
    pace::Pacer,
    schedule::{Candidate, due},
    scrub_file::{ScrubFile, ScrubRecord},
    worker::Worker,
};
use crate::engine::{
    scrub::{ScrubEnd, ScrubFindings},
    volume::Volume,
};

impl Worker {
    /// Takes up what the last run of the server knew. Needles that were bad are looked at again: the
    /// file may have been restored meanwhile.
    pub(super) fn restore(&self) {
        *self.file() = ScrubFile::read(&**self.dir.files(), self.dir.path());
        for volume in self.volumes() {
            let Some(record) = self.file().record(volume.id()).cloned() else { continue };
            let ScrubRecord { completed_at_secs, findings, more_findings, .. } = record;
            let keys: Vec<NeedleKey> = findings.iter().filter_map(|finding| finding.key).collect();
            volume.scrubbed().restore(completed_at_secs, findings, more_findings);
            let pacer = Mutex::new(Pacer::new(self.routine.bytes_per_sec));
            volume.scrub_needles(&keys, &|bytes| self.keep_pace(&pacer, bytes));
        }
    }

    /// Takes note of which volumes there are.
    pub(super) fn see(&self) {
        let ids: Vec<VolumeId> = self.volumes().iter().map(|volume| volume.id()).collect();
        let now_secs = self.clock.wall_secs();
        let is_news = self.file().see(&ids, now_secs);
        if is_news {
            self.save();
        }
        let oldest_secs = self.file().oldest_secs().unwrap_or(now_secs);
        self.metrics.note_oldest(self.dir.path(), oldest_secs);
    }

    /// The routine scrub whose time has come.
    pub(super) fn due_scrub(&self) -> Option<Job> {
        let candidate = |volume: Arc<Volume>| Candidate {
            volume: volume.id(),
            completed_at_secs: volume.scrubbed().last().0,
            size_bytes: volume.report().size_bytes,
        };
        let candidates: Vec<_> = self.volumes().into_iter().map(candidate).collect();
        let volume = due(&candidates, &self.routine, self.clock.wall_secs())?;
        Some(Job { kind: JobKind::Scrub, volume, origin: Origin::Routine })
    }

    /// Scrubs a volume to its end.
    pub(super) fn scrub(&self, job: Job, volume: &Arc<Volume>) {
        let pacer = Mutex::new(Pacer::new(self.routine.bytes_per_sec));
        let step = |bytes| {
            let goes_on = self.step(job, volume, bytes, || self.pause_of(&pacer, bytes));
            self.metrics.bytes.inc_by(if goes_on { bytes } else { 0 });
            goes_on
        };
        loop {
            self.starts(volume.report().size_bytes);
            match volume.scrub(&step) {
                ScrubEnd::Complete(findings) => return self.complete(volume, &findings),
                ScrubEnd::Stopped => return,
                ScrubEnd::Replaced => {}
            }
        }
    }

    fn complete(&self, volume: &Volume, findings: &ScrubFindings) {
        self.metrics.corrupt.inc_by(findings.len());
        match findings.len() {
            0 => tracing::info!(volume = %volume.id(), "a scrub found nothing wrong"),
            1 => tracing::error!(volume = %volume.id(), "a scrub found 1 bad record"),
            count => tracing::error!(volume = %volume.id(), "a scrub found {count} bad records"),
        }
        let (completed_at_secs, _) = volume.scrubbed().last();
        self.file().complete(volume.id(), completed_at_secs, findings);
        self.save();
    }

    fn save(&self) {
        let file = self.file().clone();
        if let Err(error) = file.write(&**self.dir.files(), self.dir.path()) {
            let dir = self.dir.path().display();
            tracing::warn!("{dir}: cannot keep what scrubs found: {error}");
        }
    }

    fn file(&self) -> MutexGuard<'_, ScrubFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
