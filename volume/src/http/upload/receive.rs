//! What an upload is, whichever way it came.
//!
//! Decides between the two ways, and keeps what both share: how long a silent client is waited
//! for, and what becomes of the body of a refused upload.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, Method, header, request::Parts},
};
use dulse_shared::wire::{Code, Problem};
use http_body_util::BodyExt;

use super::{
    budget::{Reservation, UploadBudget},
    headers, multipart, raw,
};
use crate::{disk::DataDir, needle_data::NeedleData};

/// A body that does not move for this long is given up: it holds room that others wait for.
const IDLE: Duration = Duration::from_secs(60);
/// How long the body of a refused upload is read, so that its sender gets to reading the answer.
const DISCARD: Duration = Duration::from_secs(10);

/// An upload that was received whole.
#[derive(Debug)]
pub(in crate::http) struct Upload {
    /// The bytes to store.
    pub(in crate::http) data: NeedleData,
    /// Their CRC-32C.
    pub(in crate::http) checksum: u32,
    /// The file's name; empty if none.
    pub(in crate::http) name: String,
    /// The type to store; empty if none.
    pub(in crate::http) mime: String,
    /// Whether the bytes are gzipped.
    pub(in crate::http) is_gzipped: bool,
    /// The MD5 that the client says the file has.
    pub(in crate::http) content_md5: Option<String>,
}

/// Receives a request's body; a large one goes into a file in `dir` meanwhile. `base` names a raw
/// body that brings no name.
pub(in crate::http) async fn receive<'a>(
    budget: &'a UploadBudget,
    parts: &Parts,
    body: Body,
    base: &str,
    dir: &'a DataDir,
) -> Result<(Upload, Reservation<'a>), Problem> {
    if is_form(parts) {
        multipart::receive(budget, &parts.headers, body, dir).await
    } else {
        raw::receive(budget, &parts.headers, body, base, dir).await
    }
}

/// Reads on and throws away: a client that is still sending does not see an answer, and takes the
/// end of the connection for a failure. One that asked whether to send at all does see it.
pub(in crate::http) async fn discard(request: &HeaderMap, mut body: Body) {
    if body.is_end_stream() || request.contains_key(header::EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // The answer goes out either way.
    let _ = tokio::time::timeout(DISCARD, rest).await;
}

/// Only a POST is a form, and one that says nothing of its type should be.
fn is_form(parts: &Parts) -> bool {
    parts.method == Method::POST
        && headers::text(&parts.headers, &header::CONTENT_TYPE)
            .is_none_or(|kind| kind.is_empty() || kind.contains("form-data"))
}

/// Waits for the next piece of a body, within the limit.
pub(super) async fn in_time<T>(next: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(IDLE, next).await.map_err(|_| {
        let text = format!("nothing of the body came for {} seconds", IDLE.as_secs());
        Problem::new(Code::BadRequest, text)
    })
}

/// The parts of a request that say what the body is, for both ways.
pub(super) fn is_gzipped(headers: &HeaderMap) -> bool {
    headers::text(headers, &header::CONTENT_ENCODING)
        .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
}

/// The MD5 that a request or a part announces.
pub(super) fn content_md5(headers: &HeaderMap) -> Option<String> {
    let text = headers::text(headers, &headers::CONTENT_MD5)?;
    (!text.is_empty()).then(|| text.to_owned())
}
