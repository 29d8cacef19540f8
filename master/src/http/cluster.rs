//! The cluster port: heartbeats of volume servers, and the requests that they hold open.

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use dulse_shared::{
    net::route_table::RouteTable,
    wire::{
        ChangeMasters, Code, Heartbeat, HeartbeatAnswer, Masters, Problem, RecoveryReport,
        StartRecovery, Watch, WatchAnswer,
    },
};

use super::state::{HttpState, Serving};
use crate::{
    assign::Assignment,
    leader::{self, ASSIGN, AssignCall, GROW, GrowCall, Grown, MASTERS},
    recovery::{self, RECOVER},
};

/// A full report of 100,000 volumes is about 40 MB; more volumes than that a server cannot have.
const MAX_HEARTBEAT_BYTES: usize = 64 << 20;

/// Everything else.
const MAX_SMALL_BYTES: usize = 64 << 10;

/// The routes of the cluster port that are not Raft's.
pub(crate) fn cluster_routes(state: HttpState) -> RouteTable {
    let heartbeats =
        RouteTable::new().post("/heartbeat", heartbeat).limit_bodies(MAX_HEARTBEAT_BYTES);
    let small = RouteTable::new()
        .post(ASSIGN, assign)
        .post(GROW, grow)
        .post(MASTERS, change_masters_here)
        .post(RECOVER, recover_here)
        .post("/admin/recover", recover)
        .get("/admin/masters", masters)
        .post("/admin/masters", change_masters)
        .get("/watch", watch)
        .limit_bodies(MAX_SMALL_BYTES);
    heartbeats.merge(small).with_state(state)
}

/// For a master that does not lead.
async fn assign(
    State(state): State<HttpState>,
    body: Result<Json<AssignCall>, JsonRejection>,
) -> Result<Json<Assignment>, Problem> {
    let AssignCall { request, avoid } = understood(body, "assign")?;
    // Not passed on once more: whoever asks finds the leader by itself.
    state.assigner.assign(&request, &avoid).await.map(Json)
}

/// For a master that does not lead.
async fn grow(
    State(state): State<HttpState>,
    body: Result<Json<GrowCall>, JsonRejection>,
) -> Result<Json<Grown>, Problem> {
    let call = understood(body, "growth")?;
    state.cluster.log.require_leadership()?;
    leader::grow(&state.assigner, &call).await.map(Json)
}

/// All masters.
async fn masters(State(state): State<HttpState>) -> Json<Masters> {
    Json(Masters { masters: state.cluster.log.masters() })
}

/// Changes the masters, whichever of them is asked.
async fn change_masters(
    State(state): State<HttpState>,
    body: Result<Json<ChangeMasters>, JsonRejection>,
) -> Result<Json<Masters>, Problem> {
    let asked = understood(body, "change of masters")?;
    leader::change_masters_anywhere(&state.cluster, &state.peers, &asked).await.map(Json)
}

/// The same for a master that does not lead.
async fn change_masters_here(
    State(state): State<HttpState>,
    body: Result<Json<ChangeMasters>, JsonRejection>,
) -> Result<Json<Masters>, Problem> {
    let asked = understood(body, "change of masters")?;
    leader::change_masters(&state.cluster, asked).await.map(Json)
}

/// Recovers the masters' state, whichever of them is asked.
async fn recover(
    State(state): State<HttpState>,
    body: Result<Json<StartRecovery>, JsonRejection>,
) -> Result<Json<RecoveryReport>, Problem> {
    let asked = understood(body, "recovery")?;
    let Serving { cluster, assigner, peers, .. } = &*state;
    recovery::recover_anywhere(cluster, assigner, peers, &asked).await.map(Json)
}

/// The same for a master that does not lead.
async fn recover_here(
    State(state): State<HttpState>,
    body: Result<Json<StartRecovery>, JsonRejection>,
) -> Result<Json<RecoveryReport>, Problem> {
    let asked = understood(body, "recovery")?;
    let Serving { cluster, assigner, peers, .. } = &*state;
    recovery::recover(cluster, assigner, peers, &asked).await.map(Json)
}

async fn heartbeat(
    State(state): State<HttpState>,
    body: Result<Json<Heartbeat>, JsonRejection>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    let heartbeat = understood(body, "heartbeat")?;
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

/// What a body says, if it is a `what`.
fn understood<T>(body: Result<Json<T>, JsonRejection>, what: &str) -> Result<T, Problem> {
    body.map(|Json(said)| said).map_err(|error| {
        let message = format!("this is no {what} that this master understands: {error}");
        Problem::new(Code::BadRequest, message)
    })
}
