//! DELETE of a needle.
//!
//! A success names the bytes that the needle took, never 0. That nothing was there is said with a
//! size of 0 beside the error, which clients look for.

use axum::{
    Json,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    net::server::SizeBeside,
    wire::{Code, DeleteResponse, Problem},
};

use super::{
    epoch,
    error::{volume_not_here, write_problem},
    needle_path::{self, NeedlePath},
    query::Query,
    state::HttpState,
    write::refuse_replica_traffic,
};
use crate::writer;

/// Deletes the needle that the path names.
pub(super) async fn delete(state: &HttpState, request: &Parts) -> Result<Response, Problem> {
    let path = needle_path::decode(request.uri.path())?;
    let path = NeedlePath::parse(&path)?;
    refuse_replica_traffic(Query::new(request.uri.query()))?;
    let id = path.fid.volume;
    let store = &state.settings.store;
    let Some(volume) = store.volume(id) else {
        return refused(volume_not_here(store, id));
    };
    match writer::delete(&volume, path.fid.key, path.fid.cookie).await {
        Ok(size) => {
            let answer = (StatusCode::ACCEPTED, Json(DeleteResponse { size })).into_response();
            Ok(epoch::stamp(answer, &volume))
        }
        Err(error) => refused(write_problem(path.fid, &error)),
    }
}

fn refused(problem: Problem) -> Result<Response, Problem> {
    match problem.code {
        Code::NotFound | Code::VolumeNotFound => Ok(nothing_deleted(problem)),
        Code::CookieMismatch => {
            // The code stands for 403 on a write; on a delete clients expect 400.
            let mut response = problem.into_response();
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok(response)
        }
        _ => Err(problem),
    }
}

fn nothing_deleted(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.extensions_mut().insert(SizeBeside(0));
    response
}
