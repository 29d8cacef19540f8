//! Passing an upload on to a volume server, as it is and in bounded memory.
//!
//! A small body is kept whole, so that another volume can be tried when the first one refuses; a
//! larger one streams through and is sent once.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use bytes::Bytes;
use dulse_shared::{
    id::Fid,
    wire::{Code, Problem, ProblemBody, UploadResponse},
};
use futures_util::{Stream, TryStreamExt, stream};
use http_body_util::{BodyExt, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::volume_layout::Place;

/// Bodies up to this are kept while they are sent: most files of most stores.
const MAX_KEPT_BYTES: u64 = 1 << 20;
/// Bodies kept at the same time; further ones are streamed. 64 MiB in all.
const MAX_KEPT_BODIES: usize = 64;
/// What a multipart body adds to the file: boundaries, part headers, a few fields.
const MULTIPART_OVERHEAD_BYTES: u64 = 1 << 20;
/// A client that sends nothing for this long has gone away.
const CLIENT_IDLE_LIMIT: Duration = Duration::from_secs(60);
/// A whole upload: 256 MiB at 300 KB/s.
const UPLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// A volume server that does not take a connection within this is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The answer to an upload is a few hundred bytes of JSON.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends uploads to volume servers.
pub(crate) struct Relay {
    http: reqwest::Client,
    kept: Arc<Semaphore>,
}

/// A body on its way in.
pub(super) enum Upload {
    /// All of it; it can be sent more than once.
    Kept {
        /// The body.
        bytes: Bytes,
        /// Its share of the memory for such bodies.
        _permit: OwnedSemaphorePermit,
    },
    /// What still comes from the client; it can be sent once.
    Streamed {
        /// The body.
        body: Body,
        /// Its length, if the client said so.
        length: Option<u64>,
        /// The most that it may be.
        limit_bytes: u64,
    },
}

/// Why an upload was not stored, as far as is known.
#[derive(Debug)]
pub(super) enum RelayError {
    /// Nothing was stored, and another volume may take it.
    TryAnother(Problem),
    /// It is of no use to try another volume.
    Final(Problem),
}

impl From<RelayError> for Problem {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::TryAnother(problem) | RelayError::Final(problem) => problem,
        }
    }
}

impl Relay {
    /// A relay that keeps its connections to volume servers.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(UPLOAD_LIMIT)
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, kept: Arc::new(Semaphore::new(MAX_KEPT_BODIES)) })
    }

    /// Begins to take in a body: a small one whole, if there is memory for it.
    pub(super) async fn receive(
        &self,
        headers: &HeaderMap,
        body: Body,
        max_needle_bytes: u64,
    ) -> Result<Upload, Problem> {
        let limit_bytes = max_needle_bytes.saturating_add(MULTIPART_OVERHEAD_BYTES);
        let length = content_length(headers);
        if length.is_some_and(|length| length > limit_bytes) {
            return Err(too_large(limit_bytes));
        }
        let is_small = length.is_some_and(|length| length <= MAX_KEPT_BYTES);
        let permit = self.kept.clone().try_acquire_owned();
        match permit {
            Ok(permit) if is_small => {
                Ok(Upload::Kept { bytes: read_whole(body).await?, _permit: permit })
            }
            _ => Ok(Upload::Streamed { body, length, limit_bytes }),
        }
    }

    /// Sends a body that was kept.
    pub(super) async fn send_kept(
        &self,
        target: &Target<'_>,
        bytes: Bytes,
    ) -> Result<UploadResponse, RelayError> {
        let request = self.request(target).body(bytes);
        read_answer(request, target, &OnceLock::new()).await
    }

    /// Sends a body while it comes in.
    pub(super) async fn send_streamed(
        &self,
        target: &Target<'_>,
        body: Body,
        length: Option<u64>,
        limit_bytes: u64,
    ) -> Result<UploadResponse, RelayError> {
        let fault = Arc::new(OnceLock::new());
        let chunks = checked_chunks(body, limit_bytes, fault.clone());
        let mut request = self.request(target);
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request = request.body(reqwest::Body::wrap_stream(chunks));
        read_answer(request, target, &fault).await
    }

    fn request(&self, target: &Target<'_>) -> reqwest::RequestBuilder {
        let Target { place, fid, stamp, headers } = target;
        let mut request = self.http.post(format!("http://{}/{fid}", place.url));
        if let Some(stamp) = stamp {
            request = request.query(&[("ts", stamp)]);
        }
        let relayed = headers.iter().filter(|(name, _)| is_relayed(name));
        for (name, value) in relayed {
            request = request.header(name, value);
        }
        request
    }
}

/// Where an upload goes and what goes with it.
pub(super) struct Target<'a> {
    /// The volume server.
    pub(super) place: &'a Place,
    /// The needle.
    pub(super) fid: Fid,
    /// Its modification time, in seconds since 1970, as the client wrote it.
    pub(super) stamp: Option<&'a str>,
    /// The client's headers.
    pub(super) headers: &'a HeaderMap,
}

/// Headers that describe the file; the others concern the connection or this server.
fn is_relayed(name: &HeaderName) -> bool {
    let is_about_body = name.as_str().starts_with("content-") && *name != header::CONTENT_LENGTH;
    is_about_body || name.as_str().starts_with("seaweed-")
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_whole(body: Body) -> Result<Bytes, Problem> {
    let fault = Arc::new(OnceLock::new());
    let chunks = checked_chunks(body, MAX_KEPT_BYTES, fault.clone());
    let whole = chunks.try_fold(Vec::new(), |mut whole, chunk| async move {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    match whole.await {
        Ok(whole) => Ok(Bytes::from(whole)),
        Err(error) => Err(fault.get().cloned().unwrap_or_else(|| body_broke(&error.to_string()))),
    }
}

/// The body's chunks; the stream ends with an error if the client is too slow, sends too much or
/// goes away. Which of these it was is left in `fault`.
fn checked_chunks(
    body: Body,
    limit_bytes: u64,
    fault: Arc<OnceLock<Problem>>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    let limited = Limited::new(body, limit).into_data_stream();
    stream::try_unfold((limited, fault), move |(mut chunks, fault)| async move {
        let next = tokio::time::timeout(CLIENT_IDLE_LIMIT, chunks.try_next()).await;
        let problem = match next {
            Ok(Ok(Some(chunk))) => return Ok(Some((chunk, (chunks, fault)))),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                too_large(limit_bytes)
            }
            Ok(Err(error)) => body_broke(&error.to_string()),
            Err(_) => body_broke(&format!("nothing came for {CLIENT_IDLE_LIMIT:?}")),
        };
        let error = std::io::Error::other(problem.clone());
        // Only the first fault ends the stream: nobody sets it before.
        let _ = fault.set(problem);
        Err(error)
    })
}

async fn read_answer(
    request: reqwest::RequestBuilder,
    target: &Target<'_>,
    fault: &OnceLock<Problem>,
) -> Result<UploadResponse, RelayError> {
    let url = &target.place.url;
    let mut response = request.send().await.map_err(|error| {
        fault.get().cloned().map_or_else(|| broken(url, &error), RelayError::Final)
    })?;
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(url, &error))? {
        if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unreadable(url, "it is too long"));
        }
        answer.extend_from_slice(&chunk);
    }
    if response.status() == StatusCode::CREATED {
        return serde_json::from_slice(&answer)
            .map_err(|error| unreadable(url, &error.to_string()));
    }
    Err(refusal(url, response.status(), &answer))
}

fn refusal(url: &str, status: StatusCode, answer: &[u8]) -> RelayError {
    let Ok(ProblemBody { error, code, .. }) = serde_json::from_slice(answer) else {
        let message = format!("volume server {url} answered {status} without a reason");
        return RelayError::Final(Problem::new(Code::Internal, message));
    };
    let problem = Problem::new(code, error);
    match code {
        Code::VolumeReadOnly | Code::VolumeFull | Code::VolumeUnavailable => {
            RelayError::TryAnother(problem)
        }
        _ => RelayError::Final(problem),
    }
}

/// Without a connection nothing can have been stored; after that nobody knows.
fn broken(url: &str, error: &reqwest::Error) -> RelayError {
    if error.is_connect() {
        let message = format!("volume server {url} cannot be reached: nothing was stored");
        return RelayError::TryAnother(Problem::new(Code::VolumeUnavailable, message));
    }
    let message = format!(
        "the connection to volume server {url} broke before it answered: send the file again, it \
         will get another fid"
    );
    RelayError::Final(Problem::new(Code::WriteUnknown, message))
}

fn unreadable(url: &str, reason: &str) -> RelayError {
    let message = format!("volume server {url} sent an answer that cannot be read: {reason}");
    RelayError::Final(Problem::new(Code::WriteUnknown, message))
}

fn too_large(limit_bytes: u64) -> Problem {
    let message = format!(
        "the body is longer than {limit_bytes} bytes, the most that fits into a needle: split the \
         file"
    );
    Problem::new(Code::TooLarge, message)
}

fn body_broke(reason: &str) -> Problem {
    let message = format!("the body did not arrive whole: {reason}");
    Problem::new(Code::BadRequest, message)
}
