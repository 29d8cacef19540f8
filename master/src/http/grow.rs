//! `/vol/grow`: makes volumes before anybody needs them.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use dulse_shared::wire::Problem;

use super::{
    location_wish::require_known_place,
    params::{Params, bad_request},
    render::json,
    state::HttpState,
};
use crate::{
    leader::{GrowCall, grow_anywhere},
    plan::growth::MAX_ASKED,
};

/// Makes `count` volumes of a layout, all of them or none.
pub(super) async fn grow(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let params = Params::read(head.uri.query(), &head.headers, body).await?;
    let key = params.layout_key(state.settings.default_replication)?;
    let wish = params.location_wish();
    let volumes = volume_count(&params)?;
    require_known_place(&state, &wish)?;
    let call = GrowCall { key, wish, volumes };
    let grown = grow_anywhere(&state.cluster, &state.assigner, &state.peers, &call).await?;
    json(StatusCode::OK, &params, &grown)
}

fn volume_count(params: &Params) -> Result<usize, Problem> {
    let asked = params.value("count").unwrap_or_default();
    let count: Option<usize> = asked.parse().ok().filter(|count| (1..=MAX_ASKED).contains(count));
    count.ok_or_else(|| {
        let message = format!(
            "how many volumes? pass count, a number from 1 to {MAX_ASKED}, as in \
             /vol/grow?count=4; it is {asked:?}"
        );
        bad_request(message)
    })
}
