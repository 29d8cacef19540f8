//! Writing a needle: assign, PUT, and another fid when that one cannot be written.
//!
//! A fresh fid for each attempt is what makes repeating safe: whatever became of the attempt
//! before, nobody was told its fid. What the server says it stored is compared with what was read.

use std::{fmt, sync::Arc, time::Duration};

use dulse_shared::{id::Fid, wire::UploadResponse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Body, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    answer::{read_json, send},
    client::{AssignOptions, Client},
    error::ClientError,
    retry::Backoff,
    source::{Source, Tally},
};

/// A server may keep an upload waiting for a minute before it says that it is overloaded.
const UPLOAD_BASE_LIMIT: Duration = Duration::from_secs(90);
/// A link slower than this many bytes a second is given up.
const SLOWEST_LINK: u64 = 128 << 10;

/// Called with the bytes sent so far; starts again from 0 when an upload is repeated.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What to store with the bytes.
#[derive(Clone, Default)]
pub struct UploadOptions {
    /// Where it may go. Its count is not used: an upload takes one fid.
    pub assign: AssignOptions,
    /// A file name; decides the content type on reading, unless `mime` does.
    pub name: Option<String>,
    /// A content type.
    pub mime: Option<String>,
    /// Who wants to know how far it got.
    pub progress: Option<Progress>,
}

impl fmt::Debug for UploadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadOptions")
            .field("assign", &self.assign)
            .field("name", &self.name)
            .field("mime", &self.mime)
            .finish_non_exhaustive()
    }
}

/// A needle that is stored, durably.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stored {
    /// What to ask for.
    #[serde(serialize_with = "as_text")]
    pub fid: Fid,
    /// Where it can be fetched now.
    pub url: String,
    /// The name stored with it; empty if it has none.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// CRC-32C of its bytes, 8 hex digits.
    #[serde(rename = "eTag")]
    pub etag: String,
}

fn as_text<S: serde::Serializer>(fid: &Fid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fid)
}

impl Client {
    /// Stores bytes under a new fid. Servers that fail or refuse for the moment are passed over
    /// with another fid, a few times.
    ///
    /// Errors: [`ClientError::TooLarge`], [`ClientError::Source`], what the servers refuse for
    /// good, and the last failure when attempts are used up.
    pub async fn upload(
        &self,
        source: &Source,
        options: &UploadOptions,
    ) -> Result<Stored, ClientError> {
        source.check_size()?;
        let assign = AssignOptions { count: 1, ..options.assign.clone() };
        let mut backoff = Backoff::default();
        loop {
            let assigned = self.assign(&assign).await?;
            let error = match self.put(&assigned.public_url, assigned.fid, source, options).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            let pause = backoff.next_pause(rand::random());
            let Some(pause) = pause.filter(|_| error.calls_for_another_fid()) else {
                return Err(error);
            };
            self.forget(assigned.fid.volume);
            tokio::time::sleep(pause).await;
        }
    }

    /// One PUT of a fid at a volume server, `host:port`.
    async fn put(
        &self,
        server: &str,
        fid: Fid,
        source: &Source,
        options: &UploadOptions,
    ) -> Result<Stored, ClientError> {
        let url = format!("http://{server}/{fid}");
        let tally = Arc::new(Tally::new(options.progress.clone()));
        let limit = UPLOAD_BASE_LIMIT + Duration::from_secs(source.len() / SLOWEST_LINK);
        let mut request = self
            .http()
            .put(&url)
            .header(header::CONTENT_LENGTH, source.len())
            .body(Body::wrap_stream(source.stream(tally.clone())));
        if !options.assign.ttl.is_none() {
            request = request.query(&[("ttl", options.assign.ttl.to_string())]);
        }
        if let Some(mime) = &options.mime {
            request = request.header(header::CONTENT_TYPE, mime);
        }
        if let Some(name) = &options.name {
            request = request.header(header::CONTENT_DISPOSITION, disposition(name));
        }
        let response = send(&url, request, limit).await;
        if let Some(reason) = tally.failure() {
            return Err(source.failed(reason));
        }
        let answer = read_answer(&url, response?, limit).await?;
        confirm(fid, &url, source, &tally, answer)
    }
}

/// An unchanged needle (204) is answered without a body; its `ETag` is there all the same.
async fn read_answer(
    url: &str,
    response: Response,
    limit: Duration,
) -> Result<UploadResponse, ClientError> {
    let etag = response.headers().get(header::ETAG);
    let etag = etag.and_then(|etag| etag.to_str().ok());
    let etag = etag.unwrap_or_default().trim_matches('"').to_owned();
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(UploadResponse { etag, ..UploadResponse::default() });
    }
    read_json(url, response, limit).await
}

/// The server's checksum is of what it stored: equal to ours, or something changed on the way.
fn confirm(
    fid: Fid,
    url: &str,
    source: &Source,
    tally: &Tally,
    answer: UploadResponse,
) -> Result<Stored, ClientError> {
    let arrived = u32::from_str_radix(&answer.etag, 16).map_err(|_| ClientError::Unreadable {
        url: url.to_owned(),
        reason: format!("{:?} is no checksum of 8 hex digits", answer.etag),
    })?;
    if arrived != tally.crc() {
        return Err(ClientError::Damaged { fid, stored: tally.crc(), arrived });
    }
    Ok(Stored {
        fid,
        url: url.to_owned(),
        name: answer.name,
        size: source.len(),
        etag: answer.etag,
    })
}

/// What RFC 8187 lets stand unescaped.
const ATTRIBUTE: AsciiSet = NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'+')
    .remove(b'$')
    .remove(b'&')
    .remove(b'#');

/// The `Content-Disposition` that carries a file name: quoted where that is exact, else in the
/// extended form.
fn disposition(name: &str) -> String {
    let is_plain =
        name.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
    if is_plain {
        return format!("attachment; filename=\"{name}\"");
    }
    let escaped = utf8_percent_encode(name, &ATTRIBUTE);
    format!("attachment; filename*=UTF-8''{escaped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_or_escaped() {
        assert_eq!(disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(disposition("ü\"\n.txt"), "attachment; filename*=UTF-8''%C3%BC%22%0A.txt");
    }
}
