//! Listening, calling peers, background tasks, telemetry.

pub mod address;
pub mod cluster_identity;
pub mod cluster_port;
pub mod cluster_secret;
mod cluster_trust;
pub mod complaints;
pub mod connection_threads;
pub mod incoming;
pub mod metrics;
pub mod peer;
pub mod resolver;
pub mod route_table;
mod secure_transport;
pub mod server;
pub mod tasks;
pub mod telemetry;
mod write_limit;
