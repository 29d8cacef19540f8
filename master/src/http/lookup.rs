//! Where a volume is: `/dir/lookup` as JSON, `/{fid}` as a redirect.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use dulse_shared::{
    id::{Fid, VolumeId},
    wire::{Code, Epoch, Location, LookupResponse, Problem},
};
use rand::seq::{IndexedRandom, SliceRandom};
use serde::Serialize;

use super::{params::Params, render::json, state::HttpState};
use crate::{
    cluster::Cluster,
    volume_layout::{Layouts, Place, PlacedVolume},
};

/// A lookup on a master that has just started waits this long for the volume's server: servers
/// report each half second, and try every tenth of one while a master is away.
const HOLDER_WAIT: Duration = Duration::from_secs(1);

/// The answer with `verbose=true`; strict clients of the plain one refuse more fields.
#[derive(Serialize)]
struct VerboseLookup {
    #[serde(rename = "volumeId")]
    volume_id: String,
    epoch: Epoch,
    locations: Vec<VerboseLocation>,
}

#[derive(Serialize)]
struct VerboseLocation {
    #[serde(flatten)]
    location: Location,
    #[serde(rename = "dataCenter")]
    data_center: String,
    rack: String,
}

/// Answers `volumeId` (a number or a whole fid) or `fileId` with the live members, shuffled.
pub(super) async fn lookup(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let params = Params::read(head.uri.query(), &head.headers, body).await?;
    let asked = params.value("fileId").or_else(|| params.value("volumeId"));
    let asked = asked.ok_or_else(|| {
        let message = "which volume? pass volumeId, as in /dir/lookup?volumeId=3";
        Problem::new(Code::BadRequest, message)
    })?;
    let id = volume_of(asked)?;
    let layouts = layouts_with(&state.cluster, id).await;
    let volume = available(&state.cluster, &layouts, id)?;
    let mut holders: Vec<&Place> = volume.holders.iter().map(AsRef::as_ref).collect();
    holders.shuffle(&mut rand::rng());
    if params.is_true("verbose") {
        return json(StatusCode::OK, &params, &verbose(id, volume, &holders));
    }
    let answer = LookupResponse {
        volume_id: id.to_string(),
        locations: holders.into_iter().map(location).collect(),
    };
    json(StatusCode::OK, &params, &answer)
}

/// Redirects any method to a live member's address for clients, path and query kept.
pub(super) async fn redirect(
    State(state): State<HttpState>,
    uri: Uri,
) -> Result<Response, Problem> {
    let path = uri.path();
    let fid = fid_in(path)?;
    let layouts = layouts_with(&state.cluster, fid.volume).await;
    let volume = available(&state.cluster, &layouts, fid.volume)?;
    let place = volume.holders.choose(&mut rand::rng());
    let place = place.ok_or_else(|| unavailable(&state.cluster, fid.volume))?;
    let query = uri.query().map(|query| format!("?{query}"));
    let target = format!("http://{}{path}{}", place.public_url, query.unwrap_or_default());
    let target = HeaderValue::from_str(&target).map_err(|_| {
        let message = format!(
            "the public address {:?} of a volume server cannot be written into a header",
            place.public_url
        );
        Problem::new(Code::Internal, message)
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, target);
    Ok(response)
}

/// A path of one segment that has no comma is no fid but an unknown route.
fn fid_in(path: &str) -> Result<Fid, Problem> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let name = decoded.trim_start_matches('/');
    if !name.contains(',') {
        return Err(super::routes::no_route(path));
    }
    let text = name.rsplit_once('.').map_or(name, |(fid, _extension)| fid);
    text.parse()
        .map_err(|error| Problem::new(Code::BadFid, format!("{name:?} is not a fid: {error}")))
}

fn volume_of(text: &str) -> Result<VolumeId, Problem> {
    let (volume, _) = text.split_once(',').unwrap_or((text, ""));
    volume
        .parse()
        .map_err(|error| Problem::new(Code::VolumeNotFound, format!("unknown volume: {error}")))
}

/// The layouts, once they say who holds the volume; of a master that has just started they do not
/// yet, for a moment.
async fn layouts_with(cluster: &Cluster, id: VolumeId) -> Arc<Layouts> {
    let is_held =
        |layouts: &Layouts| layouts.volumes.get(&id).is_some_and(|v| !v.holders.is_empty());
    let present = cluster.layouts();
    if is_held(&present) || !cluster.awaits_holder(id) {
        return present;
    }
    let mut layouts = cluster.watch_layouts();
    // What is not known by then is as if it was not there.
    let _ = tokio::time::timeout(HOLDER_WAIT, layouts.wait_for(|layouts| is_held(layouts))).await;
    cluster.layouts()
}

fn available<'a>(
    cluster: &Cluster,
    layouts: &'a Layouts,
    id: VolumeId,
) -> Result<&'a PlacedVolume, Problem> {
    let volume = layouts.volumes.get(&id).ok_or_else(|| {
        let message = format!("volume {id} does not exist in this cluster");
        Problem::new(Code::VolumeNotFound, message)
    })?;
    if volume.holders.is_empty() {
        return Err(unavailable(cluster, id));
    }
    Ok(volume)
}

fn unavailable(cluster: &Cluster, id: VolumeId) -> Problem {
    let said = cluster.look(|_, topology| {
        topology.alive().find_map(|server| {
            let reason = server.unserved_reason(id)?;
            Some(format!("server {} has it but cannot serve it: {reason}", server.url))
        })
    });
    let message = match said {
        Some(said) => format!("volume {id} cannot be used: {said}"),
        None => format!(
            "volume {id} exists, but no server that holds it is connected: start it again; the \
             master's page says which one"
        ),
    };
    Problem::new(Code::VolumeUnavailable, message)
}

fn location(place: &Place) -> Location {
    Location { url: place.url.clone(), public_url: place.public_url.clone() }
}

fn verbose(id: VolumeId, volume: &PlacedVolume, holders: &[&Place]) -> VerboseLookup {
    let verbose_location = |place: &&Place| VerboseLocation {
        location: location(place),
        data_center: place.data_center.clone(),
        rack: place.rack.clone(),
    };
    VerboseLookup {
        volume_id: id.to_string(),
        epoch: volume.epoch,
        locations: holders.iter().map(verbose_location).collect(),
    }
}
