//! Listening, calling peers, background tasks, telemetry.

pub mod address;
pub mod connection_threads;
pub mod incoming;
pub mod metrics;
pub mod peer;
pub mod server;
pub mod tasks;
pub mod telemetry;
mod write_limit;
