//! The volume engine: synchronous, without a runtime, over [`crate::disk`].

pub mod append;
pub mod check;
mod checkpoint;
pub mod compaction;
pub mod counters;
pub mod damage;
pub mod expiry;
mod failure;
mod fill;
mod foreign_stamp;
pub mod index_file;
mod index_writer;
mod lay;
pub mod lost_tail;
pub mod metrics;
pub mod needle_map;
pub mod open;
pub mod recovery;
pub mod remains;
pub mod scan;
pub mod scrub;
pub mod sidecar;
pub mod stamp;
pub mod verified;
pub mod volume;
pub mod volume_files;
pub mod write;
