//! The body of a form on its way into the parser, which keeps what it cannot hand out yet.
//!
//! Handed out is the data of parts only. What comes before the first boundary, boundaries and the
//! headers of parts stay with the parser until they are whole, so they are bounded here: the
//! parser gets no more while it holds 64 KiB, and a form that it cannot go on with then is
//! refused. With the piece that comes last it holds 128 KiB at most.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use dulse_shared::net::incoming::Incoming;
use futures_util::Stream;

/// What the parser may hold and still get more, and the longest piece that it gets: far more than
/// headers take.
const MAX_HELD_BYTES: usize = 64 << 10;
/// How often the parser may come back without having handed out anything. It looks at what it
/// holds each time, but in some states only after it has asked for more, twice.
const MAX_FRUITLESS: u32 = 4;

/// The parser holds as much as it may and can make nothing of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "what comes before its first boundary, boundaries and the headers of its parts are more than \
     {} KiB: is the boundary that of its Content-Type?", MAX_HELD_BYTES >> 10
)]
pub(super) struct TooMuchOutsideParts;

/// How much the parser holds, as far as can be seen from outside.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: AtomicUsize,
    fruitless: AtomicU32,
}

impl Held {
    /// The parser handed out something: so many bytes of data, or the head of a part.
    pub(super) fn handed_out(&self, bytes: usize) {
        // One task has both sides, so nothing comes between.
        let held = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(held.saturating_sub(bytes), Ordering::Relaxed);
        self.fruitless.store(0, Ordering::Relaxed);
    }
}

/// What the parser reads.
#[derive(Debug)]
pub(super) struct FormBody<'a> {
    incoming: &'a mut Incoming,
    /// The rest of a chunk that is longer than the parser may hold.
    rest: Bytes,
    held: Arc<Held>,
}

impl<'a> FormBody<'a> {
    /// A body, and what the parser's owner tells of its progress.
    pub(super) fn new(incoming: &'a mut Incoming) -> (Self, Arc<Held>) {
        let held = Arc::<Held>::default();
        (Self { incoming, rest: Bytes::new(), held: held.clone() }, held)
    }
}

impl Stream for FormBody<'_> {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let held = self.held.bytes.load(Ordering::Relaxed);
        if held >= MAX_HELD_BYTES {
            if self.held.fruitless.fetch_add(1, Ordering::Relaxed) >= MAX_FRUITLESS {
                return Poll::Ready(Some(Err(TooMuchOutsideParts.into())));
            }
            // The parser is to look at what it holds, and to be asked again.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut *self.incoming).poll_next(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let len = self.rest.len().min(MAX_HELD_BYTES);
        let piece = self.rest.split_to(len);
        self.held.bytes.store(held + len, Ordering::Relaxed);
        Poll::Ready(Some(Ok(piece)))
    }
}
