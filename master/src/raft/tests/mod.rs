//! Tests of the parts together: the storage by the library's own suite and against a model, the
//! formats byte by byte, one node over restarts, three nodes over the loopback network.

mod cluster;
mod golden;
mod reopen;
mod single;
mod suite;

use std::path::Path;

use dulse_shared::net::{address::ServerAddress, peer::PeerClient};

use super::{Raft, RaftConfig, RaftStartError};
use crate::cluster_state::{Command, Outcome};

fn address(port: u16) -> ServerAddress {
    ServerAddress { host: "127.0.0.1".to_owned(), port, cluster_port: port.saturating_add(10_000) }
}

fn config(dir: &Path) -> RaftConfig {
    RaftConfig {
        dir: dir.to_owned(),
        address: address(9333),
        peers: Vec::new(),
        client: PeerClient::new(None),
    }
}

fn grant(count: u64) -> Command {
    Command::GrantKeys { count, at_least: 0 }
}

fn granted(outcome: &Outcome) -> std::ops::Range<u64> {
    match outcome {
        Outcome::Keys { first, count } => *first..*first + *count,
        other => panic!("no keys: {other:?}"),
    }
}
