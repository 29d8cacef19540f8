//! Histograms that keep nothing, by the names and signatures that openraft uses.

use std::{fmt, marker::PhantomData};

/// A histogram that keeps nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram<T = ()> {
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { slots: PhantomData }
    }

    /// Takes a value that nobody will ask for.
    pub fn record(&mut self, _value: u64) {}

    /// Takes a value that came `_count` times.
    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// The statistics of no values.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// The values below which a part of all values lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are named for the percentage")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not kept")
    }
}

/// A chart of histograms that keep nothing.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self
    }

    /// Adds a histogram.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not kept")
    }
}
