//! The client's side of a relayed upload: its body, bounded in length and slowness.
//!
//! The body is shared between the request that passes it on and the handler, which reads on what
//! is left of it when the upload is refused.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dulse_shared::{
    net::incoming::{self, Incoming, Pace},
    size::ByteSize,
    wire::{Code, Problem},
};
use futures_util::{Stream, stream};
use tokio::time::Instant;

/// What a multipart body adds to the file: boundaries, part headers, a few fields.
const MULTIPART_OVERHEAD_BYTES: u64 = 1 << 20;

/// A body that both sides hold. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ClientBody(Arc<Mutex<Incoming>>);

impl ClientBody {
    /// The body of a request.
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(Arc::new(Mutex::new(incoming)))
    }

    /// Reads on what is left, for a while, so that the client gets to reading the answer.
    pub(super) async fn discard(self) {
        let is_being_sent = self.with(|incoming| incoming.is_being_sent());
        if is_being_sent {
            incoming::read_on(self).await;
        }
    }

    /// Its chunks; the stream ends with an error if the client is too slow, sends too much or goes
    /// away. Which of these it was is left in `passage`.
    pub(super) fn chunks(
        &self,
        max_needle_bytes: u64,
        passage: Arc<Passage>,
    ) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        let begun = (self.clone(), Pace::default(), 0_u64);
        stream::try_unfold((begun, passage), move |(state, passage)| async move {
            let (mut body, mut pace, mut taken) = state;
            let problem = match pace.next_chunk(&mut body).await {
                Ok(None) => return Ok(None),
                Ok(Some(chunk)) => {
                    taken = taken.saturating_add(chunk.len() as u64);
                    if taken <= max_body_bytes(max_needle_bytes) {
                        passage.moved();
                        return Ok(Some((chunk, ((body, pace, taken), passage))));
                    }
                    too_large(max_needle_bytes)
                }
                Err(problem) => problem,
            };
            let error = std::io::Error::other(problem.clone());
            // Only the first fault ends the stream: nobody sets it before.
            let _ = passage.fault.set(problem);
            Err(error)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Incoming) -> T) -> T {
        let Self(body) = self;
        act(&mut body.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stream for ClientBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.with(|incoming| Pin::new(incoming).poll_next(context))
    }
}

/// How an upload fares on its way through: what the client did wrong, and when a chunk of it was
/// last passed on.
#[derive(Debug)]
pub(super) struct Passage {
    fault: OnceLock<Problem>,
    last_moved: Mutex<Instant>,
}

impl Passage {
    /// One that begins now.
    pub(super) fn begin() -> Arc<Self> {
        let last_moved = Mutex::new(Instant::now());
        Arc::new(Self { fault: OnceLock::new(), last_moved })
    }

    /// What the client did wrong.
    pub(super) fn fault(&self) -> Option<Problem> {
        self.fault.get().cloned()
    }

    /// Returns once nothing has moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let until = *self.last_moved.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn moved(&self) {
        *self.last_moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The longest body that may hold a needle.
pub(super) fn max_body_bytes(max_needle_bytes: u64) -> u64 {
    max_needle_bytes.saturating_add(MULTIPART_OVERHEAD_BYTES)
}

/// The answer to a body that no needle can hold, not even what is in a form.
pub(super) fn too_large(max_needle_bytes: u64) -> Problem {
    let message = format!(
        "a needle has at most {}, and no setting raises that: split the file and store its parts; \
         nothing was stored",
        ByteSize(max_needle_bytes)
    );
    Problem::new(Code::TooLarge, message)
}
