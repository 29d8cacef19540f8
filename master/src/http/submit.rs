//! `/submit`: assign and upload in one request.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use bytes::Bytes;
use dulse_shared::{
    net::incoming::Incoming,
    wire::{Problem, SubmitResponse, UploadResponse},
};

use super::{
    client_body::ClientBody,
    params::Params,
    relay::{RelayError, Target, Upload},
    render::json,
    state::HttpState,
};
use crate::assign::{AssignRequest, Assignment};

/// Volumes that a kept body is offered to, the first one included. A layout grows by up to seven
/// at a time; if several refuse, something is wrong that another one does not mend.
const MAX_VOLUMES_TRIED: usize = 4;

/// Stores the body, multipart or raw, under a new fid. Parameters come from the query alone.
pub(super) async fn submit(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = ClientBody::new(Incoming::new(&head.headers, body));
    let answer = assign_and_send(&state, &head, &body).await;
    if answer.is_err() {
        body.discard().await;
    }
    answer
}

async fn assign_and_send(
    state: &HttpState,
    head: &Parts,
    body: &ClientBody,
) -> Result<Response, Problem> {
    let params = Params::from_query(head.uri.query());
    let wanted = params.assign_request(state.settings.default_replication)?;
    let max_needle_bytes = state.settings.max_needle_bytes;
    let upload = state.relay.receive(&head.headers, body, max_needle_bytes).await?;
    let stamp = params.value("ts");
    let (assignment, stored) = match upload {
        Upload::Kept { bytes, _permit } => {
            offer_around(state, &wanted, &head.headers, stamp, &bytes).await?
        }
        Upload::Streamed { body, length, max_needle_bytes } => {
            let assignment = state.assign(&wanted, &[]).await?;
            let target = target(&assignment, &head.headers, stamp);
            let sent = state.relay.send_streamed(&target, body, length, max_needle_bytes);
            let stored = sent.await?;
            (assignment, stored)
        }
    };
    json(StatusCode::CREATED, &params, &answer(&assignment, stored))
}

/// Tries one volume after another while they refuse.
async fn offer_around(
    state: &HttpState,
    wanted: &AssignRequest,
    headers: &HeaderMap,
    stamp: Option<&str>,
    bytes: &Bytes,
) -> Result<(Assignment, UploadResponse), Problem> {
    let mut refused = Vec::new();
    loop {
        let assignment = state.assign(wanted, &refused).await?;
        let target = target(&assignment, headers, stamp);
        match state.relay.send_kept(&target, bytes.clone()).await {
            Ok(stored) => return Ok((assignment, stored)),
            Err(RelayError::TryAnother(problem)) => {
                refused.push(assignment.fid.volume);
                if refused.len() >= MAX_VOLUMES_TRIED {
                    return Err(problem);
                }
            }
            Err(RelayError::Final(problem)) => return Err(problem),
        }
    }
}

fn target<'a>(
    assignment: &'a Assignment,
    headers: &'a HeaderMap,
    stamp: Option<&'a str>,
) -> Target<'a> {
    Target { place: &assignment.place, fid: assignment.fid, stamp, headers }
}

fn answer(assignment: &Assignment, stored: UploadResponse) -> SubmitResponse {
    SubmitResponse {
        etag: stored.etag,
        fid: assignment.fid.to_string(),
        file_name: stored.name,
        file_url: format!("{}/{}", assignment.place.public_url, assignment.fid),
        size: stored.size,
    }
}
