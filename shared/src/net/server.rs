//! A listener: bind, accept within a limit, serve, stop in an orderly way.
//!
//! Every response leaves through `finish`, the one place that gives a request its id, renders
//! errors, counts, and logs what failed on our side. Handlers return [`Problem`]s and know
//! nothing of this.

use std::{
    convert::Infallible, future::Future, io, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::ServiceExt;

use super::{metrics::RequestMetrics, tasks::Tasks, write_limit::WriteLimited};
use crate::{
    clock::Clock,
    wire::{Code, Location, Problem, ProblemBody},
};

/// Connections of one listener at a time. More wait to be accepted: a connection costs a file
/// descriptor, of which a process often has 65,536 or fewer.
const MAX_CONNECTIONS: usize = 20_000;
/// The head of a request, in bytes. More is answered 431.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// A connection that sends no whole request head for this long is closed, idle ones included.
const HEAD_LIMIT: Duration = Duration::from_secs(75);
/// A connection whose peer takes nothing of an answer for this long is closed.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// After a failed accept (out of file descriptors, mostly) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const SERVER: HeaderValue = HeaderValue::from_static(concat!("dulse/", env!("CARGO_PKG_VERSION")));
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("port {port} is taken: pass {flag}, or stop the program that uses {address}")]
    Taken {
        /// The port.
        port: u16,
        /// The whole address.
        address: String,
        /// The flag that chooses another.
        flag: &'static str,
    },
    /// Anything else.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Other {
        /// The whole address.
        address: String,
        /// The flag that chooses another.
        flag: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens on `host:port`; `flag` is what the user would pass to choose another port.
pub async fn bind(host: &str, port: u16, flag: &'static str) -> Result<TcpListener, BindError> {
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let address = format!("{host}:{port}");
    TcpListener::bind((bare_host, port)).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { port, address, flag },
        _ => BindError::Other { address, flag, source },
    })
}

/// The id of a request, in its log lines, its error body and its `X-Request-Id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// What answers the requests of a listener: a router, or where its cost counts a single handler.
pub trait Answer: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl Answer for Router {
    async fn answer(&self, request: Request) -> Response {
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}

/// How the bytes of a connection get from one side to the other.
pub(super) trait Transport: Send + Sync + 'static {
    /// What requests are read from and answers are written to.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Gets to where requests can be read; `None` if there will be none. A write that waits longer
    /// than `write_limit` fails.
    fn open(
        &self,
        stream: TcpStream,
        write_limit: Duration,
    ) -> impl Future<Output = Option<Self::Stream>> + Send;
}

/// As they are.
pub(super) struct Plain;

impl Transport for Plain {
    type Stream = WriteLimited<TcpStream>;

    async fn open(&self, stream: TcpStream, write_limit: Duration) -> Option<Self::Stream> {
        Some(WriteLimited::new(stream, write_limit))
    }
}

/// What all connections of a listener share.
struct Shared<A, T> {
    transport: T,
    answer: A,
    metrics: RequestMetrics,
    clock: Clock,
    write_limit: Duration,
}

/// Answers what comes to `listener` until `tasks` stop, then lets requests under way finish.
pub fn spawn_server(
    name: &'static str,
    listener: TcpListener,
    answer: impl Answer,
    metrics: RequestMetrics,
    clock: Clock,
    tasks: &Tasks,
) {
    spawn_on(name, listener, Plain, answer, metrics, clock, tasks);
}

/// The same over any transport.
pub(super) fn spawn_on(
    name: &'static str,
    listener: TcpListener,
    transport: impl Transport,
    answer: impl Answer,
    metrics: RequestMetrics,
    clock: Clock,
    tasks: &Tasks,
) {
    let shared = Shared { transport, answer, metrics, clock, write_limit: WRITE_LIMIT };
    let shared = Arc::new(shared);
    let inner = tasks.clone();
    tasks.spawn(name, async move { accept_loop(listener, shared, inner).await });
}

async fn accept_loop<A: Answer, T: Transport>(
    listener: TcpListener,
    shared: Arc<Shared<A, T>>,
    tasks: Tasks,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = tasks.stopped() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = serve_connection(stream, permit, shared.clone(), tasks.clone());
                tasks.spawn_connection(connection);
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes the permit first: a connection beyond the limit waits in the kernel's queue. The stream
/// belongs to no runtime yet: another thread may serve it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(std::net::TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream.into_std()?, permit))
}

async fn serve_connection<A: Answer, T: Transport>(
    stream: std::net::TcpStream,
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared<A, T>>,
    tasks: Tasks,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("cannot serve a connection: {error}"),
    };
    // A token of its own: looking at the one that all share takes a lock that all take.
    let stopping = tasks.stopping();
    let opened = tokio::select! {
        biased;
        opened = shared.transport.open(stream, shared.write_limit) => opened,
        () = stopping.cancelled() => None,
    };
    let Some(stream) = opened else { return };
    let service = service_fn(move |request| answer(request, shared.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // In a box: each place that it is moved through would be as large once more, for every client.
    let mut connection = Box::pin(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection ended: {error}");
    }
    drop(permit);
}

async fn answer<A: Answer, T: Transport>(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared<A, T>>,
) -> Result<Response, Infallible> {
    let start = shared.clock.boot();
    let id = RequestId(rand::random());
    let verb = request.method().clone();
    let answer = shared.answer.answer(request.map(Body::new));
    let response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Problem::new(Code::Internal, "the server made a mistake; its log says where")
            .into_response(),
    };
    let response = finish(response, id, &verb);
    let seconds = shared.clock.since(start).as_secs_f64();
    shared.metrics.observe(&verb, response.status(), seconds);
    Ok(response)
}

/// In the extensions of a [`Problem`]'s response: the `size` that its body has as well.
#[derive(Clone, Copy, Debug)]
pub struct SizeBeside(pub u64);

/// The same for the `locations` beside an error.
#[derive(Clone, Debug)]
pub struct LocationsBeside(pub Vec<Location>);

/// Renders a [`Problem`] and adds the headers that every response has.
fn finish(mut response: Response, id: RequestId, verb: &Method) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        // Whoever is starting or stopping says so once by itself, not with each request.
        if response.status().is_server_error() && problem.code != Code::NotReady {
            tracing::warn!(request_id = %id, %verb, code = ?problem.code, "{}", problem.message);
        }
        let size = response.extensions_mut().remove::<SizeBeside>();
        let locations = response.extensions_mut().remove::<LocationsBeside>();
        let body = ProblemBody {
            error: problem.message,
            code: problem.code,
            size: size.map(|SizeBeside(size)| size),
            locations: locations.map(|LocationsBeside(locations)| locations),
            request_id: Some(id.to_string()),
        };
        // The body has only strings: it always serializes.
        *response.body_mut() = Body::from(serde_json::to_vec(&body).unwrap_or_default());
        // The router has measured the empty body that came before.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(AMZ_REQUEST_ID, id.clone());
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::SERVER, SERVER);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// What a client is told to wait before it repeats a request that was refused for now, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl IntoResponse for Problem {
    /// A response without a body: `finish` writes it, because it knows the request's id.
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::metrics::Metrics;

    /// In these tests; a connection has to end within [`DEADLINE`] when it is over.
    const WRITE_LIMIT: Duration = Duration::from_millis(300);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A connection to `router`, and the only permit, which is free once the server let go of it.
    async fn connect(router: Router) -> (TcpStream, Arc<Semaphore>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let (stream, permit) = accept(&listener, &permits).await.unwrap();
        let shared = Arc::new(Shared {
            transport: Plain,
            answer: router,
            metrics: RequestMetrics::register(&Metrics::default(), "test"),
            clock: Clock::System,
            write_limit: WRITE_LIMIT,
        });
        let tasks = Tasks::new();
        tasks.spawn_contained(serve_connection(stream, permit, shared, tasks.clone()));
        (client, permits)
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_loses_its_connection() {
        let body = || async { vec![7_u8; 64 << 20] };
        let (mut client, permits) = connect(Router::new().route("/", get(body))).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let let_go = tokio::time::timeout(DEADLINE, permits.acquire()).await;
        assert!(let_go.is_ok(), "the connection is still served");
    }

    #[tokio::test]
    async fn an_answer_that_takes_long_is_waited_for() {
        let slow = || async {
            tokio::time::sleep(WRITE_LIMIT * 3).await;
            "at last"
        };
        let (mut client, _) = connect(Router::new().route("/", get(slow))).await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("at last"), "{answer}");
    }

    #[tokio::test]
    async fn a_problem_is_rendered_at_its_own_length() {
        let problem = || async { Problem::new(Code::NotFound, "no such needle") };
        let router = Router::new().route("/", get(problem));
        let request = Request::builder().body(Body::empty());
        let response = router.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "0");
        let response = finish(response, RequestId(1), &Method::GET);
        assert_eq!(response.headers().get(header::CONTENT_LENGTH), None);
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await;
        let body: ProblemBody = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body.error, "no such needle");
    }
}
