//! What a server's volume files are made of, which of its volumes are read-only and why, how much
//! room its directories have, and how far its clock is from the masters'.
//!
//! They are counted when they are asked for. The bytes of live needles, garbage and overhead add up to
//! the length of all volume files. Series are bounded by directories, reasons and masters, never by volumes.
//! A stopped server's metrics do not keep its volumes open: without a store there is nothing to tell.

use dulse_shared::{net::metrics::Metrics, wire::VolumeReport};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    read_only::ReadOnlyCause,
    store::{Store, WeakStore},
};

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
        let reports: Vec<_> =
            store.volumes().iter().map(|volume| (volume.report(), volume.config())).collect();
        let bytes = Bytes::of(reports.iter().map(|(report, _)| report));
        for (name, help, value) in [
            ("live_bytes", "Bytes of needles that can be read, on all volumes", bytes.live),
            ("garbage_bytes", "Bytes that a compaction of all volumes would free", bytes.garbage),
            ("overhead_bytes", "Bytes of volume files that belong to no needle", bytes.overhead),
        ] {
            let gauge = gauge(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let causes: Vec<_> = reports
            .iter()
            .filter_map(|(report, config)| ReadOnlyCause::of(report, config))
            .collect();
        let count = |cause| causes.iter().filter(|other| **other == cause).count() as u64;
        let read_only = ReadOnlyCause::ALL.map(|cause| (cause.as_word().to_owned(), count(cause)));
        let help = "Volumes of this server that take no new needles, by reason";
        encode_family(&mut encoder, "store_volumes_read_only", help, "reason", &read_only)?;
        encode_clocks(&mut encoder, &store)?;
        encode_room(&mut encoder, &store)
    }
}

fn encode_room(encoder: &mut DescriptorEncoder, store: &Store) -> Result<(), std::fmt::Error> {
    let dirs = store.dirs();
    let free: Vec<_> = dirs.iter().map(|dir| (dir.dir.clone(), dir.free_bytes)).collect();
    let help =
        "Bytes free on the disk of each data directory; 0 of one that was not there at the start";
    encode_family(encoder, "disk_free_bytes", help, "dir", &free)?;
    let kept: Vec<_> = dirs.into_iter().map(|dir| (dir.dir, dir.min_free_bytes)).collect();
    let help = "Free bytes below which a data directory gets no new data";
    encode_family(encoder, "disk_min_free_bytes", help, "dir", &kept)
}

fn encode_clocks(encoder: &mut DescriptorEncoder, store: &Store) -> Result<(), std::fmt::Error> {
    let help =
        "By how much each master's clock is ahead of this server's; negative if it is behind";
    let name = "clock_difference_seconds";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (master, seconds) in store.clock_trust().differences() {
        let of = [("master", master.as_str())];
        ConstGauge::new(seconds).encode(metric.encode_family(&of)?)?;
    }
    Ok(())
}

/// A gauge for each value of a label.
fn encode_family(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(String, u64)],
) -> Result<(), std::fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (of, value) in values {
        gauge(*value).encode(metric.encode_family(&[(label, of.as_str())])?)?;
    }
    Ok(())
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Bytes {
    fn of<'a>(reports: impl Iterator<Item = &'a VolumeReport>) -> Self {
        reports.fold(Self::default(), |sum, report| Self {
            live: sum.live.saturating_add(report.live_bytes),
            garbage: sum.garbage.saturating_add(report.garbage_bytes),
            overhead: sum.overhead.saturating_add(report.overhead_bytes()),
        })
    }
}
