//! JSON answers: compact, or indented by two spaces where the request has `pretty`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use dulse_shared::wire::{Code, Problem};
use serde::Serialize;

use super::params::Params;

/// An answer with a JSON body.
pub(super) fn json(
    status: StatusCode,
    params: &Params,
    value: &impl Serialize,
) -> Result<Response, Problem> {
    let text = if params.has("pretty") {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    let text = text.map_err(|error| {
        let message = format!("the answer cannot be written as JSON: {error}");
        Problem::new(Code::Internal, message)
    })?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
