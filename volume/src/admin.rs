//! The volume server's cluster port: what masters and operators ask of it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use dulse_shared::{
    id::VolumeId,
    net::route_table::RouteTable,
    wire::{
        Code, CreateVolume, HeldVolumes, Incarnation, Problem, ScrubReport, ServerIdentity,
        StartScrub, StartVacuum, VacuumReport, VolumeReport,
    },
};
use serde::Deserialize;

use crate::{
    maintenance::Maintenance,
    masters::Board,
    reader::on_blocking_pool,
    store::{Store, StoreError},
};

/// The routes of the cluster port.
pub(crate) fn cluster_routes(
    store: Store,
    maintenance: Maintenance,
    board: Arc<Board>,
    incarnation: Incarnation,
) -> RouteTable {
    let jobs = RouteTable::new()
        .post("/admin/scrub", start_scrub)
        .get("/admin/scrub", scrub_report)
        .post("/admin/vacuum", start_vacuum)
        .get("/admin/vacuum", vacuum_report)
        .with_state(maintenance);
    let identity = ServerIdentity { server: store.server(), incarnation };
    let held =
        RouteTable::new().get("/admin/volumes", held_volumes).with_state((store.clone(), board));
    RouteTable::new()
        .get("/admin/identity", async move || Json(identity))
        .post("/admin/volume/create", create_volume)
        .with_state(store)
        .merge(jobs)
        .merge(held)
}

async fn start_scrub(
    State(maintenance): State<Maintenance>,
    request: Result<Json<StartScrub>, JsonRejection>,
) -> Result<Json<ScrubReport>, Problem> {
    let Json(StartScrub { volume }) =
        request.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(maintenance.start_scrub(volume)))
}

/// Which volumes are asked about.
#[derive(Deserialize)]
struct Which {
    volume: Option<VolumeId>,
}

async fn scrub_report(
    State(maintenance): State<Maintenance>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<ScrubReport>, Problem> {
    let Query(Which { volume }) =
        which.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(maintenance.scrub_report(volume)))
}

async fn start_vacuum(
    State(maintenance): State<Maintenance>,
    request: Result<Json<StartVacuum>, JsonRejection>,
) -> Result<Json<VacuumReport>, Problem> {
    let Json(asked) = request.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(maintenance.start_vacuum(asked)))
}

async fn vacuum_report(
    State(maintenance): State<Maintenance>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<VacuumReport>, Problem> {
    let Query(Which { volume }) =
        which.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(maintenance.vacuum_report(volume)))
}

/// Reads a file for each volume.
async fn held_volumes(
    State((store, board)): State<(Store, Arc<Board>)>,
) -> Result<Json<HeldVolumes>, Problem> {
    let masters = board.answering();
    let held = on_blocking_pool(move || Ok(store.held_volumes(masters)));
    held.await.map(Json).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

async fn create_volume(
    State(store): State<Store>,
    request: Result<Json<CreateVolume>, JsonRejection>,
) -> Result<Json<VolumeReport>, Problem> {
    let Json(CreateVolume { cluster, config }) =
        request.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let created = on_blocking_pool(move || Ok(store.create(cluster, config)));
    let created = created.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(Json(created?.report()))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NoCluster => Code::NotReady,
            StoreError::OtherCluster { .. } => Code::OtherCluster,
            StoreError::NoRoom(_) => Code::VolumeFull,
            StoreError::Exists(_) => Code::Conflict,
            StoreError::Create { .. } => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
