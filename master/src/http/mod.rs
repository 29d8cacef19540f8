//! The master's HTTP: the public port's client API and pages, the cluster port's heartbeats.
//!
//! Handlers parse, ask and render; what is decided is decided elsewhere. Errors are `Problem`s,
//! which the listener turns into responses.

mod assign;
mod client_body;
mod cluster;
mod events;
mod grow;
mod health;
mod held;
mod location_wish;
mod lookup;
mod map;
mod params;
mod relay;
mod render;
mod routes;
mod state;
mod status;
mod submit;
#[cfg(test)]
mod tests;
mod ui;
mod vacuum;
mod view;

pub(crate) use cluster::cluster_routes;
pub(crate) use relay::Relay;
pub(crate) use routes::public_router;
pub(crate) use state::{HttpSettings, HttpState};
