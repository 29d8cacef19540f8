//! A connection that is closed when its peer takes nothing of what is written to it.
//!
//! A client that stops reading would otherwise keep its place among the connections, and the file
//! and the memory behind its answer, for as long as it likes. Only a write that waits counts:
//! a connection on which nothing is to be written, because it is idle or its answer is not known
//! yet, may stay. How long a request may take to come in is not decided here.
//!
//! The kernel buffers, and wakes a writer when about a third of its buffer is free again, so "takes
//! nothing" is true of the buffer and not of single bytes: at most some 1.3 MB with Linux's defaults.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A connection whose writes fail with [`io::ErrorKind::TimedOut`] when one has waited for `limit`.
#[derive(Debug)]
pub(super) struct WriteLimited<I> {
    io: I,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<I> WriteLimited<I> {
    pub(super) fn new(io: I, limit: Duration) -> Self {
        Self { io, limit, waiting: None }
    }

    /// Passes on what became of a write, unless it has waited for too long.
    fn limited<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        waiting.as_mut().poll(context).map(|()| {
            let reason = format!("the peer has taken nothing for {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WriteLimited<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WriteLimited<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.limited(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.limited(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_write_fails_once_the_peer_has_taken_nothing_for_the_limit() {
        let (ours, peer) = duplex(64);
        let mut ours = WriteLimited::new(ours, LIMIT);
        let written = tokio::time::timeout(LIMIT * 50, ours.write_all(&[7; 65])).await;
        let error = written.expect("it has an end").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_little_at_a_time_gets_everything() {
        let (ours, mut peer) = duplex(1);
        let reading = async {
            let mut taken = Vec::new();
            while taken.len() < 12 {
                sleep(LIMIT / 8).await;
                taken.push(peer.read_u8().await.unwrap());
            }
            taken
        };
        // All of it takes longer than the limit, no single byte does.
        let mut ours = WriteLimited::new(ours, LIMIT);
        let (written, taken) = tokio::join!(ours.write_all(&[7; 12]), reading);
        written.unwrap();
        assert_eq!(taken, [7; 12]);
    }

    #[tokio::test]
    async fn a_read_may_wait_for_longer_than_the_limit() {
        let (ours, mut peer) = duplex(64);
        let mut ours = WriteLimited::new(ours, LIMIT / 8);
        let sending = async {
            sleep(LIMIT).await;
            peer.write_u8(7).await.unwrap();
        };
        let (read, ()) = tokio::join!(ours.read_u8(), sending);
        assert_eq!(read.unwrap(), 7);
        ours.write_u8(8).await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), 8);
    }
}
