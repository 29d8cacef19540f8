//! The cluster port: heartbeats of volume servers, and the requests that they hold open.

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    routing::{get, post},
};
use dulse_shared::wire::{Code, Heartbeat, HeartbeatAnswer, Problem, Watch, WatchAnswer};

use super::state::HttpState;

/// A full report of 100,000 volumes is about 40 MB; more volumes than that a server cannot have.
const MAX_HEARTBEAT_BYTES: usize = 64 << 20;

/// The routes of the cluster port that are not Raft's.
pub(crate) fn cluster_router(state: HttpState) -> Router {
    Router::new()
        .route("/heartbeat", post(heartbeat))
        .route("/watch", get(watch))
        .layer(DefaultBodyLimit::max(MAX_HEARTBEAT_BYTES))
        .with_state(state)
}

async fn heartbeat(
    State(state): State<HttpState>,
    body: Result<Json<Heartbeat>, JsonRejection>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    let Json(heartbeat) = body.map_err(|error| {
        let message = format!("this is no heartbeat that this master understands: {error}");
        Problem::new(Code::BadRequest, message)
    })?;
    state.cluster.check_cluster(&heartbeat)?;
    // Before its volumes are picked: assign must not hand out a key that one of them has.
    state.assigner.keep_above(heartbeat.max_key, &heartbeat.url);
    state.cluster.heartbeat(heartbeat).await.map(Json)
}

async fn watch(
    State(state): State<HttpState>,
    watch: Result<Query<Watch>, QueryRejection>,
) -> Result<Json<WatchAnswer>, Problem> {
    let Query(watch) = watch.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    state.watches.hold(watch).await.map(Json)
}
