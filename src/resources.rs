//! What the process takes from the machine: threads, and file descriptors.

use dulse_shared::net::connection_threads::ConnectionThreads;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::exit::Exit;

/// What runs in the background is little, but one piece of it must not hold up the others.
const BACKGROUND_THREADS: usize = 2;

/// A runtime for everything but connections: heartbeats, Raft, what goes on in the background.
pub(crate) fn background_runtime() -> Result<Runtime, Exit> {
    Builder::new_multi_thread().worker_threads(BACKGROUND_THREADS).enable_all().build().map_err(
        |error| Exit::Failed(format!("cannot start {BACKGROUND_THREADS} threads: {error}")),
    )
}

/// A thread that serves connections for every core.
pub(crate) fn connection_threads() -> Result<ConnectionThreads, Exit> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ConnectionThreads::start(cores)
        .map_err(|error| Exit::Failed(format!("cannot start {cores} threads: {error}")))
}

/// Raises the limit of open files as far as it goes without privileges: every connection and
/// every volume takes some, and the usual 1,024 is too few for either.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files (ulimit -n): {error}");
    }
}
