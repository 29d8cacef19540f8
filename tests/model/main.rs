//! The replication protocol, checked: the product's own code, driven through every order of
//! events within bounds.
//!
//! `cases` shows that no order breaks a promise; `weakened` that each rule is needed, because
//! without it one does. `file` checks one replica's file with its list of aborted records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cases;
mod explore;
mod file;
mod first_config;
mod intern;
mod monitor;
mod scenario;
mod server;
mod tables;
mod weakened;
mod world;
