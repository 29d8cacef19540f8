//! The words and wire types that masters, volume servers and clients share, and the few tools
//! that all of them need.
//!
//! - [`id`]: needle keys, fids, volume ids, replica placement, ttl: pure values.
//! - [`wire`]: what goes over HTTP as JSON, without logic.
//! - [`net`]: listening, calling peers, background tasks, telemetry.
//! - [`disk`]: replacing a file so that a crash leaves the old or the new one.
//! - [`clock`]: the only place that reads a clock; [`steady_clock`]: whether wall time may be
//!   believed for deleting something.

pub mod clock;
pub mod disk;
pub mod id;
pub mod net;
pub mod size;
pub mod steady_clock;
pub mod wire;
