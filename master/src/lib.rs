//! The master: agrees with its peers on which volumes exist, who holds them and which ids are
//! handed out, and tells clients where to write and read.

mod assign;
mod cluster;
mod cluster_log;
pub mod cluster_state;
mod config;
mod contradiction;
mod executor;
mod gauges;
mod health;
mod heartbeat;
mod http;
mod placement;
mod plan;
#[cfg(test)]
mod testing;
mod topology;
mod volume_layout;

pub use config::MasterConfig;
