//! Threads of Raft's own: its core, its calls and the port by which the others reach it run on
//! them, so that no upload and no report of 100,000 volumes delays a heartbeat.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// One for the core, one for what encodes and decodes large messages meanwhile.
const THREADS: usize = 2;

/// The threads; they end when this is dropped. What still runs on them is dropped with them.
#[derive(Debug)]
pub(super) struct RaftRuntime {
    /// Taken when this is dropped, and only then.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl RaftRuntime {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("raft").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to run something.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for RaftRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last clone of a node may go in a task of another runtime, which must not block.
            runtime.shutdown_background();
        }
    }
}
