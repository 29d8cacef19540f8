//! Background tasks: each has a name, all are waited for when the process stops, and one that
//! must not die takes the process down in an orderly way.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::connection_threads::ConnectionThreads;

/// The tasks of a process. Cheap to clone; all clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stopping: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<OnceLock<String>>,
    places: Option<Places>,
}

/// Where tasks run that would otherwise run where they are spawned.
#[derive(Clone, Debug)]
enum Places {
    /// Connections on their threads, the background on a runtime.
    Spread { connections: ConnectionThreads, background: Handle },
    /// All on one runtime.
    One(Handle),
}

impl Tasks {
    /// An empty set, whose connections are served where they are accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set, whose connections are served by `connections`, and what is not for a single
    /// request by the runtime `background`.
    pub fn placed(connections: ConnectionThreads, background: Handle) -> Self {
        Self { places: Some(Places::Spread { connections, background }), ..Self::default() }
    }

    /// The same set, to be stopped and waited for with it; but all that is spawned through what
    /// this returns runs on `runtime`, connections included.
    pub fn on(&self, runtime: Handle) -> Self {
        Self { places: Some(Places::One(runtime)), ..self.clone() }
    }

    /// Runs `task`. A panic in it is logged, then stops the process through [`Tasks::fail`]:
    /// every task here is one that the process cannot do without.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        let guarded = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tasks.fail(format!("the task {name} panicked"));
            }
        };
        match &self.places {
            Some(Places::One(runtime)) => self.track_on(guarded, runtime),
            Some(Places::Spread { .. }) | None => self.spawn_contained(guarded),
        }
    }

    /// Runs `task`, which began with a request and goes on without it; its panic concerns nobody
    /// else.
    pub fn spawn_in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.places {
            Some(Places::Spread { background, .. } | Places::One(background)) => {
                self.track_on(task, background);
            }
            None => self.spawn_contained(task),
        }
    }

    /// Does `work` where the background is, away from the threads of who waits for it. It ends when
    /// nobody waits any more, and its panic is the waiter's.
    pub async fn done_in_background<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (Some(Places::Spread { background, .. }) | Some(Places::One(background))) =
            &self.places
        else {
            return work.await;
        };
        match AbortOnDropHandle::new(self.tracker.spawn_on(work, background)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down, and with it whoever waits.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs `task`, whose panic concerns nobody else, where it is spawned: a single request.
    pub fn spawn_contained(&self, task: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::let_underscore_future, reason = "the tracker waits for it")]
        let _ = self.tracker.spawn(task);
    }

    /// Serves a connection, whose panic concerns nobody else.
    pub(super) fn spawn_connection(&self, connection: impl Future<Output = ()> + Send + 'static) {
        match &self.places {
            Some(Places::Spread { connections, .. }) => {
                connections.spawn(&self.tracker, connection);
            }
            Some(Places::One(runtime)) => self.track_on(connection, runtime),
            None => self.spawn_contained(connection),
        }
    }

    fn track_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        #[expect(clippy::let_underscore_future, reason = "the tracker waits for it")]
        let _ = self.tracker.spawn_on(task, runtime);
    }

    /// Asks everything to stop because the process cannot go on; the first reason is kept.
    pub fn fail(&self, reason: String) {
        tracing::error!("{reason}");
        // A later reason is a consequence of the first.
        let _ = self.failure.set(reason);
        self.stopping.cancel();
    }

    /// Why the process had to stop, if it did not stop because it was asked to.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Asks everything to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Resolves once [`Tasks::stop`] or [`Tasks::fail`] was called.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    /// A token that is cancelled when [`Tasks::stop`] or [`Tasks::fail`] is called.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.child_token()
    }

    /// Whether [`Tasks::stop`] or [`Tasks::fail`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits for all tasks to end; `false` if some did not within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_stops_the_process_with_its_name() {
        let tasks = Tasks::new();
        tasks.spawn("careless", async { panic!("boom") });
        tasks.stopped().await;
        assert_eq!(tasks.failure(), Some("the task careless panicked"));
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn stopping_reaches_every_task_and_is_no_failure() {
        let tasks = Tasks::new();
        let inner = tasks.clone();
        tasks.spawn("patient", async move { inner.stopped().await });
        tasks.stop();
        assert!(tasks.drain(Duration::from_secs(5)).await);
        assert_eq!(tasks.failure(), None);
    }
}
