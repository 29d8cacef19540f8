//! Tests of the parts together: the storage by the library's own suite and against a model, on a
//! real disk and on one that loses power; the formats byte by byte; one node over restarts; three
//! nodes over the loopback network.

mod cluster;
mod golden;
mod meeting;
mod power_cuts;
mod reopen;
mod simulated_file;
mod single;
mod storage_model;
mod storage_thread_cuts;
mod suite;

use std::{
    net::TcpListener,
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use dulse_shared::{
    clock::Clock,
    net::{address::ServerAddress, peer::PeerClient},
};

use super::{Raft, RaftConfig};
use crate::cluster_state::{Command, Outcome};

fn address(port: u16) -> ServerAddress {
    ServerAddress { host: "127.0.0.1".to_owned(), port, cluster_port: port.saturating_add(10_000) }
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it
/// stays free while its master is down.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes that run side by side start far from each other.
        let start = u16::try_from(std::process::id() % 200).unwrap() * 100;
        let port = 10_000 + (start + n) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// No step of these tests takes longer on a machine that is not broken.
const LIMIT: Duration = Duration::from_secs(20);

/// What `check` finds, once it finds something.
async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::default();
    let begin = clock.boot();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(clock.since(begin) < LIMIT, "there was not {what} in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn config(dir: &Path) -> RaftConfig {
    RaftConfig {
        dir: dir.to_owned(),
        address: address(9333),
        peers: Vec::new(),
        client: PeerClient::new(None),
        beside: None,
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
