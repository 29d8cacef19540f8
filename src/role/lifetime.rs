//! A server process from start to end: start, serve until a signal or a failure, stop accepting,
//! drain, close.
//!
//! The first SIGTERM or SIGINT begins an orderly stop, the second ends the process at once. A
//! task that the process cannot do without ends it as well, in the same order, with exit code 1.

use std::{future::Future, time::Duration};

use dulse_shared::net::tasks::Tasks;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    exit::Exit,
    resources::{background_runtime, connection_threads, raise_open_files},
};

/// Requests under way when the process stops have this long to finish.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// What was begun before a start failed ends within this time.
const START_DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// What still blocks a thread after everything was closed is left behind.
const LEFTOVER_LIMIT: Duration = Duration::from_millis(500);

/// What was started, and has to be closed.
pub(crate) trait Running {
    /// What others should know before anything is stopped, in a fraction of a second.
    fn leave(&self) -> impl Future<Output = ()>;

    /// Closes it, after its tasks have ended.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Runs what `start` starts until the process is told to stop.
pub(crate) fn run<R: Running>(
    start: impl AsyncFnOnce(&Tasks) -> Result<R, Exit>,
) -> Result<(), Exit> {
    raise_open_files();
    let runtime = background_runtime()?;
    let connections = connection_threads()?;
    let tasks = Tasks::placed(connections.clone(), runtime.handle().clone());
    let outcome = runtime.block_on(live(&tasks, start));
    connections.end();
    runtime.shutdown_timeout(LEFTOVER_LIMIT);
    outcome
}

async fn live<R: Running>(
    tasks: &Tasks,
    start: impl AsyncFnOnce(&Tasks) -> Result<R, Exit>,
) -> Result<(), Exit> {
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        started = start(tasks) => match started {
            Ok(running) => running,
            Err(exit) => {
                // One role may serve already when the other one cannot.
                tasks.stop();
                tasks.drain(START_DRAIN_LIMIT).await;
                return Err(exit);
            }
        },
        _ = signals.next() => return Ok(()),
        () = tasks.stopped() => return outcome(tasks),
    };
    tokio::select! {
        code = signals.next() => tracing::info!(signal = code, "stopping; again ends it at once"),
        () = tasks.stopped() => {}
    }
    tokio::select! {
        () = running.leave() => {}
        code = signals.next() => std::process::exit(128 + code),
    }
    tasks.stop();
    tokio::select! {
        () = wind_down(running, tasks) => outcome(tasks),
        code = signals.next() => std::process::exit(128 + code),
    }
}

async fn wind_down(running: impl Running, tasks: &Tasks) {
    if !tasks.drain(DRAIN_LIMIT).await {
        tracing::warn!("requests were still under way after {DRAIN_LIMIT:?}; they are cut off");
    }
    running.stop().await;
}

fn outcome(tasks: &Tasks) -> Result<(), Exit> {
    match tasks.failure() {
        Some(reason) => Err(Exit::Failed(reason.to_owned())),
        None => Ok(()),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Exit> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Exit::Failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}
