//! `/dir/assign`: a fid to write to, or several.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use dulse_shared::wire::{AssignResponse, Problem};

use super::{
    location_wish::require_known_place,
    params::{Params, bad_request},
    render::json,
    state::HttpState,
};
use crate::assign::Assignment;

/// Answers `count`, `collection`, `replication`, `ttl`, `disk`, `dataCenter`, `rack`, `dataNode` and
/// `writableVolumeCount`; 503 while nothing is writable.
pub(super) async fn assign(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    refuse_multipart(&head.headers)?;
    let params = Params::read(head.uri.query(), &head.headers, body).await?;
    let wanted = params.assign_request(state.settings.default_replication)?;
    require_known_place(&state, &wanted.wish)?;
    let assignment = state.assign(&wanted, &[]).await?;
    json(StatusCode::OK, &params, &answer(assignment))
}

/// Whoever sends parameters in such a form would get one fid where it asked for five.
fn refuse_multipart(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/")) {
        return Ok(());
    }
    let message = "/dir/assign takes its parameters from the query or an urlencoded body, not from \
                   a multipart form: with curl, use -d instead of -F";
    Err(bad_request(message))
}

fn answer(assignment: Assignment) -> AssignResponse {
    AssignResponse {
        fid: assignment.fid.to_string(),
        url: assignment.place.url.clone(),
        public_url: assignment.place.public_url.clone(),
        count: assignment.count,
    }
}
