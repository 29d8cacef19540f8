//! Which epoch of a volume an answer is of: told with every needle, asked for by clients that
//! remember where volumes are.
//!
//! A client that names the epoch it was told gets 421 from a server that serves another one, or has
//! no such volume: it learns that its map is old from whom it asked, and asks a master again.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    net::server::LocationsBeside,
    wire::{Code, EPOCH_HEADER, Location, Problem, VolumeEpoch},
};

use super::state::HttpState;
use crate::engine::volume::Volume;

const EPOCH: HeaderName = HeaderName::from_static(EPOCH_HEADER);

/// Says which epoch an answer is of.
pub(super) fn stamp(mut answer: Response, volume: &Volume) -> Response {
    add(&mut answer, volume);
    answer
}

fn add(answer: &mut Response, volume: &Volume) {
    if let Ok(value) = HeaderValue::from_maybe_shared(volume.epoch_text()) {
        answer.headers_mut().insert(EPOCH, value);
    }
}

/// The answer to a request for an epoch that is not served here. A volume whose files are here and
/// of no use is left to the answer that says so.
pub(super) fn refusal(state: &HttpState, request: &HeaderMap) -> Option<Response> {
    let asked = match request.get(EPOCH)?.to_str().unwrap_or_default().parse::<VolumeEpoch>() {
        Ok(asked) => asked,
        Err(error) => {
            return Some(Problem::new(Code::BadRequest, error.to_string()).into_response());
        }
    };
    let store = &state.settings.store;
    let Some(volume) = store.volume(asked.volume) else {
        let is_unserved = store.unserved_reason(asked.volume).is_some();
        return (!is_unserved).then(|| elsewhere(state, asked));
    };
    let served = volume.config().epoch;
    if served == asked.epoch {
        return None;
    }
    let message = format!(
        "volume {} is at epoch {} on this server, the request is for epoch {}: ask a master where \
         it is now",
        asked.volume, served.0, asked.epoch.0
    );
    let mut answer = Problem::new(Code::OtherEpoch, message).into_response();
    let here =
        Location { url: state.settings.url.clone(), public_url: state.settings.public_url.clone() };
    answer.extensions_mut().insert(LocationsBeside(vec![here]));
    add(&mut answer, &volume);
    Some(answer)
}

fn elsewhere(state: &HttpState, asked: VolumeEpoch) -> Response {
    let masters: Vec<String> = state.settings.masters.iter().map(|m| m.public()).collect();
    let message = format!(
        "volume {id} is not on this server: ask a master where it is now, GET \
         /dir/lookup?volumeId={id} at {}",
        masters.join(" or "),
        id = asked.volume
    );
    let mut answer = Problem::new(Code::OtherEpoch, message).into_response();
    answer.extensions_mut().insert(LocationsBeside(Vec::new()));
    answer
}
