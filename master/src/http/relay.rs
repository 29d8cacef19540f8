//! Passing an upload on to a volume server, as it is and in bounded memory.
//!
//! A small body is kept whole, so that another volume can be tried when the first one refuses; a
//! larger one streams through and is sent once.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::Bytes;
use dulse_shared::{
    id::Fid,
    net::incoming::broke_off,
    wire::{Code, Problem, ProblemBody, UploadResponse},
};
use futures_util::TryStreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client_body::{ClientBody, Passage, max_body_bytes, too_large};
use crate::volume_layout::Place;

/// Bodies up to this are kept while they are sent: most files of most stores.
const MAX_KEPT_BYTES: u64 = 1 << 20;
/// Bodies kept at the same time; further ones are streamed. 64 MiB in all.
const MAX_KEPT_BODIES: usize = 64;
/// A volume server that neither takes nor answers anything for this long has failed: longer than it
/// makes an upload wait for room, and than a client may be silent. An upload as a whole has no
/// limit, as it may be long and its line slow.
const STALL_LIMIT: Duration = Duration::from_secs(120);
/// A volume server that does not take a connection within this is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The answer to an upload is a few hundred bytes of JSON.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends uploads to volume servers.
pub(crate) struct Relay {
    http: reqwest::Client,
    kept: Arc<Semaphore>,
    stall_limit: Duration,
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
        body: ClientBody,
        /// Its length, if the client said so.
        length: Option<u64>,
        /// The most that it may be.
        max_needle_bytes: u64,
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
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let kept = Arc::new(Semaphore::new(MAX_KEPT_BODIES));
        Ok(Self { http, kept, stall_limit: STALL_LIMIT })
    }

    /// Begins to take in a body: a small one whole, if there is memory for it.
    pub(super) async fn receive(
        &self,
        headers: &HeaderMap,
        body: &ClientBody,
        max_needle_bytes: u64,
    ) -> Result<Upload, Problem> {
        let length = content_length(headers);
        if length.is_some_and(|length| length > max_body_bytes(max_needle_bytes)) {
            return Err(too_large(max_needle_bytes));
        }
        let is_small = length.is_some_and(|length| length <= MAX_KEPT_BYTES);
        let permit = self.kept.clone().try_acquire_owned();
        match permit {
            Ok(permit) if is_small => {
                Ok(Upload::Kept { bytes: read_whole(body).await?, _permit: permit })
            }
            _ => Ok(Upload::Streamed { body: body.clone(), length, max_needle_bytes }),
        }
    }

    /// Sends a body that was kept.
    pub(super) async fn send_kept(
        &self,
        target: &Target<'_>,
        bytes: Bytes,
    ) -> Result<UploadResponse, RelayError> {
        let request = self.request(target).body(bytes);
        self.answer(request, target, &Passage::begin()).await
    }

    /// Sends a body while it comes in.
    pub(super) async fn send_streamed(
        &self,
        target: &Target<'_>,
        body: ClientBody,
        length: Option<u64>,
        max_needle_bytes: u64,
    ) -> Result<UploadResponse, RelayError> {
        let passage = Passage::begin();
        let chunks = body.chunks(max_needle_bytes, passage.clone());
        let mut request = self.request(target);
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request = request.body(reqwest::Body::wrap_stream(chunks));
        self.answer(request, target, &passage).await
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        target: &Target<'_>,
        passage: &Passage,
    ) -> Result<UploadResponse, RelayError> {
        tokio::select! {
            answer = read_answer(request, target, passage) => answer,
            () = passage.stalled(self.stall_limit) => {
                Err(stalled(&target.place.url, self.stall_limit))
            }
        }
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

async fn read_whole(body: &ClientBody) -> Result<Bytes, Problem> {
    let passage = Passage::begin();
    let chunks = body.chunks(MAX_KEPT_BYTES, passage.clone());
    let whole = chunks.try_fold(Vec::new(), |mut whole, chunk| async move {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    match whole.await {
        Ok(whole) => Ok(Bytes::from(whole)),
        Err(error) => Err(passage.fault().unwrap_or_else(|| broke_off(&error))),
    }
}

async fn read_answer(
    request: reqwest::RequestBuilder,
    target: &Target<'_>,
    passage: &Passage,
) -> Result<UploadResponse, RelayError> {
    let url = &target.place.url;
    let mut response = request
        .send()
        .await
        .map_err(|error| passage.fault().map_or_else(|| broken(url, &error), RelayError::Final))?;
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

/// It may have the whole upload.
fn stalled(url: &str, limit: Duration) -> RelayError {
    let message = format!(
        "volume server {url} neither took nor answered anything for {} seconds: send the file \
         again, it will get another fid",
        limit.as_secs()
    );
    RelayError::Final(Problem::new(Code::WriteUnknown, message))
}

fn unreadable(url: &str, reason: &str) -> RelayError {
    let message = format!("volume server {url} sent an answer that cannot be read: {reason}");
    RelayError::Final(Problem::new(Code::WriteUnknown, message))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{Json, Router, body::Body, routing::post};
    use dulse_shared::net::{incoming::Incoming, tasks::Tasks};
    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    fn slow_body() -> ClientBody {
        let pieces = stream::iter(0..10).then(|_| async {
            tokio::time::sleep(LIMIT / 4).await;
            Ok::<_, std::io::Error>("0123456789")
        });
        ClientBody::new(Incoming::new(&HeaderMap::new(), Body::from_stream(pieces)))
    }

    #[tokio::test]
    async fn an_upload_may_take_long_but_a_volume_server_may_not_be_silent() {
        static IS_DEAF: AtomicBool = AtomicBool::new(false);
        let take = |body: Body| async {
            if IS_DEAF.load(Ordering::SeqCst) {
                tokio::time::sleep(10 * LIMIT).await;
            }
            let size = body.collect().await.unwrap().to_bytes().len() as u64;
            (StatusCode::CREATED, Json(UploadResponse { size, ..UploadResponse::default() }))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let routes = Router::new().route("/{fid}", post(take));
        Tasks::new().spawn_contained(async move { axum::serve(listener, routes).await.unwrap() });
        let relay = Relay { stall_limit: LIMIT, ..Relay::new().unwrap() };
        let place = Place {
            server: dulse_shared::id::ServerId::from(1),
            public_url: url.clone(),
            url,
            data_center: String::new(),
            rack: String::new(),
        };
        let fid = "3,01637037d6".parse().unwrap();
        let headers = HeaderMap::new();
        let target = Target { place: &place, fid, stamp: None, headers: &headers };
        let stored = relay.send_streamed(&target, slow_body(), None, 1 << 20).await.unwrap();
        assert_eq!(stored.size, 100);
        IS_DEAF.store(true, Ordering::SeqCst);
        let Err(RelayError::Final(problem)) = relay.send_kept(&target, "x".into()).await else {
            panic!("it never answered");
        };
        assert_eq!(problem.code, Code::WriteUnknown);
        assert!(problem.message.contains("neither took nor answered"), "{problem}");
    }
}
