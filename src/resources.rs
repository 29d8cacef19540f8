//! What the process takes from the machine: threads, and file descriptors.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::exit::Exit;

/// A runtime with a worker for every core.
pub(crate) fn server_runtime() -> Result<Runtime, Exit> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores)
        .enable_all()
        .build()
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
