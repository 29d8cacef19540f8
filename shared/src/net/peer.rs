//! Calling another server of the cluster: JSON in, JSON out, always with a time limit.

use std::{error::Error, io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::wire::{Code, ProblemBody};

/// Connecting takes no longer than this; the call's own limit covers the rest.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// An answer larger than this is no answer of ours.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client for cluster ports. Cheap to clone; connections are kept and shared.
#[derive(Clone, Debug)]
pub struct PeerClient {
    http: reqwest::Client,
}

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No connection, or it broke, or the limit passed. Whether the peer acted is unknown.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
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

impl PeerError {
    /// Whether nobody listens at the address: whoever was there is not any more.
    pub fn is_refused_connection(&self) -> bool {
        let Self::Unreachable { source, .. } = self else {
            return false;
        };
        let mut cause: Option<&(dyn Error + 'static)> = Some(source);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl PeerClient {
    /// A client that never follows redirects or proxies: a peer is where it says it is.
    pub fn new() -> Result<Self, PeerError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(PeerError::Setup)?;
        Ok(Self { http })
    }

    /// `POST http://{address}{path}` with a JSON body.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &Q,
        limit: Duration,
    ) -> Result<A, PeerError> {
        let url = format!("http://{address}{path}");
        let request = self.http.post(&url).json(body).timeout(limit);
        read_answer(url, request).await
    }

    /// `GET http://{address}{path}`.
    pub async fn fetch<A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        limit: Duration,
    ) -> Result<A, PeerError> {
        let url = format!("http://{address}{path}");
        let request = self.http.get(&url).timeout(limit);
        read_answer(url, request).await
    }
}

async fn read_answer<A: DeserializeOwned>(
    url: String,
    request: reqwest::RequestBuilder,
) -> Result<A, PeerError> {
    let unreachable = |source| PeerError::Unreachable { url: url.clone(), source };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            let reason = format!("it is longer than {MAX_ANSWER_BYTES} bytes");
            return Err(PeerError::Unreadable { url, reason });
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(refusal(url, status.as_u16(), &body));
    }
    serde_json::from_slice(&body)
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
