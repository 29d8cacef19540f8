//! What the volume servers say about themselves: who is there, with which volumes and how much
//! room. Soft state: rebuilt from heartbeats within a second of a start, never persisted, never
//! an authority on who holds a volume (that is the cluster state).
//!
//! Pure: time is passed in, nothing here does I/O.

mod data_center;
mod roster;
mod server;

pub(crate) use data_center::{DataCenter, Rack, data_centers};
pub(crate) use roster::{Received, Rejection, SILENCE_LIMIT, Topology};
pub(crate) use server::{Change, Loss, VolumeServer};
