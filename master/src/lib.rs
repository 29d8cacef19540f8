//! The master: agrees with its peers on which volumes exist, who holds them and which ids are
//! handed out, and tells clients where to write and read.

mod assign;
mod cluster;
mod cluster_log;
pub mod cluster_state;
mod config;
mod contradiction;
mod data_dir;
mod error;
mod event_board;
mod events;
mod executor;
mod gauges;
mod health;
mod heartbeat;
mod http;
pub mod key_range;
mod leader;
mod map_board;
mod placement;
pub mod plan;
pub mod raft;
mod rebuild_budget;
mod recovery;
mod server;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
mod topology;
mod trouble;
mod volume_layout;
mod volume_map;
mod watch;

pub use config::{MasterConfig, VolumesBeside};
pub use error::MasterStartError;
pub use server::Master;
