//! The routes of the public port.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, Uri},
    response::Response,
    routing::{any, get, post},
};
use dulse_shared::wire::{Code, Problem};

use super::{
    assign, events, grow, health, location_wish::require_known_place, lookup, map, params::Params,
    state::HttpState, status, submit, ui, vacuum,
};

/// Everything that clients and browsers may ask of a master.
pub(crate) fn public_router(state: HttpState) -> Router {
    Router::new()
        .route("/dir/assign", any(assign::assign))
        .route("/dir/lookup", any(lookup::lookup))
        .route("/dir/status", any(status::dir_status))
        .route("/vol/grow", any(grow::grow))
        .route("/vol/vacuum", any(vacuum::vacuum))
        .route("/cluster/status", get(status::cluster_status))
        .route("/cluster/health", get(health::cluster_health))
        .route("/cluster/map", get(map::map))
        .route("/cluster/events", get(events::events))
        .route("/submit", post(submit))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/", get(ui::page))
        .route("/ui", get(ui::page))
        .route("/ui/index.html", get(ui::page))
        .route("/ui/style.css", get(ui::style))
        .route("/ui/status.json", get(ui::status_json))
        .route("/{fid}", any(lookup::redirect))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        // Handlers that read a body limit it themselves.
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

/// A place that does not exist is refused before anything of the file is taken in.
async fn submit(State(state): State<HttpState>, request: Request) -> Result<Response, Problem> {
    let params = Params::from_query(request.uri().query());
    require_known_place(&state, &params.location_wish())?;
    submit::submit(State(state), request).await
}

/// The answer to a path that means nothing here.
pub(super) fn no_route(path: &str) -> Problem {
    let message = format!("there is no {path} here; this is a master, its page is at /ui");
    Problem::new(Code::NoRoute, message)
}

async fn unknown_route(uri: Uri) -> Problem {
    no_route(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let message = match uri.path() {
        "/submit" => {
            format!("/submit takes POST, not {method}: `curl -F file=@FILE` sends a file so")
        }
        path => format!("{path} takes GET, not {method}"),
    };
    Problem::new(Code::MethodNotAllowed, message)
}
