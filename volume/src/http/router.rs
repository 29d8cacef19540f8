//! Which request goes where. One handler for all: the path of a needle is no pattern that a router
//! would match faster than a look at its first character.
//!
//! Browsers of other origins are answered here, for every route alike. Request ids, error bodies
//! and metrics are added further out, by the listener.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    net::{incoming::Incoming, server::Answer},
    wire::{Code, Problem},
};

use super::{delete, epoch, pages, read, state::HttpState, write};

/// Verbs that a browser is told of.
const VERBS: HeaderValue = HeaderValue::from_static("PUT, POST, GET, DELETE, OPTIONS");

/// The public port.
#[derive(Clone, Debug)]
pub struct PublicPort {
    state: HttpState,
}

impl PublicPort {
    /// What answers there.
    pub fn new(state: HttpState) -> Self {
        Self { state }
    }
}

impl Answer for PublicPort {
    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let has_origin = parts.headers.contains_key(header::ORIGIN);
        let routed = route(&self.state, &parts, body).await;
        let mut response = routed.unwrap_or_else(Problem::into_response);
        if has_origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            let credentials = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        }
        response
    }
}

async fn route(state: &HttpState, request: &Parts, body: Body) -> Result<Response, Problem> {
    if request.method == Method::OPTIONS {
        return Ok(options());
    }
    if let Some(page) = pages::find(request.uri.path()) {
        return pages::answer(state, request, page);
    }
    if let Some(refusal) = epoch::refusal(state, &request.headers) {
        Incoming::new(&request.headers, body).discard().await;
        return Ok(refusal);
    }
    match request.method {
        Method::GET | Method::HEAD => read::read(state, request).await,
        Method::PUT | Method::POST => write::write(state, request, body).await,
        Method::DELETE => delete::delete(state, request).await,
        ref other => {
            let text = format!("unsupported method {other}: use GET, HEAD, PUT, POST or DELETE");
            Err(Problem::new(Code::BadRequest, text))
        }
    }
}

fn options() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, VERBS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")),
    ];
    (StatusCode::OK, headers).into_response()
}
