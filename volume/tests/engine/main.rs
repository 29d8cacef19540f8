//! The volume engine on real files: what is acknowledged is read back, whatever happened between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are free to")]

mod admission;
mod bad_records;
mod compaction;
mod complaints;
mod damage;
mod deletion;
mod expiry;
mod export;
mod faults;
mod foreign_stamps;
mod harness;
mod large;
mod last_offset;
mod lost_tail;
mod maintenance;
mod missing;
mod model;
mod offline;
mod old_formats;
mod planted;
mod recovery;
mod reference;
mod scrub;
mod searched;
mod sequence;
mod steps;
mod store;
mod troubled_disk;
mod twins;
mod unkept_tail;
