//! PUT and POST of a needle.
//!
//! The answer 201 is given once the needle is durable; 204 says that the very same needle was
//! there already. Everything that can be refused is refused before the body is read.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use dulse_shared::{
    id::Ttl,
    net::incoming::Incoming,
    wire::{Code, Problem, UploadResponse},
};
use tokio::sync::oneshot;

use super::{
    content_headers, epoch,
    error::{volume_not_here, write_problem},
    needle_path::{self, NeedlePath},
    query::Query,
    state::HttpState,
    upload::{self, Room, Upload},
};
use crate::{
    engine::{volume::Volume, write::WriteError},
    format::{DataLen, NeedleMeta, NewNeedle},
    needle_data::NeedleData,
    writer::{self, PutOutcome},
};

/// A needle up to this long is not worth a task: a full queue of them is a gigabyte.
const ATTACHED_BYTES: u64 = 64 << 10;

/// Stores the needle that the path names.
pub(super) async fn write(
    state: &HttpState,
    request: &Parts,
    body: Body,
) -> Result<Response, Problem> {
    let mut body = Incoming::new(&request.headers, body);
    let answer = store(state, request, &mut body).await;
    if answer.is_err() {
        body.discard().await;
    }
    answer
}

async fn store(
    state: &HttpState,
    request: &Parts,
    body: &mut Incoming,
) -> Result<Response, Problem> {
    let path = needle_path::decode(request.uri.path())?;
    let (path, volume, options) = target(state, request, &path)?;
    let (mut upload, room) =
        upload::receive(&state.uploads, request, body, path.base, volume.dir()).await?;
    let file_len = upload.inspect().await?;
    let needle = NewNeedle {
        key: path.fid.key,
        cookie: path.fid.cookie,
        data: std::mem::take(&mut upload.data),
        checksum: upload.checksum,
        meta: options.meta(&upload, &request.headers, &volume),
    };
    let is_time_given = options.ts.is_some();
    let outcome = if needle.data.data_len() <= ATTACHED_BYTES {
        writer::put(&volume, needle, is_time_given).await
    } else {
        put_detached(state, volume.clone(), needle, is_time_given, room.into_room()).await
    };
    let answer = match outcome.map_err(|error| write_problem(path.fid, &error))? {
        PutOutcome::Stored => stored(upload, file_len)?,
        PutOutcome::Unchanged => unchanged(&upload),
    };
    Ok(epoch::stamp(answer, &volume))
}

/// Stores a needle whose room is taken until it is written, even if the client goes away: its bytes
/// are in memory or in a spool file until then.
async fn put_detached(
    state: &HttpState,
    volume: Arc<Volume>,
    needle: NewNeedle<NeedleData>,
    is_time_given: bool,
    room: Room,
) -> Result<PutOutcome, WriteError> {
    let (answer, answered) = oneshot::channel();
    let id = volume.id();
    state.settings.tasks.spawn_contained(async move {
        let data = needle.data.clone();
        let outcome = writer::put(&volume, needle, is_time_given).await;
        // Whether anybody still waits makes no difference to the needle.
        let _ = answer.send(outcome);
        if data.is_spooled() {
            // To give back its pages takes as long as many small requests.
            let done = tokio::task::spawn_blocking(move || drop(data)).await;
            drop(done);
        }
        drop(room);
    });
    answered.await.unwrap_or(Err(WriteError::Unknown(id)))
}

/// Where the needle goes, and how: all that is known without the body.
fn target<'a>(
    state: &HttpState,
    request: &Parts,
    path: &'a str,
) -> Result<(NeedlePath<'a>, Arc<Volume>, Options), Problem> {
    let path = NeedlePath::parse(path)?;
    let query = Query::new(request.uri.query());
    refuse_replica_traffic(query)?;
    let id = path.fid.volume;
    let store = &state.settings.store;
    let volume = store.volume(id).ok_or_else(|| volume_not_here(store, id))?;
    let options = Options::parse(query)?;
    options.refuse_to_outlive(&volume)?;
    Ok((path, volume, options))
}

/// Copies talk to each other elsewhere, where they know that they are copies.
pub(super) fn refuse_replica_traffic(query: Query<'_>) -> Result<(), Problem> {
    if query.value("type").as_deref() != Some("replicate") {
        return Ok(());
    }
    let text = "type=replicate is not for clients: send the request without it, copies are kept \
                by the servers";
    Err(Problem::new(Code::BadRequest, text))
}

/// The parameters of an upload.
struct Options {
    /// When the file was modified, in seconds since 1970, if the uploader says so.
    ts: Option<u64>,
    ttl: Option<Ttl>,
    is_chunk_manifest: bool,
}

impl Options {
    fn parse(query: Query<'_>) -> Result<Self, Problem> {
        Ok(Self {
            ts: query.parsed("ts")?.filter(|ts| *ts > 0),
            ttl: query.parsed("ttl")?,
            is_chunk_manifest: query.is_true("cm"),
        })
    }

    /// A volume with a ttl goes as a whole, with everything in it.
    fn refuse_to_outlive(&self, volume: &Volume) -> Result<(), Problem> {
        let (Some(asked), Some(longest)) = (self.ttl, volume.ttl().duration()) else {
            return Ok(());
        };
        let remedy = match asked.duration() {
            Some(asked_for) if asked_for <= longest => return Ok(()),
            Some(_) => format!("assign with ttl={asked}"),
            None => "assign without ttl".to_owned(),
        };
        let (id, ttl) = (volume.id(), volume.ttl());
        let text = format!(
            "volume {id} is deleted with all its needles once its ttl of {ttl} is over, and this \
             one would live longer: {remedy}"
        );
        Err(Problem::new(Code::BadRequest, text))
    }

    fn meta(&self, upload: &Upload, headers: &HeaderMap, volume: &Arc<Volume>) -> NeedleMeta {
        let present =
            |text: &str| (!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes()));
        NeedleMeta {
            is_gzipped: upload.is_gzipped,
            is_chunk_manifest: self.is_chunk_manifest,
            name: present(&upload.name),
            mime: present(&upload.mime),
            last_modified_secs: Some(self.ts.unwrap_or_else(|| volume.clock().wall_secs())),
            ttl: self.ttl.unwrap_or_else(|| volume.ttl()),
            pairs: upload::pairs(headers),
        }
    }
}

fn stored(upload: Upload, file_len: u64) -> Result<Response, Problem> {
    let headers = headers(&upload);
    let body = UploadResponse {
        name: upload.name,
        size: file_len,
        etag: format!("{:08x}", upload.checksum),
        mime: upload.mime,
        content_md5: upload.content_md5.unwrap_or_default(),
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let mut response = (StatusCode::CREATED, headers, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn unchanged(upload: &Upload) -> Response {
    (StatusCode::NO_CONTENT, headers(upload)).into_response()
}

fn headers(upload: &Upload) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::try_from(content_headers::etag(upload.checksum)) {
        headers.insert(header::ETAG, etag);
    }
    let md5 = upload.content_md5.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(md5)) = md5 {
        headers.insert("content-md5", md5);
    }
    headers
}
