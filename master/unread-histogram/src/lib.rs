//! Stands in for the crate `base2histogram`, patched in by the workspace's `Cargo.toml`.
//!
//! openraft records sizes and latencies in that crate's histograms, which nobody reads here: its
//! statistics are a feature that is off. The real crate fills tables for all its resolutions at
//! the first use, 26 MB, two thirds of the memory of an idle server and a part of its start. These
//! histograms keep nothing and read as empty. Should openraft use more of the crate, this does not
//! compile; should it need an answer, this has to go.

mod histogram;

pub use histogram::{AsciiChart, Histogram, PercentileStats};
