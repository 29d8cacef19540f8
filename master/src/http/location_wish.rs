//! `dataCenter`, `rack` and `dataNode`: where the caller wants its files.
//!
//! Volumes are not chosen by where they are. A wish that every live volume server fulfils is
//! fulfilled whatever is chosen; any other is refused, because a file that lies elsewhere than its
//! owner believes is worse than an error.

use dulse_shared::wire::{Code, Problem};

use super::{
    params::{Params, bad_request},
    state::HttpState,
};
use crate::topology::VolumeServer;

/// What of a server a parameter means.
type PlaceOf = fn(&VolumeServer) -> &str;

/// Parameters that say where.
const WISHES: [(&str, PlaceOf); 3] = [
    ("dataCenter", |server| &server.data_center),
    ("rack", |server| &server.rack),
    ("dataNode", |server| &server.url),
];

/// Refuses what an assign could not promise.
pub(super) fn require_fulfillable(state: &HttpState, params: &Params) -> Result<(), Problem> {
    if WISHES.iter().all(|(name, _)| params.value(name).is_none()) {
        return Ok(());
    }
    state.cluster.look(|_, topology| {
        let mut servers = topology.alive().peekable();
        if servers.peek().is_none() {
            let message = "no volume server is there yet, so nothing can be said of where files \
                           would go: try again in a moment";
            return Err(Problem::new(Code::NoWritableVolume, message));
        }
        servers.try_for_each(|server| fulfils(server, params))
    })
}

fn fulfils(server: &VolumeServer, params: &Params) -> Result<(), Problem> {
    for (name, place_of) in WISHES {
        let place = place_of(server);
        if let Some(wanted) = params.value(name).filter(|wanted| *wanted != place) {
            return Err(bad_request(format!(
                "{name}={wanted} cannot be promised: volumes are not chosen by where they are, \
                 and volume server {} has {name} {place}; leave {name} out",
                server.url
            )));
        }
    }
    Ok(())
}
