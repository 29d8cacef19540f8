//! `dataCenter`, `rack` and `dataNode`: where the caller wants its files.
//!
//! A place that no volume server stands in is refused at once, before anything of a file is taken
//! in: it is a typing error, and no growth could mend it.

use dulse_shared::wire::Problem;

use super::{
    params::{Params, bad_request},
    state::HttpState,
};
use crate::placement::LocationWish;

impl Params {
    /// The place that is wished for; with none of the parameters any.
    pub(super) fn location_wish(&self) -> LocationWish {
        let wish = |name| self.value(name).map(str::to_owned);
        LocationWish {
            data_center: wish("dataCenter"),
            rack: wish("rack"),
            data_node: wish("dataNode"),
        }
    }
}

/// Refuses a place where no volume server is or was. Before any is there nothing can be said.
pub(super) fn require_known_place(state: &HttpState, wish: &LocationWish) -> Result<(), Problem> {
    if wish.is_none() {
        return Ok(());
    }
    let is_known = state.cluster.look(|agreed, topology| {
        let mut known = topology.servers().filter(|server| !server.url.is_empty());
        topology.alive().next().is_none()
            || state.cluster.awaits_members(agreed, topology)
            || known.any(|s| wish.is_fulfilled_by(&s.data_center, &s.rack, &s.url))
    });
    if is_known {
        return Ok(());
    }
    Err(bad_request(format!(
        "no volume server has {wish}: see the master's page for the names, or leave that out"
    )))
}
