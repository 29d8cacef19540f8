//! A connection to another server: plain, or mutual TLS for a member of a cluster with a secret.

use std::{
    error::Error,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::innermost;
use crate::net::{
    cluster_identity::ClusterIdentity,
    cluster_trust::{Distrust, causes},
};

/// Name, connection and handshake take no longer than this; the call's own limit covers the rest.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within {CONNECT_LIMIT:?}")]
    Slow,
    #[error("{0}")]
    NobodyListens(String),
    #[error("{0}")]
    Tcp(String),
    #[error("no handshake: {0}")]
    Tls(String),
    #[error("{0}")]
    Distrust(Distrust),
}

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    secure: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(identity: Option<&ClusterIdentity>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // What the URL calls https is only TCP to this part.
        tcp.enforce_http(false);
        let secure = identity.map(|member| (member.connector(), member.expected_name()));
        Self { tcp, secure }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("is_secure", &self.secure.is_some()).finish()
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<PeerStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(context).map_err(|error| ConnectError::Tcp(innermost(&error)))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, secure) = (self.tcp.call(uri), self.secure.clone());
        let opening = async move {
            let stream = connecting.await.map_err(|error| no_connection(&error))?;
            let stream = stream.into_inner();
            let Some((tls, name)) = secure else { return Ok(PeerStream::Plain(stream)) };
            let stream = tls.connect(name, stream).await.map_err(no_handshake)?;
            Ok(PeerStream::Secure(Box::new(stream)))
        };
        Box::pin(async move {
            timeout(CONNECT_LIMIT, opening)
                .await
                .unwrap_or(Err(ConnectError::Slow))
                .map(TokioIo::new)
        })
    }
}

fn no_connection(error: &(dyn Error + 'static)) -> ConnectError {
    let mut io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    if io.any(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        return ConnectError::NobodyListens(innermost(error));
    }
    ConnectError::Tcp(innermost(error))
}

fn no_handshake(error: io::Error) -> ConnectError {
    match Distrust::of_secure(&error) {
        Some(distrust) => ConnectError::Distrust(distrust),
        None => ConnectError::Tls(error.to_string()),
    }
}

/// A connection that was made.
#[derive(Debug)]
pub(super) enum PeerStream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Connection for PeerStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Passes a call on to what is inside.
macro_rules! inside {
    ($stream:ident, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Plain(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Self::Secure(stream) => {
                let $inner = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(self, inner => inner.poll_read(context, buffer))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(self, inner => inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(self, inner => inner.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, inner => inner.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, inner => inner.poll_shutdown(context))
    }
}
