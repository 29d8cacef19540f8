//! GET and HEAD of a needle.
//!
//! A small needle is verified before its first byte leaves; of a large one the last chunk leaves
//! only when the whole was right. HEAD always tells the length without compression.

use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use dulse_shared::wire::{Code, Problem};
use futures_util::stream;

use super::{
    byte_ranges::{Boundary, content_range, cut, frame},
    conditional::Validators,
    content_headers::{Described, OCTET_STREAM, etag},
    epoch,
    error::{read_problem, volume_not_here},
    gunzip,
    needle_path::{self, NeedlePath},
    query::Query,
    range::{Selection, select},
    state::HttpState,
};
use crate::{
    format::NeedleMeta,
    large_needle::LargeNeedle,
    reader::{Found, read_needle},
};

/// More gzip than this is decompressed on the blocking pool: it takes a millisecond.
const INLINE_GUNZIP_BYTES: usize = 4 << 10;
/// What says whether data looks like gzip lies in its first bytes.
const GZIP_MAGIC_BYTES: u64 = 2;

/// Answers with the needle that the path names.
pub(super) async fn read(state: &HttpState, request: &Parts) -> Result<Response, Problem> {
    let path = needle_path::decode(request.uri.path())?;
    let path = NeedlePath::parse(&path)?;
    let id = path.fid.volume;
    let store = &state.settings.store;
    let volume = store.volume(id).ok_or_else(|| volume_not_here(store, id))?;
    let found = read_needle(&volume, path.fid.key, path.fid.cookie).await;
    let answer = match found.map_err(|error| read_problem(path.fid, &error))? {
        Found::Whole(needle) => {
            let etag = etag(needle.checksum);
            let answer = Answer::new(request, path, &needle.meta, &etag);
            answer.with_data(needle.data).await
        }
        Found::Large(needle) => {
            let etag = etag(needle.checksum());
            let meta = needle.meta().clone();
            Answer::new(request, path, &meta, &etag).with_stream(needle).await
        }
    };
    answer.map(|answer| epoch::stamp(answer, &volume))
}

/// One request for one needle.
struct Answer<'a> {
    request: &'a Parts,
    described: Described<'a>,
}

impl<'a> Answer<'a> {
    fn new(request: &'a Parts, path: NeedlePath<'a>, meta: &'a NeedleMeta, etag: &'a str) -> Self {
        let validators = Validators { etag, last_modified_secs: meta.last_modified_secs };
        let query = Query::new(request.uri.query());
        Self { request, described: Described { meta, validators, path, query } }
    }

    async fn with_data(&self, data: Bytes) -> Result<Response, Problem> {
        if self.is_not_modified() {
            return Ok(self.not_modified());
        }
        let mut headers = self.described.headers();
        if !self.described.meta.is_gzipped || !gunzip::is_gzip(&data) {
            return self.content(headers, data);
        }
        if self.takes_gzip(&mut headers) {
            return self.content(headers, data);
        }
        let zipped = data.clone();
        let plain = if data.len() <= INLINE_GUNZIP_BYTES {
            gunzip::collect(&zipped, gunzip::MAX_COLLECTED_BYTES)
        } else {
            gunzip::with_a_core(move || gunzip::collect(&zipped, gunzip::MAX_COLLECTED_BYTES)).await
        };
        match plain.map_err(|error| self.broken_gzip(&error))? {
            Some(plain) => self.content(headers, plain),
            None => self.decompressed(headers, stream::iter([Ok(data)])).await,
        }
    }

    async fn with_stream(&self, needle: LargeNeedle) -> Result<Response, Problem> {
        if self.is_not_modified() {
            return Ok(self.not_modified());
        }
        let mut headers = self.described.headers();
        if self.is_really_gzipped(&needle).await? && !self.takes_gzip(&mut headers) {
            return self.decompressed(headers, needle.stream()).await;
        }
        let len = needle.data_len();
        if self.is_head() {
            return Ok(head_only(headers, len));
        }
        match self.selection(len) {
            Selection::Unsatisfiable => Ok(unsatisfiable(len)),
            Selection::Parts(parts) if parts.len() == 1 => {
                let range = parts.into_iter().next().unwrap_or(0..len);
                self.large_part(headers, needle, range).await
            }
            // Several parts would each verify the whole: it is sent instead, as it may be.
            Selection::Parts(_) | Selection::Whole => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
                Ok(respond(StatusCode::OK, headers, Body::from_stream(needle.stream())))
            }
        }
    }

    /// Other programs flag some data that is no gzip. The bytes looked at are not verified yet: if
    /// they are wrong, so is the checksum, and the stream ends with an error either way.
    async fn is_really_gzipped(&self, needle: &LargeNeedle) -> Result<bool, Problem> {
        if !self.described.meta.is_gzipped {
            return Ok(false);
        }
        let start = needle.start(GZIP_MAGIC_BYTES).await;
        let start = start.map_err(|error| read_problem(self.described.path.fid, &error))?;
        Ok(gunzip::is_gzip(&start))
    }

    async fn large_part(
        &self,
        mut headers: HeaderMap,
        needle: LargeNeedle,
        range: Range<u64>,
    ) -> Result<Response, Problem> {
        add_content_range(&mut headers, &range, needle.data_len());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        let fid = self.described.path.fid;
        let part = needle.stream_range(range).await.map_err(|error| read_problem(fid, &error))?;
        Ok(respond(StatusCode::PARTIAL_CONTENT, headers, Body::from_stream(part)))
    }

    /// Data that is at hand, all of it or the parts asked for.
    fn content(&self, mut headers: HeaderMap, data: Bytes) -> Result<Response, Problem> {
        let len = data.len() as u64;
        if self.is_head() {
            return Ok(head_only(headers, len));
        }
        match self.selection(len) {
            Selection::Whole => Ok(respond(StatusCode::OK, headers, Body::from(data))),
            Selection::Unsatisfiable => Ok(unsatisfiable(len)),
            Selection::Parts(parts) => {
                let body = match parts.as_slice() {
                    [range] => {
                        add_content_range(&mut headers, range, len);
                        cut(&data, range)
                    }
                    parts => several(&mut headers, &data, parts),
                };
                Ok(respond(StatusCode::PARTIAL_CONTENT, headers, Body::from(body)))
            }
        }
    }

    /// Gzipped data too long to decompress in memory: a stream whose length nobody knows, and of
    /// which there are no parts.
    async fn decompressed<S>(&self, mut headers: HeaderMap, zipped: S) -> Result<Response, Problem>
    where
        S: stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        if self.is_head() {
            let len = gunzip::measure_stream(zipped).await;
            return Ok(head_only(headers, len.map_err(|error| self.broken_gzip(&error))?));
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        let body = Body::from_stream(gunzip::decompress(zipped));
        Ok(respond(StatusCode::OK, headers, body))
    }

    fn selection(&self, len: u64) -> Selection {
        let range = self.request.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        match range {
            Some(range) if self.described.validators.range_counts(&self.request.headers) => {
                select(range, len)
            }
            _ => Selection::Whole,
        }
    }

    /// Whether gzipped bytes may be sent as they are; the headers then say so.
    fn takes_gzip(&self, headers: &mut HeaderMap) -> bool {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let takes = !self.is_head() && accepts_gzip(&self.request.headers);
        if takes {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        takes
    }

    fn is_head(&self) -> bool {
        self.request.method == Method::HEAD
    }

    fn is_not_modified(&self) -> bool {
        self.described.validators.is_not_modified(&self.request.headers)
    }

    fn not_modified(&self) -> Response {
        // A body of unknown length, so that no Content-Length is added: it would have to be that
        // of the needle.
        let body = Body::from_stream(stream::empty::<std::io::Result<Bytes>>());
        respond(StatusCode::NOT_MODIFIED, self.described.headers_without_content(), body)
    }

    fn broken_gzip(&self, error: &std::io::Error) -> Problem {
        let fid = self.described.path.fid;
        let text = format!(
            "needle {fid} is stored as gzip, which cannot be undone: {error}; ask for it with \
             Accept-Encoding: gzip to get the stored bytes"
        );
        Problem::new(Code::Corrupt, text)
    }
}

/// A response that takes the headers as they are, where a tuple would add them one by one.
fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn head_only(mut headers: HeaderMap, len: u64) -> Response {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    respond(StatusCode::OK, headers, Body::empty())
}

fn add_content_range(headers: &mut HeaderMap, range: &Range<u64>, len: u64) {
    if let Ok(value) = HeaderValue::try_from(content_range(range, len)) {
        headers.insert(header::CONTENT_RANGE, value);
    }
}

/// The parts as one body, whose type replaces that of the needle.
fn several(headers: &mut HeaderMap, data: &Bytes, parts: &[Range<u64>]) -> Bytes {
    let boundary = Boundary::random();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let body = frame(data, parts, kind.unwrap_or(OCTET_STREAM), boundary);
    let kind = format!("multipart/byteranges; boundary={boundary}");
    if let Ok(kind) = HeaderValue::try_from(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    body
}

fn unsatisfiable(len: u64) -> Response {
    let text = format!("no byte of the range exists: the needle has {len}");
    let mut response = Problem::new(Code::RangeNotSatisfiable, text).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{len}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// Whether the client takes gzip: named, or by star, and not with a weight of 0.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    codings.any(|coding| {
        let mut fields = coding.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let weight = fields.find_map(|field| field.strip_prefix("q="));
        let is_refused =
            weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        !is_refused && (name == "*" || name.eq_ignore_ascii_case("gzip"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_name_or_star_unless_its_weight_is_zero() {
        for (value, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, br", false),
            ("identity", false),
            ("", false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), takes, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
