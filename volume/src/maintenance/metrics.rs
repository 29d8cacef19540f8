//! What background work counts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use dulse_shared::net::metrics::{LATENCY_BUCKETS, Metrics};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

/// Counters and gauges of scrubs.
#[derive(Clone, Debug)]
pub(super) struct ScrubMetrics {
    /// Bytes that were read.
    pub(super) bytes: Counter<u64, AtomicU64>,
    /// Records that did not verify, each time they were found.
    pub(super) corrupt: Counter<u64, AtomicU64>,
    last_complete_secs: Gauge<i64, AtomicI64>,
    /// The same for each directory.
    oldest_secs: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl ScrubMetrics {
    /// Registers them.
    pub(super) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            bytes: Counter::default(),
            corrupt: Counter::default(),
            last_complete_secs: Gauge::default(),
            oldest_secs: Arc::default(),
        };
        metrics.register(|registry| {
            let bytes = "Bytes of volume files that scrubs read again";
            registry.register("scrub_bytes", bytes, this.bytes.clone());
            let corrupt = "Records that scrubs found not to verify";
            registry.register("scrub_corrupt", corrupt, this.corrupt.clone());
            let last = "When the volume that waits longest was last read to its end, or came here";
            registry.register(
                "scrub_last_complete_timestamp_seconds",
                last,
                this.last_complete_secs.clone(),
            );
        });
        this
    }

    /// Takes note of since when the volume that waits longest in `dir` has not been read.
    pub(super) fn note_oldest(&self, dir: &Path, secs: u64) {
        let mut oldest = self.oldest_secs.lock().unwrap_or_else(PoisonError::into_inner);
        oldest.insert(dir.to_owned(), secs);
        let all = oldest.values().min().copied().unwrap_or(0);
        self.last_complete_secs.set(i64::try_from(all).unwrap_or(i64::MAX));
    }
}

/// Counters of vacuums.
#[derive(Clone, Debug)]
pub(super) struct VacuumMetrics {
    /// Vacuums that did not come about.
    pub(super) failures: Counter<u64, AtomicU64>,
    reclaimed_bytes: Counter<u64, AtomicU64>,
    stopped_seconds: Histogram,
}

impl VacuumMetrics {
    /// Registers them.
    pub(super) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            failures: Counter::default(),
            reclaimed_bytes: Counter::default(),
            stopped_seconds: Histogram::new(LATENCY_BUCKETS),
        };
        metrics.register(|registry| {
            let failures = "Vacuums that did not come about";
            registry.register("vacuum_failures", failures, this.failures.clone());
            let reclaimed = "Bytes by which vacuums made volume files shorter";
            registry.register("vacuum_reclaimed_bytes", reclaimed, this.reclaimed_bytes.clone());
            let stopped = "Time that writes waited for the end of one vacuum";
            let histogram = this.stopped_seconds.clone();
            registry.register("vacuum_writes_stopped_seconds", stopped, histogram);
        });
        this
    }

    /// A vacuum went well.
    pub(super) fn note(&self, reclaimed_bytes: u64, writes_stopped: Duration) {
        self.reclaimed_bytes.inc_by(reclaimed_bytes);
        self.stopped_seconds.observe(writes_stopped.as_secs_f64());
    }
}
