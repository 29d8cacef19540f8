//! The background work of a whole server: a worker for each data directory, so that one disk's work
//! does not wait for another's.

use std::{pin::pin, sync::Arc};

use dulse_shared::{
    clock::Clock,
    id::VolumeId,
    net::{metrics::Metrics, tasks::Tasks},
    wire::{
        JobKind, JobPhase, JobProgress, ScrubReport, StartVacuum, VacuumReport, VolumeScrub,
        VolumeVacuum,
    },
};

use super::{
    metrics::{ScrubMetrics, VacuumMetrics},
    worker::{Routine, Worker},
};
use crate::{engine::volume::Volume, reader::on_blocking_pool, store::Store};

/// The background work of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Maintenance {
    store: Store,
    workers: Arc<[Arc<Worker>]>,
}

impl Maintenance {
    /// Workers that do nothing until they are spawned.
    pub fn new(store: Store, routine: Routine, clock: &Clock, metrics: &Metrics) -> Self {
        let metrics = (ScrubMetrics::register(metrics), VacuumMetrics::register(metrics));
        let worker = |dir| Worker::new(dir, store.clone(), routine, clock.clone(), metrics.clone());
        let workers = store.data_dirs().iter().cloned().map(worker).map(Arc::new).collect();
        Self { store, workers }
    }

    /// Starts the workers. They end when the tasks are asked to stop.
    pub fn spawn(&self, tasks: &Tasks) {
        for worker in self.workers.iter() {
            tasks.spawn("maintenance", live(worker.clone(), tasks.clone()));
        }
    }

    /// What is being done.
    pub fn running(&self) -> Vec<JobProgress> {
        self.workers.iter().flat_map(|worker| worker.running()).collect()
    }

    /// Scrubs a volume, or all, ahead of routine work. The answer says what was known before.
    pub fn start_scrub(&self, volume: Option<VolumeId>) -> ScrubReport {
        let mut report = self.scrub_report(volume);
        for scrub in &mut report.volumes {
            if let Some(worker) = self.worker_of(scrub.volume) {
                worker.ask(JobKind::Scrub, scrub.volume);
                scrub.phase = JobPhase::Waiting;
            }
        }
        report
    }

    /// What is known of the scrubs of a volume, or of all. A volume that is not here is left out.
    pub fn scrub_report(&self, volume: Option<VolumeId>) -> ScrubReport {
        let volumes = self.which(volume);
        ScrubReport { volumes: volumes.iter().map(|volume| self.scrub_of(volume)).collect() }
    }

    fn which(&self, volume: Option<VolumeId>) -> Vec<Arc<Volume>> {
        match volume {
            Some(id) => self.store.volume(id).into_iter().collect(),
            None => self.store.volumes(),
        }
    }

    /// Compacts a volume, or all with enough garbage, ahead of routine work. The answer says what
    /// was known before of those.
    pub fn start_vacuum(&self, asked: StartVacuum) -> VacuumReport {
        let mut report = VacuumReport { volumes: Vec::new() };
        for volume in self.which(asked.volume) {
            let Some(worker) = self.worker_of(volume.id()) else { continue };
            let threshold = asked.garbage_threshold.unwrap_or(worker.vacuum.threshold());
            let has_garbage = worker.candidate(&volume).is_above(threshold);
            if has_garbage && volume.refuses_deletes().is_ok() {
                let before = self.vacuum_of(&volume);
                worker.ask(JobKind::Vacuum, volume.id());
                report.volumes.push(VolumeVacuum { phase: JobPhase::Waiting, ..before });
            }
        }
        report
    }

    /// What is known of the vacuums of a volume, or of all. A volume that is not here is left out.
    pub fn vacuum_report(&self, volume: Option<VolumeId>) -> VacuumReport {
        let volumes = self.which(volume);
        VacuumReport { volumes: volumes.iter().map(|volume| self.vacuum_of(volume)).collect() }
    }

    fn vacuum_of(&self, volume: &Volume) -> VolumeVacuum {
        let id = volume.id();
        let worker = self.worker_of(id);
        // In this order a vacuum that ends meanwhile is seen as complete or as running.
        let (phase, at) =
            worker.map_or((JobPhase::Idle, None), |worker| worker.phase(JobKind::Vacuum, id));
        let known = worker.and_then(|worker| worker.vacuums().get(&id).cloned());
        VolumeVacuum {
            volume: id,
            collection: volume.collection().clone(),
            phase,
            done_bytes: at.as_ref().map_or(0, |at| at.done_bytes),
            total_bytes: at.map_or(volume.report().size_bytes, |at| at.total_bytes),
            completed: known.as_ref().map_or(0, |known| known.completed),
            last: known.map(|known| known.last),
        }
    }

    fn scrub_of(&self, volume: &Volume) -> VolumeScrub {
        // In this order a scrub that ends meanwhile is seen as complete or as running.
        let worker = self.worker_of(volume.id());
        let (phase, at) = worker
            .map_or((JobPhase::Idle, None), |worker| worker.phase(JobKind::Scrub, volume.id()));
        let last = volume.scrubbed().summary();
        VolumeScrub {
            volume: volume.id(),
            collection: volume.collection().clone(),
            phase,
            done_bytes: at.map_or(0, |at| at.done_bytes),
            total_bytes: volume.report().size_bytes,
            completed: last.completed,
            completed_at_secs: last.completed_at_secs,
            findings: last.findings.as_slice().to_vec(),
            more_findings: last.findings.more(),
        }
    }

    fn worker_of(&self, volume: VolumeId) -> Option<&Arc<Worker>> {
        let volume = self.store.volume(volume)?;
        self.workers.iter().find(|worker| worker.has(&volume))
    }
}

/// A worker, from its start to the server's stop.
async fn live(worker: Arc<Worker>, tasks: Tasks) {
    let working = worker.clone();
    let work = on_blocking_pool(move || {
        working.run();
        Ok(())
    });
    let mut work = pin!(work);
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = tasks.stopped() => {
            worker.stop();
            work.await
        }
    };
    if let Err(error) = ended {
        tasks.fail(format!("the background work of a data directory broke off: {error}"));
    }
}
