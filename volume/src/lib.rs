//! The volume server: keeps needles in append-only volume files and answers for them.
//!
//! - [`mod@format`]: the files as bytes, pure.
//! - [`disk`]: the only place that touches files.
//! - [`engine`]: one volume: recovery, appends, lookups.
//! - [`replica`]: how the replicas of a volume keep the same needles, pure.
//! - [`writer`], [`reader`]: a volume from the runtime's side.
//! - [`http`]: the public port.
//! - [`maintenance`]: what is done to volumes in the background.
//! - [`offline`]: a directory that no server has open.

pub mod admin;
pub mod clock_watch;
pub mod config;
pub mod disk;
pub mod engine;
pub mod format;
mod gauges;
pub mod heartbeat;
pub mod http;
pub mod large_needle;
pub mod maintenance;
mod masters;
pub mod needle_data;
pub mod offline;
pub mod purge;
mod read_only;
pub mod reader;
pub mod replica;
pub mod server;
pub mod store;
mod unserved;
mod watch;
pub mod writer;

pub use config::{
    DirConfig, DirLimits, VolumeServerConfig, VolumeSizeLimitError, check_volume_size_limit,
};
pub use server::{VolumeServer, VolumeStartError};
