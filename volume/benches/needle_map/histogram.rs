//! Durations counted in buckets of 1/64 of their size: exact enough, and no memory that
//! grows beside what is measured.

use std::time::Duration;

/// Buckets for each doubling.
const STEPS: u64 = 64;

pub struct Histogram {
    counts: [u64; 64 * STEPS as usize],
    total: u64,
    sum: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; 64 * STEPS as usize], total: 0, sum: 0, longest: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, took: Duration) {
        let ns = took.as_nanos() as u64;
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.sum += ns;
        self.longest = self.longest.max(ns);
    }

    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// Nanoseconds; not a number if nothing was added.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.total as f64
    }

    /// Nanoseconds, to a 64th; not a number if nothing was added.
    pub fn percentile(&self, percent: u64) -> f64 {
        let mut left = self.total * percent / 100;
        let found = self.counts.iter().position(|count| {
            let is_here = *count > left;
            left = left.saturating_sub(*count);
            is_here
        });
        found.map_or(f64::NAN, |bucket| lowest(bucket) as f64)
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEPS.ilog2();
    ((u64::from(shift) + 1) * STEPS + (ns >> shift) - STEPS) as usize
}

fn lowest(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if doubling == 0 { step } else { (STEPS + step) << (doubling - 1) }
}
