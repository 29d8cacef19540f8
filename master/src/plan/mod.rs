//! Decisions as data: each plan takes what is known and returns what is to be done.
//!
//! Pure: no clock, no I/O, chance passed in. The executor performs them.

pub(crate) mod admission;
pub(crate) mod creation;
pub(crate) mod expiry;
pub(crate) mod growth;
pub mod reconcile;
pub(crate) mod recovery;
mod rules;
pub mod seal;

pub use rules::{Rule, Rules};
