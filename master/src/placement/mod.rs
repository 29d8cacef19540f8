//! Where new volumes go: the rules of a replica placement, and what is missing when they cannot
//! be kept.
//!
//! Pure: room is passed in as a list, chance as a generator. A placement is found whenever one
//! exists; otherwise the error says in numbers what is short. What may be created at all is not
//! decided here.

mod choice;
mod room;
mod shortage;
mod wish;

pub(crate) use choice::place_volumes;
pub(crate) use room::{ServerRoom, rooms};
pub(crate) use shortage::{PlacementError, Shortage};
pub(crate) use wish::LocationWish;

#[cfg(test)]
pub(crate) mod tests;
