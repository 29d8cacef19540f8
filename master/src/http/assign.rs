//! `/dir/assign`: a fid to write to, or several.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use dulse_shared::wire::{AssignResponse, Problem};

use super::{params::Params, render::json, state::HttpState};
use crate::assign::{AssignRequest, Assignment};

/// Answers `count`, `collection`, `replication`, `ttl` and `disk`; 503 while nothing is writable.
pub(super) async fn assign(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let params = Params::read(head.uri.query(), &head.headers, body).await?;
    let wanted = AssignRequest {
        count: params.count()?,
        key: params.layout_key(state.settings.default_replication)?,
    };
    let assignment = state.assigner.assign(&wanted, &[]).await?;
    json(StatusCode::OK, &params, &answer(assignment))
}

fn answer(assignment: Assignment) -> AssignResponse {
    AssignResponse {
        fid: assignment.fid.to_string(),
        url: assignment.place.url.clone(),
        public_url: assignment.place.public_url.clone(),
        count: assignment.count,
    }
}
