//! How the masters agree: a replicated log on disk, elections, and the handle to both.
//!
//! [`Raft`] is all that the rest of the master sees. No type of the consensus library leaves this
//! directory, and what lies on disk or goes over the wire is in formats of our own ([`format`],
//! `rpc`), each with a version.

mod address_book;
mod bootstrap;
mod database;
mod database_file;
mod error;
mod format;
mod founding;
mod gathering;
mod hello;
mod log_store;
mod meeting;
mod membership;
mod network;
mod node;
mod routes;
mod rpc;
mod runtime;
mod state_machine;
mod storage_thread;
mod timing;
mod type_config;

#[cfg(test)]
mod tests;

pub use error::{MembershipError, ProposeError, RaftStartError};
pub use node::{Leadership, Raft, RaftConfig};
