//! Compaction: a volume's live needles go into a new file, which takes the place of the old one
//! while readers and writers go on.
//!
//! - `copy`: what goes into the new file, and that it is what lies on the disk.
//! - `bad_records`: where the walk goes on behind a bad record, and which one ends it.
//! - `swap`: the new files in the place of the old ones, whole over a crash at any moment.
//! - `run`: the order of both, and what stands in the way.

mod bad_records;
mod copy;
mod run;
mod swap;

pub use run::{Compacted, CompactionError, Pace};
pub use swap::finish_swap;
