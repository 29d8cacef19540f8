//! Sending a request and reading its answer: JSON of bounded length, or the server's error.

use std::time::Duration;

use dulse_shared::wire::Code;
use reqwest::{RequestBuilder, Response};
use serde::{Deserialize, de::DeserializeOwned};

use crate::error::ClientError;

/// An answer larger than this is no JSON of ours: the largest lists the volumes of a server.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// More of an error than this is not worth reading.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Characters of an error that is not JSON to show.
const SHOWN_CHARACTERS: usize = 200;

/// Sends, waits at most `limit` for the head, and turns error statuses into errors.
pub(crate) async fn send(
    url: &str,
    request: RequestBuilder,
    limit: Duration,
) -> Result<Response, ClientError> {
    let sent = tokio::time::timeout(limit, request.send()).await;
    let response = match sent {
        Ok(response) => response.map_err(|error| ClientError::unreachable(url, &error))?,
        Err(_) => return Err(too_slow(url, limit)),
    };
    if response.status().is_success() {
        return Ok(response);
    }
    Err(refusal(url, response, limit).await)
}

/// Sends and reads a JSON answer, both within `limit`.
pub(crate) async fn fetch_json<A: DeserializeOwned>(
    url: &str,
    request: RequestBuilder,
    limit: Duration,
) -> Result<A, ClientError> {
    let response = send(url, request, limit).await?;
    read_json(url, response, limit).await
}

/// Reads a JSON answer.
pub(crate) async fn read_json<A: DeserializeOwned>(
    url: &str,
    response: Response,
    limit: Duration,
) -> Result<A, ClientError> {
    let body = read_body(url, response, MAX_ANSWER_BYTES, limit).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ClientError::Unreadable { url: url.to_owned(), reason: error.to_string() })
}

async fn read_body(
    url: &str,
    mut response: Response,
    max_bytes: usize,
    limit: Duration,
) -> Result<Vec<u8>, ClientError> {
    let read = async {
        let mut body = Vec::new();
        let unreachable = |error| ClientError::unreachable(url, &error);
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > max_bytes {
                return Err(ClientError::Unreadable {
                    url: url.to_owned(),
                    reason: format!("it is longer than {max_bytes} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    match tokio::time::timeout(limit, read).await {
        Ok(body) => body,
        Err(_) => Err(too_slow(url, limit)),
    }
}

pub(crate) fn too_slow(url: &str, limit: Duration) -> ClientError {
    ClientError::Unreachable { url: url.to_owned(), reason: format!("no answer within {limit:?}") }
}

/// The error body, read leniently: a proxy in between has its own.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    code: serde_json::Value,
}

async fn refusal(url: &str, response: Response, limit: Duration) -> ClientError {
    let status = response.status().as_u16();
    let body = read_body(url, response, MAX_ERROR_BYTES, limit).await;
    let body = body.unwrap_or_default();
    let (code, message) = match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => (serde_json::from_value::<Code>(refusal.code).ok(), refusal.error),
        Err(_) => (None, shown(&body)),
    };
    ClientError::Refused { url: url.to_owned(), status, code, message }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return "no reason given".to_owned();
    }
    words.join(" ").chars().take(SHOWN_CHARACTERS).collect()
}
