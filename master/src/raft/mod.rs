//! How the masters agree: a replicated log on disk, elections, and the handle to both.
//!
//! [`Raft`] is all that the rest of the master sees. No type of the consensus library leaves this
//! directory, and what lies on disk or goes over the wire is in formats of our own ([`format`],
//! `rpc`), each with a version.

mod bootstrap;
mod database;
mod error;
mod format;
mod log_store;
mod network;
mod node;
mod routes;
mod rpc;
mod state_machine;
mod storage_thread;
mod type_config;

#[cfg(test)]
mod tests;

pub use error::{ProposeError, RaftStartError};
pub use node::{Leadership, Raft, RaftConfig};
