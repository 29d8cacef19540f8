//! The status page. Plain HTML that reads well without a script; nothing comes from elsewhere.

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    size::ByteSize,
    wire::{Code, MasterRole, Problem},
};

use super::{
    params::Params,
    render::json,
    state::HttpState,
    view::{MAX_VOLUMES_SHOWN, StatusView, VolumeView, status_view},
};

const STYLE: &str = include_str!("../../templates/style.css");
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static("default-src 'self'");

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    view: &'a StatusView,
}

impl Page<'_> {
    #[expect(clippy::unused_self, reason = "templates call methods of the page")]
    fn size(&self, bytes: &u64) -> ByteSize {
        ByteSize(*bytes)
    }

    #[expect(clippy::unused_self, reason = "templates call methods of the page")]
    fn role(&self, role: &MasterRole) -> &'static str {
        match role {
            MasterRole::Leader => "leader",
            MasterRole::Follower => "follower",
            MasterRole::Learner => "being taken in",
        }
    }

    fn shown_volumes(&self) -> &[VolumeView] {
        let shown = self.view.volumes.len().min(MAX_VOLUMES_SHOWN);
        self.view.volumes.get(..shown).unwrap_or_default()
    }

    fn hidden_volumes(&self) -> usize {
        self.view.volumes.len().saturating_sub(MAX_VOLUMES_SHOWN)
    }
}

/// The page.
pub(super) async fn page(State(state): State<HttpState>) -> Result<Response, Problem> {
    let view = status_view(&state);
    let html = Page { view: &view }.render().map_err(|error| {
        Problem::new(Code::Internal, format!("the page cannot be rendered: {error}"))
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, html).into_response())
}

/// Its style sheet.
pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
    ];
    (headers, STYLE).into_response()
}

/// The same as data.
pub(super) async fn status_json(
    State(state): State<HttpState>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::from_query(uri.query());
    json(StatusCode::OK, &params, &status_view(&state))
}
