//! What a server's volume files are made of: three gauges whose sum is the length of all of them.
//!
//! They are counted when they are asked for. A stopped server's metrics do not keep its volumes
//! open: without a store there is nothing to tell.

use dulse_shared::net::metrics::Metrics;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use crate::store::{Store, WeakStore};

#[derive(Debug)]
struct StoreGauges(WeakStore);

/// Sums over volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Bytes {
    live: u64,
    garbage: u64,
    overhead: u64,
}

/// Registers the gauges of a server.
pub(crate) fn register(metrics: &Metrics, store: &Store) {
    let gauges = Box::new(StoreGauges(store.downgrade()));
    metrics.register(|registry| registry.register_collector(gauges));
}

impl Collector for StoreGauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(store) = self.0.upgrade() else {
            return Ok(());
        };
        let bytes = Bytes::of(&store);
        for (name, help, value) in [
            ("live_bytes", "Bytes of needles that can be read, on all volumes", bytes.live),
            ("garbage_bytes", "Bytes that a compaction of all volumes would free", bytes.garbage),
            ("overhead_bytes", "Bytes of volume files that belong to no needle", bytes.overhead),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

impl Bytes {
    fn of(store: &Store) -> Self {
        store.volumes().iter().map(|volume| volume.report()).fold(Self::default(), |sum, report| {
            Self {
                live: sum.live.saturating_add(report.live_bytes),
                garbage: sum.garbage.saturating_add(report.garbage_bytes),
                overhead: sum.overhead.saturating_add(report.overhead_bytes()),
            }
        })
    }
}
