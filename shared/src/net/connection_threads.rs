//! The threads that serve connections: each has a runtime of its own, and a connection stays on
//! the thread it was given to.
//!
//! A request then never moves between processors while it is answered, no thread looks for work
//! that another one has, and what is woken on a thread by that thread costs no system call. A
//! connection goes to the thread with the fewest; those that come and go even out. What may wait
//! for a disk does not run here but on a blocking pool.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Threads that may wait for a disk on behalf of one connection thread; more work waits for one.
const MAX_BLOCKING_THREADS: usize = 64;
/// How long a thread that is told to end waits for what still blocks on its behalf.
const LEFTOVER_LIMIT: Duration = Duration::from_millis(500);

/// The threads. They end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ConnectionThreads {
    all: Arc<All>,
}

#[derive(Debug)]
struct All {
    threads: Vec<ConnectionThread>,
    ending: CancellationToken,
}

#[derive(Debug)]
struct ConnectionThread {
    runtime: Handle,
    /// Connections that it serves now.
    connections: Arc<AtomicUsize>,
}

impl Drop for All {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl ConnectionThreads {
    /// Starts `count` threads, at least one.
    pub fn start(count: usize) -> io::Result<Self> {
        let ending = CancellationToken::new();
        // Dropped on the way out if a thread cannot be started, which ends those that were.
        let mut all = All { threads: Vec::new(), ending: ending.clone() };
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(MAX_BLOCKING_THREADS)
                .build()?;
            let connections = Arc::new(AtomicUsize::new(0));
            all.threads.push(ConnectionThread { runtime: runtime.handle().clone(), connections });
            let ending = ending.clone();
            let name = format!("connections-{number}");
            thread::Builder::new().name(name).spawn(move || run(runtime, &ending))?;
        }
        Ok(Self { all: Arc::new(all) })
    }

    /// Serves a connection on the thread that has the fewest.
    pub(super) fn spawn(
        &self,
        tracker: &TaskTracker,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let load = |thread: &&ConnectionThread| thread.connections.load(Ordering::Relaxed);
        let Some(thread) = self.all.threads.iter().min_by_key(load) else { return };
        let counted = Counted::new(&thread.connections);
        let serve = async move {
            connection.await;
            drop(counted);
        };
        #[expect(clippy::let_underscore_future, reason = "the tracker waits for it")]
        let _ = tracker.spawn_on(serve, &thread.runtime);
    }
}

fn run(runtime: Runtime, ending: &CancellationToken) {
    runtime.block_on(ending.cancelled());
    runtime.shutdown_timeout(LEFTOVER_LIMIT);
}

/// One connection more until it is dropped, however the connection ends.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, thread::ThreadId};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_evenly_and_a_panic_gives_its_place_back() {
        let threads = ConnectionThreads::start(3).unwrap();
        let (tracker, seen) = (TaskTracker::new(), Arc::new(Mutex::new(Vec::new())));
        threads.spawn(&tracker, async { panic!("a careless handler") });
        while threads.all.threads.iter().any(|t| t.connections.load(Ordering::Relaxed) > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let gate = Arc::new(Semaphore::new(0));
        for _ in 0..9 {
            let (seen, gate) = (seen.clone(), gate.clone());
            threads.spawn(&tracker, async move {
                seen.lock().unwrap().push(thread::current().id());
                drop(gate.acquire().await);
            });
        }
        gate.add_permits(9);
        tracker.close();
        tracker.wait().await;
        let seen: Vec<ThreadId> = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 9);
        for id in &seen {
            assert_eq!(seen.iter().filter(|other| *other == id).count(), 3, "{seen:?}");
        }
    }
}
