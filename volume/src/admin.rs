//! The volume server's cluster port: what masters ask of it.

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    routing::post,
};
use dulse_shared::wire::{Code, CreateVolume, Problem, VolumeReport};

use crate::{
    reader::on_blocking_pool,
    store::{Store, StoreError},
};

/// The routes of the cluster port.
pub fn cluster_router(store: Store) -> Router {
    Router::new()
        .route("/admin/volume/create", post(create_volume))
        .fallback(async || {
            Problem::new(Code::NoRoute, "there is no such route on the cluster port")
        })
        .with_state(store)
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
            StoreError::Create { .. } | StoreError::Open(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
