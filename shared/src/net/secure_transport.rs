//! The accepting side of mutual TLS: whoever does not prove to be of this cluster gets nothing to
//! read and no handler to talk to.
//!
//! A handshake happens on the thread of its connection, within a time limit, and so many at a time
//! as memory allows; a connection that says nothing waits outside. Who was refused because of its
//! secret is named in the log.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    cluster_identity::ClusterIdentity, cluster_trust::Stranger, complaints::Complaints,
    server::Transport, write_limit::WriteLimited,
};
use crate::clock::Clock;

/// From the connection to the end of the handshake, which takes milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Handshakes at a time. Each holds at most some 64 KiB of what the other has sent.
const MAX_HANDSHAKES: usize = 512;
/// Who was refused has this long to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read meanwhile and thrown away: a request of a peer that believes it got through.
const MAX_DISCARDED_BYTES: u64 = 256 << 10;

/// TLS with members of one cluster.
#[derive(Debug)]
pub(super) struct SecureTransport {
    acceptor: Acceptor,
    fingerprint: String,
    turns: Semaphore,
    complaints: Complaints<(IpAddr, Stranger)>,
    clock: Clock,
}

/// Without a `Debug` of its own.
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

type Refused = (io::Error, Option<WriteLimited<TcpStream>>);

impl SecureTransport {
    pub(super) fn new(identity: &ClusterIdentity, clock: Clock) -> Self {
        Self {
            acceptor: Acceptor(identity.acceptor()),
            fingerprint: identity.fingerprint().to_owned(),
            turns: Semaphore::new(MAX_HANDSHAKES),
            complaints: Complaints::default(),
            clock,
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        write_limit: Duration,
    ) -> Result<TlsStream<WriteLimited<TcpStream>>, Refused> {
        stream.readable().await.map_err(|error| (error, None))?;
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|error| (io::Error::other(error), None))?;
        let accepting = self.acceptor.0.accept(WriteLimited::new(stream, write_limit));
        accepting.into_fallible().await.map_err(|(error, stream)| (error, Some(stream)))
    }

    fn tell(&self, address: IpAddr, error: &io::Error) {
        let Some(stranger) = Stranger::of(error) else {
            return tracing::debug!("no handshake with {address}: {error}");
        };
        if self.complaints.is_to_be_told((address, stranger), self.clock.boot()) {
            tracing::warn!(
                "refused on the cluster port: {address} {stranger} (the secret of this server has \
                 the fingerprint {})",
                self.fingerprint
            );
        }
    }
}

impl Transport for SecureTransport {
    type Stream = TlsStream<WriteLimited<TcpStream>>;

    async fn open(&self, stream: TcpStream, write_limit: Duration) -> Option<Self::Stream> {
        let address = stream.peer_addr().ok()?.ip().to_canonical();
        match timeout(HANDSHAKE_LIMIT, self.handshake(stream, write_limit)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, stream))) => {
                self.tell(address, &error);
                if let Some(stream) = stream {
                    // However it ends, the connection is over.
                    let _ = timeout(FAREWELL, part(stream)).await;
                }
            }
            Err(_) => tracing::debug!("no handshake with {address} within {HANDSHAKE_LIMIT:?}"),
        }
        None
    }
}

/// Says no more, and reads on for a while: closing a connection on which something is still unread
/// may take from the other side what was said to it.
async fn part(mut stream: WriteLimited<TcpStream>) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_DISCARDED_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
