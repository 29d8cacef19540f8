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
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Threads that may wait for a disk on behalf of all connection threads; more work waits for one.
const MAX_BLOCKING_THREADS: usize = 512;
/// And on behalf of each, however many there are.
const MIN_BLOCKING_THREADS: usize = 8;
/// How long a thread that is told to end waits for what still blocks on its behalf.
const LEFTOVER_LIMIT: Duration = Duration::from_millis(500);

/// The threads. They end with [`ConnectionThreads::end`], or when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ConnectionThreads {
    all: Arc<All>,
}

#[derive(Debug)]
struct All {
    threads: Vec<ConnectionThread>,
    running: Mutex<Vec<JoinHandle<()>>>,
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
        let mut all =
            All { threads: Vec::new(), running: Mutex::default(), ending: ending.clone() };
        let count = count.max(1);
        for number in 0..count {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads((MAX_BLOCKING_THREADS / count).max(MIN_BLOCKING_THREADS))
                .build()?;
            let connections = Arc::new(AtomicUsize::new(0));
            all.threads.push(ConnectionThread { runtime: runtime.handle().clone(), connections });
            let ending = ending.clone();
            let name = format!("connections-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || run(runtime, &ending))?;
            all.running.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Self { all: Arc::new(all) })
    }

    /// Ends the threads and waits for them; connections that are left are cut off.
    pub fn end(&self) {
        self.all.ending.cancel();
        let running =
            std::mem::take(&mut *self.all.running.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in running {
            if thread.join().is_err() {
                tracing::error!("a connection thread panicked");
            }
        }
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

    #[test]
    fn the_threads_end_although_a_connection_hangs() {
        let threads = ConnectionThreads::start(2).unwrap();
        let (tracker, kept) = (TaskTracker::new(), Arc::new(()));
        for _ in 0..2 {
            let kept = (threads.clone(), kept.clone());
            threads.spawn(&tracker, async move {
                std::future::pending::<()>().await;
                drop(kept);
            });
        }
        assert_eq!(Arc::strong_count(&kept), 3);
        threads.end();
        assert_eq!(Arc::strong_count(&kept), 1, "what the connections held is given back");
    }
}
