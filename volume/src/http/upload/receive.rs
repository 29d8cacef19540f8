//! What an upload is, whichever way it came, and the choice between the two ways.
//!
//! A body that is refused is left where it was: whoever answers reads on.

use axum::http::{HeaderMap, Method, header, request::Parts};
use dulse_shared::{net::incoming::Incoming, wire::Problem};

use super::{
    budget::{Reservation, UploadBudget},
    headers, multipart, raw,
};
use crate::{disk::DataDir, needle_data::NeedleData};

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
    body: &mut Incoming,
    base: &str,
    dir: &'a DataDir,
) -> Result<(Upload, Reservation<'a>), Problem> {
    if is_form(parts) {
        multipart::receive(budget, &parts.headers, body, dir).await
    } else {
        raw::receive(budget, &parts.headers, body, base, dir).await
    }
}

/// Only a POST is a form, and one that says nothing of its type should be.
fn is_form(parts: &Parts) -> bool {
    parts.method == Method::POST
        && headers::text(&parts.headers, &header::CONTENT_TYPE)
            .is_none_or(|kind| kind.is_empty() || kind.contains("form-data"))
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
