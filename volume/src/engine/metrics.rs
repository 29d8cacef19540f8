//! Histograms of the write path.

use dulse_shared::net::metrics::{LATENCY_BUCKETS, Metrics};
use prometheus_client::metrics::histogram::Histogram;

/// How long writes wait, how long syncs take and how much each one commits.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    /// Seconds from when a write was queued until its batch was taken.
    pub queue_wait_seconds: Histogram,
    /// Seconds of one `fdatasync` of a volume file.
    pub fsync_seconds: Histogram,
    /// Writes that one sync made durable.
    pub commit_batch_size: Histogram,
}

impl EngineMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let this = Self {
            queue_wait_seconds: Histogram::new(LATENCY_BUCKETS),
            fsync_seconds: Histogram::new(LATENCY_BUCKETS),
            commit_batch_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0]),
        };
        metrics.register(|registry| {
            let wait = "Time from when a write was queued until its batch was taken";
            registry.register("queue_wait_seconds", wait, this.queue_wait_seconds.clone());
            let seconds = "Time of one sync of a volume file";
            registry.register("fsync_seconds", seconds, this.fsync_seconds.clone());
            let size = "Writes that one sync made durable";
            registry.register("commit_batch_size", size, this.commit_batch_size.clone());
        });
        this
    }
}
