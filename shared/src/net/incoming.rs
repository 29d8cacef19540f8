//! Bodies on their way in: how slow a sender may be, and what becomes of the body of a refused
//! request.
//!
//! Only time spent waiting for the sender counts against it, never time in which the server did
//! not read. What may be sent, and how much of it, is decided by whoever reads.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use tokio::time::Instant;

use crate::wire::{Code, Problem};

/// What a sender has to bring on average: far below every line that is worth an upload, and so
/// much that the longest upload ends.
const MIN_BYTES_A_SECOND: u32 = 16 << 10;
/// How far it may fall behind that: a pause in a pipe or in a mobile network. What is held for
/// the upload meanwhile is kept from others.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long the body of a refused request is read, so that its sender gets to reading the answer.
const DISCARD: Duration = Duration::from_secs(10);

/// The chunks of a request's body.
#[derive(Debug)]
pub struct Incoming {
    body: Body,
    /// The sender asked whether to send at all, and was not told yet that it may.
    is_held_back: bool,
}

impl Incoming {
    /// The body of a request with these headers.
    pub fn new(headers: &HeaderMap, body: Body) -> Self {
        Self { body, is_held_back: headers.contains_key(header::EXPECT) }
    }

    /// How long the whole is, if the sender said so; before the first chunk is taken.
    pub fn announced_len(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Reads on and throws away, for a while: a sender that is still sending does not see an
    /// answer, and takes the end of the connection for a failure. One that asked whether to send
    /// at all does see it.
    pub async fn discard(&mut self) {
        if self.is_being_sent() {
            read_on(self).await;
        }
    }

    /// Whether its sender may be sending, and would not see an answer.
    pub fn is_being_sent(&self) -> bool {
        !self.is_held_back && !self.body.is_end_stream()
    }
}

/// Reads what is left of a body and throws it away, for a while.
pub async fn read_on(body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin) {
    read_on_for(DISCARD, body).await;
}

async fn read_on_for(
    limit: Duration,
    mut body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
) {
    let rest = async {
        while let Some(Ok(_)) = body.next().await {
            // A sender that is always ahead must not keep the limit from being looked at.
            tokio::task::coop::consume_budget().await;
        }
    };
    // The answer goes out either way.
    let _ = tokio::time::timeout(limit, rest).await;
}

impl Stream for Incoming {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_held_back = false;
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
                return Poll::Ready(None);
            };
            // Trailers say nothing that anybody here asks for.
            if let Some(chunk) = frame.map(|frame| frame.into_data().ok()).transpose() {
                return Poll::Ready(Some(chunk));
            }
        }
    }
}

/// How much longer one sender is waited for. Bytes earn time, up to a limit.
#[derive(Debug)]
pub struct Pace {
    left: Duration,
    patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl Pace {
    /// A sender that may fall so far behind.
    pub fn with_patience(patience: Duration) -> Self {
        Self { left: patience, patience }
    }

    /// Waits for what the sender has to bring; an error once it is too slow.
    pub async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Problem> {
        let mut next = pin!(next);
        // Mostly it is here already: then no clock is asked.
        let now = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        if let Poll::Ready(here) = now {
            return Ok(here);
        }
        let begun = Instant::now();
        let waited = tokio::time::timeout(self.left, next).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        waited.map_err(|_| too_slow(self.patience))
    }

    /// So many bytes came.
    pub fn earn(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(MIN_BYTES_A_SECOND));
        self.left = self.left.saturating_add(earned).min(self.patience);
    }

    /// The next chunk of a body, or its end.
    pub async fn next_chunk(
        &mut self,
        body: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    ) -> Result<Option<Bytes>, Problem> {
        let next = self.wait(body.next()).await?;
        let chunk = next.transpose().map_err(|error| broke_off(&error))?;
        self.earn(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }
}

/// The answer to a body that broke off.
pub fn broke_off(cause: &dyn std::fmt::Display) -> Problem {
    let text = format!("the body did not arrive whole: {cause}; nothing was stored: send it again");
    Problem::new(Code::BadRequest, text)
}

fn too_slow(patience: Duration) -> Problem {
    let text = format!(
        "the body came too slowly: it fell {} seconds behind {} KiB a second; nothing was stored: \
         send it again over a faster line, or in smaller files",
        patience.as_secs(),
        MIN_BYTES_A_SECOND >> 10
    );
    Problem::new(Code::TooSlow, text)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A body of `pieces` pieces of `bytes` bytes, one every `pause`.
    fn trickle(pieces: usize, bytes: usize, pause: Duration) -> Incoming {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(vec![0; bytes])
        });
        Incoming::new(&HeaderMap::new(), Body::from_stream(pieces))
    }

    const SHORT: Duration = Duration::from_millis(300);

    async fn receive(mut body: Incoming) -> Result<Duration, (Duration, Problem)> {
        let (begun, mut pace) = (Instant::now(), Pace::with_patience(SHORT));
        loop {
            match pace.next_chunk(&mut body).await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(begun.elapsed()),
                Err(problem) => return Err((begun.elapsed(), problem)),
            }
        }
    }

    #[tokio::test]
    async fn a_trickle_is_given_up_and_a_slow_line_is_not() {
        let (after, problem) = receive(trickle(1000, 1, SHORT / 6)).await.unwrap_err();
        assert_eq!(problem.code, Code::TooSlow);
        assert!(after >= SHORT && after < 5 * SHORT, "{after:?}");
        let (_, problem) = receive(trickle(1, 1, 2 * SHORT)).await.unwrap_err();
        assert_eq!(problem.code, Code::TooSlow);
        // Twice the lowest speed, for three times as long as a trickle is waited for.
        let took = receive(trickle(18, 32 << 10, SHORT / 6)).await.unwrap();
        assert!(took >= 3 * SHORT, "{took:?}");
        // What came fast earns no more than the patience that everybody has.
        let fast = trickle(1, 20 << 20, Duration::ZERO).chain(trickle(1000, 1, SHORT / 6));
        let body = Incoming::new(&HeaderMap::new(), Body::from_stream(fast));
        let (after, _) = receive(body).await.unwrap_err();
        assert!(after < 5 * SHORT, "{after:?}");
    }

    #[tokio::test]
    async fn time_in_which_nobody_reads_does_not_count() {
        let mut body = trickle(3, 1, Duration::from_millis(1));
        let mut pace = Pace::with_patience(SHORT);
        while pace.next_chunk(&mut body).await.unwrap().is_some() {
            tokio::time::sleep(SHORT).await;
        }
    }

    #[tokio::test]
    async fn a_refused_body_is_read_on_unless_its_sender_waits_for_leave() {
        let long = || trickle(5, 1, Duration::from_millis(1));
        let mut body = long();
        body.discard().await;
        assert!(body.next().await.is_none(), "all of it was read");
        let mut asking = Incoming { is_held_back: true, ..long() };
        asking.discard().await;
        assert!(asking.next().await.is_some(), "nothing was read");
        asking.discard().await;
        assert!(asking.next().await.is_none(), "it was told to send");
    }

    #[tokio::test]
    async fn the_rest_of_a_body_is_not_read_for_ever() {
        let endless = Incoming::new(
            &HeaderMap::new(),
            Body::from_stream(stream::repeat("x").map(Ok::<_, std::io::Error>)),
        );
        read_on_for(Duration::from_millis(20), endless).await;
    }
}
