//! The rig for chaos: real servers in network namespaces, faults by name, clients that write down
//! what they were answered, and checks of that. [`chaos`] has the runs, the other files are the rig.
//!
//! Long runs of one kind of fault, with figures, are the scripts `failover.sh` and `partitions.sh`;
//! this is the part of every change's tests, and the library that further chaos grows on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod body;
mod chaos;
mod checks;
mod client;
mod cluster;
mod fault;
mod history;
mod http;
mod nemesis;
mod network;
#[path = "../it/process.rs"]
mod process;
mod require;
