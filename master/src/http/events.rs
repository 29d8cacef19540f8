//! `/cluster/events`: what this master saw happen.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use dulse_shared::wire::Problem;

use super::{
    params::{Params, bad_request},
    render::json,
    state::HttpState,
};
use crate::event_board::EventCursor;

/// Answers the events after `since` (the cursor of the last answer, or a number): at once if there
/// are any, else with the next one, or with none after `wait` seconds. Without `since` it is all
/// that are remembered.
pub(super) async fn events(State(state): State<HttpState>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::from_query(uri.query());
    // See the volume map: who waits is to hold on to little.
    drop(uri);
    let since = params.value("since").map(str::parse::<EventCursor>).transpose();
    let since = since.map_err(bad_request)?;
    let events = &state.cluster.events;
    if let Some(since) = since {
        let mut last = events.watch();
        state.waiters.wait(&params, &mut last, |last| events.is_behind(since, *last)).await?;
    }
    json(StatusCode::OK, &params, &events.since(since))
}
