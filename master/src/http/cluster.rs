//! The cluster port: heartbeats of volume servers.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use dulse_shared::{
    net::route_table::RouteTable,
    wire::{Code, Heartbeat, HeartbeatAnswer, Problem},
};

use super::state::HttpState;

/// A full report of 100,000 volumes is about 40 MB; more volumes than that a server cannot have.
const MAX_HEARTBEAT_BYTES: usize = 64 << 20;

/// The routes of the cluster port that are not Raft's.
pub(crate) fn cluster_routes(state: HttpState) -> RouteTable {
    RouteTable::new()
        .post("/heartbeat", heartbeat)
        .limit_bodies(MAX_HEARTBEAT_BYTES)
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
