//! The thread that owns the database and writes to it.
//!
//! Everything to be written goes through one queue, so that votes and entries reach the disk in
//! the order in which they were decided. What waits in the queue when a commit begins becomes
//! one transaction and one flush; nothing is answered before that flush. The thread ends, and
//! the file is let go, on [`Storage::close`] or when nobody can send any more.

use std::{io, thread};

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::{
    database::{Change, Database, DatabaseError},
    format::SnapshotJson,
    type_config::{Entry, LogId, SnapshotMeta, TypeConfig, Vote},
};
use crate::cluster_state::ClusterState;

/// Writes that may wait. Raft itself waits for most of its writes, so this is never near full;
/// past it, appending waits too.
const QUEUE: usize = 1024;
/// Writes that share a transaction: enough to keep up under load, few enough that the first is
/// not kept waiting while thousands are encoded.
const MAX_BATCH: usize = 256;

type Snapshot = (SnapshotMeta, ClusterState);

/// Sends to the thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Storage {
    queue: mpsc::Sender<Request>,
}

enum Request {
    Write(Change, Done),
    ReadSnapshot(oneshot::Sender<io::Result<Option<Snapshot>>>),
    Close(oneshot::Sender<()>),
}

/// Who is told that a write is durable, or has failed.
enum Done {
    /// Nobody: losing it costs nothing but work, and a failure shows with the next write.
    Nobody,
    Waiting(oneshot::Sender<io::Result<()>>),
    Raft(IOFlushed<TypeConfig>),
}

impl Storage {
    /// Hands `database` to a new thread.
    pub(super) fn spawn(database: Database) -> io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("raft-storage".to_owned())
            .spawn(move || Worker::new(database).run(requests))?;
        Ok(Self { queue })
    }

    /// Appends entries; `flushed` hears when they are durable.
    pub(super) async fn append(
        &self,
        entries: Vec<Entry>,
        flushed: IOFlushed<TypeConfig>,
    ) -> io::Result<()> {
        self.send(Request::Write(Change::Append(entries), Done::Raft(flushed))).await
    }

    /// Stores the vote; durable on return.
    pub(super) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.write(Change::Vote(vote)).await
    }

    /// Removes the entries after `last`; durable on return.
    pub(super) async fn truncate(&self, last: Option<u64>) -> io::Result<()> {
        self.write(Change::Truncate(last)).await
    }

    /// Removes the entries up to `log_id`, some time.
    pub(super) async fn purge(&self, log_id: LogId) -> io::Result<()> {
        self.send(Request::Write(Change::Purge(log_id), Done::Nobody)).await
    }

    /// Notes how far entries are committed. It is written along with the next other write: a
    /// flush of its own would double the price of every command, and what it says is found out
    /// again from the other masters.
    pub(super) async fn note_committed(&self, log_id: Option<LogId>) -> io::Result<()> {
        self.send(Request::Write(Change::Committed(log_id), Done::Nobody)).await
    }

    /// Replaces the snapshot; durable on return.
    pub(super) async fn save_snapshot(&self, snapshot: SnapshotJson) -> io::Result<()> {
        self.write(Change::Snapshot(Box::new(snapshot))).await
    }

    /// Reads the snapshot.
    pub(super) async fn snapshot(&self) -> io::Result<Option<Snapshot>> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::ReadSnapshot(answer)).await?;
        answered.await.map_err(|_| stopped())?
    }

    /// Writes what is left and closes the database; later writes fail.
    pub(super) async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        if self.send(Request::Close(closed)).await.is_ok() {
            // An error means that the thread is gone, and with it the database.
            let _ = wait.await;
        }
    }

    async fn write(&self, change: Change) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Request::Write(change, Done::Waiting(done))).await?;
        wait.await.map_err(|_| stopped())?
    }

    async fn send(&self, request: Request) -> io::Result<()> {
        self.queue.send(request).await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the storage thread has ended")
}

struct Worker {
    database: Database,
    /// The latest committed position, not yet written.
    committed: Option<Change>,
    changes: Vec<Change>,
    done: Vec<Done>,
}

impl Worker {
    fn new(database: Database) -> Self {
        Self { database, committed: None, changes: Vec::new(), done: Vec::new() }
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut next = Some(first);
            while let Some(request) = next {
                next = match request {
                    Request::Write(change, done) => self.collect(change, done, &mut requests),
                    Request::ReadSnapshot(answer) => {
                        self.flush();
                        // The asker may have gone.
                        let _ = answer.send(self.read_snapshot());
                        None
                    }
                    Request::Close(closed) => return self.close(requests, closed),
                };
            }
            self.flush();
        }
        self.write_committed();
    }

    /// Takes in a write; the request to look at next, unless the batch is full or none waits.
    fn collect(
        &mut self,
        change: Change,
        done: Done,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        match change {
            Change::Committed(_) => self.committed = Some(change),
            _ => {
                self.changes.push(change);
                self.done.push(done);
            }
        }
        if self.changes.len() < MAX_BATCH { requests.try_recv().ok() } else { None }
    }

    /// Commits what was collected, then answers.
    fn flush(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        self.changes.extend(self.committed.take());
        let committed = self.database.commit(&self.changes);
        if let Err(error) = &committed {
            tracing::error!("cannot write {}: {error}", self.database.path().display());
        }
        self.changes.clear();
        for done in self.done.drain(..) {
            done.tell(as_io(&committed));
        }
    }

    fn write_committed(&mut self) {
        if let Some(change) = self.committed.take()
            && let Err(error) = self.database.commit(&[change])
        {
            tracing::error!("cannot write {}: {error}", self.database.path().display());
        }
    }

    fn read_snapshot(&self) -> io::Result<Option<Snapshot>> {
        let path = self.database.path().display();
        self.database
            .snapshot()
            .map_err(|error| io::Error::other(format!("cannot read {path}: {error}")))
    }

    fn close(mut self, requests: mpsc::Receiver<Request>, closed: oneshot::Sender<()>) {
        drop(requests);
        self.flush();
        self.write_committed();
        drop(self);
        // The asker may have gone.
        let _ = closed.send(());
    }
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Waiting(waiting) => {
                // The asker may have gone.
                let _ = waiting.send(result);
            }
            Self::Raft(flushed) => flushed.io_completed(result),
        }
    }
}

fn as_io(committed: &Result<(), DatabaseError>) -> io::Result<()> {
    match committed {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
