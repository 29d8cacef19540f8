//! One binary for all tests that run the real program.
//!
//! Each test starts its own servers on its own ports in its own directory through [`harness`],
//! and polls with deadlines. What one crate can prove by itself is tested there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_requests;
mod bad_starts;
mod cluster_commands;
mod cluster_port;
mod cluster_secret;
mod commands;
mod contradictions;
mod deaths;
mod dir_limits;
mod durability;
mod full_volumes;
mod golden;
mod golden_expiring;
mod harness;
mod http;
mod large;
mod lost_master;
mod master_names;
mod masters;
mod missing_dirs;
mod needles;
mod offline;
mod process;
mod readme;
mod recovery;
mod scrubs;
mod start_stop;
mod watching;
