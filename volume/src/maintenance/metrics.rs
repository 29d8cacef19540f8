//! What background work counts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
};

use dulse_shared::net::metrics::Metrics;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

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
