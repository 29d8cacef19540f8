//! The master: agrees with its peers on which volumes exist, who holds them and which ids are
//! handed out, and tells clients where to write and read.

pub mod cluster_state;
pub mod key_range;
pub mod raft;
