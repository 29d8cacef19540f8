//! Writing to a volume: a queue, and one thread that commits what waits in it.
//!
//! While one batch is synced the next gathers in the queue: that is the group commit. Clients that
//! were just answered tend to write again at once, so the thread waits for as many as it saw last,
//! but never longer than the last commit took, and not at all for a single one: see `Pace`. The
//! thread lives while there is work and ends after a while without. A write that was queued finishes
//! whatever becomes of the client that sent it.

mod waiting;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::{Cookie, NeedleKey},
};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    engine::{
        volume::Volume,
        write::{Write, WriteError, Written},
    },
    format::NewNeedle,
    needle_data::NeedleData,
    reader,
};
use waiting::{BATCH_WRITES, Waiting};

/// A sync of this many bytes takes its time for them: sharing it with more writes saves little.
const WELL_USED_BYTES: u64 = 1 << 20;
/// Writes that may wait for one volume. Their bytes are bounded where they were received.
const MAX_QUEUED: usize = 16 << 10;
/// However slow a sync is, writes are not held back longer than this to share one.
const MAX_PATIENCE: Duration = Duration::from_millis(2);
/// A thread without work ends after this long, having brought the volume's files to rest.
const IDLE: Duration = Duration::from_secs(10);
/// A restart reads what was written after the last checkpoint: at most about this much.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// And a checkpoint of a volume that is written to is never older than this.
const CHECKPOINT_AGE: Duration = Duration::from_secs(10);

/// What a put did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutOutcome {
    /// The needle is stored, durably.
    Stored,
    /// The same needle was stored already; nothing was written.
    Unchanged,
}

/// What waits to be written to a volume.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: Waiting,
    /// While the thread sleeps: how many writes shall wake it.
    wakes_at: Option<usize>,
    has_thread: bool,
    is_closed: bool,
}

type Outcome = Result<Written, WriteError>;

#[derive(Debug)]
struct Queued {
    write: Write,
    client: Client,
    at: BootTime,
}

/// What a client is told, and how.
type Answer = (oneshot::Sender<Outcome>, Outcome);

/// Who waits for a write, and on which runtime.
#[derive(Debug)]
struct Client {
    answer: oneshot::Sender<Outcome>,
    runtime: Handle,
}

/// Stores a needle, or finds that it is stored already. `is_time_given` says that its time of
/// modification came from the uploader and so counts for whether it is the same.
pub async fn put(
    volume: &Arc<Volume>,
    needle: NewNeedle<NeedleData>,
    is_time_given: bool,
) -> Result<PutOutcome, WriteError> {
    if reader::is_unchanged(volume, &needle, is_time_given).await {
        return Ok(PutOutcome::Unchanged);
    }
    needle.body_size()?;
    volume.refuses_puts()?;
    enqueue(volume, Write::Put(needle)).await?;
    Ok(PutOutcome::Stored)
}

/// Deletes a needle; how many bytes its body took, never 0.
pub async fn delete(
    volume: &Arc<Volume>,
    key: NeedleKey,
    cookie: Cookie,
) -> Result<u64, WriteError> {
    match enqueue(volume, Write::Delete { key, cookie }).await? {
        Written::Deleted { body_bytes } => Ok(body_bytes),
        Written::Stored => Err(WriteError::Unknown(volume.id())),
    }
}

async fn enqueue(volume: &Arc<Volume>, write: Write) -> Result<Written, WriteError> {
    let (answer, answered) = oneshot::channel();
    let client = Client { answer, runtime: Handle::current() };
    let at = volume.clock().boot();
    volume.queue.push(volume, Queued { write, client, at })?;
    // The thread answers all it took; only if it panicked is the outcome unknown.
    answered.await.unwrap_or(Err(WriteError::Unknown(volume.id())))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, volume: &Arc<Volume>, queued: Queued) -> Result<(), WriteError> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_QUEUED || state.is_closed {
            return Err(WriteError::Overloaded(volume.id()));
        }
        if !state.has_thread {
            spawn_thread(volume.clone()).map_err(|_| WriteError::Overloaded(volume.id()))?;
            state.has_thread = true;
        }
        state.waiting.push(queued);
        let is_due = state.wakes_at.is_some_and(|wakes_at| state.waiting.len() >= wakes_at);
        drop(state);
        if is_due {
            self.wake.notify_all();
        }
        Ok(())
    }

    /// What comes next for the thread; waits for it.
    fn next(&self, pace: &Pace) -> Next {
        // One sleep for all that are expected, so that the first of them does not wake it alone.
        let mut state = self.sleep(self.lock(), pace.expected, pace.patience());
        if state.waiting.is_empty() {
            state = self.sleep(state, 1, IDLE);
        }
        if state.waiting.is_empty() {
            return if state.is_closed { Next::End } else { Next::Rest };
        }
        Next::Batch(state.waiting.take_batch())
    }

    /// Sleeps until `wanted` writes wait, but no longer than `limit`.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, QueueState>,
        wanted: usize,
        limit: Duration,
    ) -> MutexGuard<'a, QueueState> {
        state.wakes_at = Some(wanted);
        let is_early = |state: &mut QueueState| state.waiting.len() < wanted && !state.is_closed;
        let slept = self.wake.wait_timeout_while(state, limit, is_early);
        let (mut state, _) = slept.unwrap_or_else(PoisonError::into_inner);
        state.wakes_at = None;
        state
    }

    fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The thread ends, unless something was queued meanwhile.
    fn try_end(&self) -> bool {
        let mut state = self.lock();
        let may_end = state.waiting.is_empty();
        if may_end {
            state.has_thread = false;
            self.wake.notify_all();
        }
        may_end
    }

    /// Takes nothing more, and waits until all that was queued is answered.
    fn drain(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.wake.notify_all();
        while state.has_thread {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// How many writers there seem to be, and how long it pays to wait for them.
///
/// Without it two halves of the clients take turns, each half waiting for the other's sync: twice
/// the syncs for the same writes.
#[derive(Debug, Default)]
struct Pace {
    /// Writes of the last batch and those that waited when it was answered; 0: wait for none.
    expected: usize,
    /// What the last commit took.
    commit: Duration,
}

impl Pace {
    /// After a commit of `bytes` that took `commit`, with `seen` writers about.
    fn after(seen: usize, bytes: u64, commit: Duration) -> Self {
        // A batch that has as much as it can take, or uses its sync well, has nothing to wait for.
        let expected = if bytes >= WELL_USED_BYTES { 0 } else { seen.min(BATCH_WRITES) };
        Self { expected, commit }
    }

    fn patience(&self) -> Duration {
        self.commit.min(MAX_PATIENCE)
    }
}

enum Next {
    Batch(Vec<Queued>),
    /// Nothing came for a while.
    Rest,
    /// Nothing will come.
    End,
}

fn spawn_thread(volume: Arc<Volume>) -> io::Result<()> {
    let name = format!("volume-{}", volume.id());
    std::thread::Builder::new().name(name).spawn(move || run(&volume))?;
    Ok(())
}

/// The life of a volume's writer thread.
fn run(volume: &Volume) {
    // The thread counts as gone even if it panics: its clients learn that the outcome is unknown,
    // and nobody waits for it.
    let _gone = SignOff(volume);
    let mut pace = Pace::default();
    loop {
        match volume.queue.next(&pace) {
            Next::Batch(batch) => {
                let (len, start) = (batch.len(), volume.clock().boot());
                observe_waits(volume, &batch, start);
                let bytes: u64 = batch.iter().map(|queued| queued.write.weight()).sum();
                commit(volume, batch);
                let commit = volume.clock().since(start);
                pace = Pace::after(len + volume.queue.len(), bytes, commit);
                checkpoint_if_due(volume);
            }
            Next::Rest | Next::End => {
                rest(volume);
                if volume.queue.try_end() {
                    return;
                }
            }
        }
    }
}

fn observe_waits(volume: &Volume, batch: &[Queued], taken_at: BootTime) {
    let waits = &volume.metrics().queue_wait_seconds;
    for queued in batch {
        waits.observe(taken_at.since(queued.at).as_secs_f64());
    }
}

struct SignOff<'a>(&'a Volume);

impl Drop for SignOff<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.mark_failed("the writer's thread", &"it panicked: see the log");
            let mut state = self.0.queue.lock();
            // What waits is dropped, which tells its clients that the outcome is unknown.
            state.waiting.clear();
            state.is_closed = true;
            state.has_thread = false;
            self.0.queue.wake.notify_all();
        }
    }
}

fn commit(volume: &Volume, batch: Vec<Queued>) {
    let (writes, clients): (Vec<Write>, Vec<Client>) =
        batch.into_iter().map(|queued| (queued.write, queued.client)).unzip();
    answer(clients.into_iter().zip(volume.commit(writes)));
}

/// Answers the clients of a batch, all those of one runtime with one message to it: waking them
/// from here one by one would cost a system call each.
fn answer(outcomes: impl Iterator<Item = (Client, Outcome)>) {
    let mut by_runtime: Vec<(Handle, Vec<Answer>)> = Vec::new();
    for (Client { answer, runtime }, outcome) in outcomes {
        let known = by_runtime.iter_mut().find(|(other, _)| other.id() == runtime.id());
        match known {
            Some((_, answers)) => answers.push((answer, outcome)),
            None => by_runtime.push((runtime, vec![(answer, outcome)])),
        }
    }
    for (runtime, answers) in by_runtime {
        // It waits for nothing, so nobody has to wait for it.
        drop(runtime.spawn(async move {
            for (answer, outcome) in answers {
                // A client that went away does not hear of it; the write stands.
                drop(answer.send(outcome));
            }
        }));
    }
}

fn checkpoint_if_due(volume: &Volume) {
    let (bytes, since) = volume.uncheckpointed();
    if bytes >= CHECKPOINT_BYTES || volume.clock().since(since) >= CHECKPOINT_AGE {
        checkpoint(volume);
    }
}

fn checkpoint(volume: &Volume) {
    if let Err(error) = volume.checkpoint() {
        tracing::warn!(volume = %volume.id(), "cannot write a checkpoint: {error}; the next start reads more of the volume");
    }
}

/// Brings the volume's files to rest.
fn rest(volume: &Volume) {
    if let Err(error) = volume.rest() {
        tracing::warn!(volume = %volume.id(), "cannot bring the files to rest: {error}; the next start does");
    }
}

/// Takes no more writes, finishes those that wait, and brings the files to rest.
pub fn close(volume: &Volume) {
    volume.queue.drain();
    rest(volume);
}
