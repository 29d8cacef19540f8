//! `/healthz`, `/readyz`, `/cluster/health` and `/metrics`: for machines that watch this one.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use dulse_shared::wire::{Code, Problem};
use serde::Serialize;

use super::{params::Params, render::json, state::HttpState, view::health_view};

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// The process answers.
pub(super) async fn healthz(uri: Uri) -> Result<Response, Problem> {
    let params = Params::from_query(uri.query());
    json(StatusCode::OK, &params, &Health { status: "alive" })
}

/// The master can serve: a leader is known, the cluster is founded, nothing is stopping.
pub(super) async fn readyz(State(state): State<HttpState>, uri: Uri) -> Result<Response, Problem> {
    if state.tasks.is_stopping() {
        return Err(Problem::new(Code::NotReady, "the master is stopping"));
    }
    let leadership = state.cluster.log.leadership();
    if leadership.leader.is_none() && !leadership.is_leader {
        let message = "no master leads at present: are enough masters running?";
        return Err(Problem::new(Code::NotReady, message));
    }
    state.cluster.cluster_id()?;
    let params = Params::from_query(uri.query());
    json(StatusCode::OK, &params, &Health { status: "ready" })
}

/// How the cluster is, in words and numbers, as this master sees it.
pub(super) async fn cluster_health(
    State(state): State<HttpState>,
    uri: Uri,
) -> Result<Response, Problem> {
    json(StatusCode::OK, &Params::from_query(uri.query()), &health_view(&state))
}

/// All metrics of the process.
pub(super) async fn metrics(State(state): State<HttpState>) -> Response {
    state.metrics.response()
}
