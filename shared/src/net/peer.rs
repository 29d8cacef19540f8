//! Calling another server of the cluster: JSON in, JSON out, always with a time limit.
//!
//! With a cluster identity every call is mutual TLS. That two servers do not belong to one cluster
//! is told apart from one that is not there.

mod connector;
#[cfg(test)]
mod tests;

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};

use self::connector::{ConnectError, Connector};
pub use super::cluster_trust::Distrust;
use super::{cluster_identity::ClusterIdentity, cluster_trust::causes};
use crate::wire::{Code, ProblemBody};

/// An unused connection is closed by then, before the other side does it.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// An answer larger than this is no answer of ours.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client for cluster ports. Cheap to clone; connections are kept and shared.
#[derive(Clone, Debug)]
pub struct PeerClient {
    http: Client<Connector, Full<Bytes>>,
    scheme: &'static str,
}

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection, or it broke, or the limit passed. Whether the peer acted is unknown.
    #[error("cannot reach {url}: {source}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The peer is of another cluster, as far as secrets tell. It did nothing.
    #[error("{address} {distrust}")]
    Distrust {
        /// `host:port` of the peer.
        address: String,
        /// How they differ.
        distrust: Distrust,
    },
    /// The peer answered with an error.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The peer's stable word, if it sent one.
        code: Option<Code>,
        /// The peer's sentence.
        message: String,
    },
    /// The answer is not what this route answers.
    #[error("{url} sent an answer that cannot be read: {reason}")]
    Unreadable {
        /// What was called.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why no answer came.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The call cannot be put into words of HTTP.
    #[error("{0}")]
    Request(String),
    /// Nobody is there, or not as a server of ours.
    #[error("{0}")]
    Connect(String),
    /// Nobody listens at the address: whoever was there is not any more.
    #[error("{0}")]
    NobodyListens(String),
    /// The connection ended before the answer did.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The limit of the call passed.
    #[error("no answer within {0:?}")]
    Slow(Duration),
}

impl CallError {
    /// Whether the limit of the call passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Slow(_))
    }

    /// Whether the peer certainly has not heard of the call, because there was no connection.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Connect(_) | Self::NobodyListens(_))
    }
}

impl PeerError {
    /// Whether nobody listens at the address: whoever was there is not any more.
    pub fn is_refused_connection(&self) -> bool {
        matches!(self, Self::Unreachable { source: CallError::NobodyListens(_), .. })
    }
}

/// What a call comes to before anything of the answer is understood.
struct RawAnswer {
    status: StatusCode,
    body: Vec<u8>,
}

enum Failure {
    Call(CallError),
    Distrust(Distrust),
    TooLong,
}

impl PeerClient {
    /// A client that shows `identity` to the peers it calls, and calls nobody who does not show it
    /// one of the same cluster; without one, plain HTTP.
    pub fn new(identity: Option<&ClusterIdentity>) -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .build(Connector::new(identity));
        Self { http, scheme: if identity.is_some() { "https" } else { "http" } }
    }

    /// `POST {path}` to the peer at `address` with a JSON body.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &Q,
        limit: Duration,
    ) -> Result<A, PeerError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Request(error.to_string()));
        self.call(Method::POST, address, path, body.map(Bytes::from), limit).await
    }

    /// `GET {path}` from the peer at `address`.
    pub async fn fetch<A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        limit: Duration,
    ) -> Result<A, PeerError> {
        self.call(Method::GET, address, path, Ok(Bytes::new()), limit).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: Result<Bytes, CallError>,
        limit: Duration,
    ) -> Result<A, PeerError> {
        let url = format!("{}://{address}{path}", self.scheme);
        let exchange = async {
            let request = request(method, &url, body?)?;
            self.exchange(request).await
        };
        let slow = || Err(Failure::Call(CallError::Slow(limit)));
        match tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| slow()) {
            Ok(answer) => read_answer(url, &answer),
            Err(Failure::Call(source)) => Err(PeerError::Unreachable { url, source }),
            Err(Failure::Distrust(distrust)) => {
                Err(PeerError::Distrust { address: address.to_owned(), distrust })
            }
            Err(Failure::TooLong) => {
                let reason = format!("it is longer than {MAX_ANSWER_BYTES} bytes");
                Err(PeerError::Unreadable { url, reason })
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<RawAnswer, Failure> {
        let response = self.http.request(request).await;
        let response = response.map_err(|error| self.no_response(&error))?;
        let status = response.status();
        let body = read_body(response.into_body()).await?;
        Ok(RawAnswer { status, body })
    }

    fn no_response(&self, error: &legacy::Error) -> Failure {
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return match error {
                ConnectError::Distrust(distrust) => Failure::Distrust(*distrust),
                ConnectError::NobodyListens(text) => {
                    Failure::Call(CallError::NobodyListens(text.clone()))
                }
                other => Failure::Call(CallError::Connect(other.to_string())),
            };
        }
        let is_secure = self.scheme == "https";
        let judge = if is_secure { Distrust::of_secure } else { Distrust::of_plain };
        match judge(error) {
            Some(distrust) => Failure::Distrust(distrust),
            None => Failure::Call(CallError::Broken(innermost(error))),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

fn request(method: Method, url: &str, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let has_body = method == Method::POST;
    let request = Request::builder().method(method).uri(url).body(Full::new(body));
    let mut request = request.map_err(|error| CallError::Request(error.to_string()))?;
    if has_body {
        request.headers_mut().insert(header::CONTENT_TYPE, JSON);
    }
    Ok(request)
}

async fn read_body(mut incoming: Incoming) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| CallError::Broken(innermost(&error)))?;
        // Trailers say nothing that anybody here asks for.
        let Ok(chunk) = frame.into_data() else { continue };
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_answer<A: DeserializeOwned>(url: String, answer: &RawAnswer) -> Result<A, PeerError> {
    if !answer.status.is_success() {
        return Err(refusal(url, answer.status.as_u16(), &answer.body));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| PeerError::Unreadable { url, reason: error.to_string() })
}

fn refusal(url: String, status: u16, body: &[u8]) -> PeerError {
    match serde_json::from_slice::<ProblemBody>(body) {
        Ok(problem) => {
            PeerError::Refused { url, status, code: Some(problem.code), message: problem.error }
        }
        Err(_) => {
            PeerError::Refused { url, status, code: None, message: "no reason given".to_owned() }
        }
    }
}

/// The cause of all others: what lies around it says less in more words.
fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}
