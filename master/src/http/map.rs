//! `/cluster/map`: the volume map, or what of it changed since the place that a client is at.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::Response,
};
use dulse_shared::wire::{Code, Problem};

use super::{
    params::{Params, bad_request},
    state::HttpState,
};
use crate::volume_map::Cursor;

/// Answers `since` (the cursor of the last answer): at once if anything changed after it, else when
/// something does, or after `wait` seconds, with nothing. Without `since` it is the whole map.
pub(super) async fn map(State(state): State<HttpState>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::from_query(uri.query());
    // It holds on to the buffer that the request came in: of a client that waits, half of its memory.
    drop(uri);
    let since = params.value("since").map(str::parse::<Cursor>).transpose();
    let since = since.map_err(bad_request)?;
    if let Some(since) = since {
        let mut head = state.cluster.map.watch();
        state.waiters.wait(&params, &mut head, |head| since.is_behind(head)).await?;
    }
    let map = state.cluster.map_since(since).map_err(|error| {
        Problem::new(Code::Internal, format!("the map cannot be written as JSON: {error}"))
    })?;
    let mut response = Response::new(Body::from(map));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
