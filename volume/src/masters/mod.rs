//! Which masters this server reports to.

mod board;
mod reporting;
mod roster;
#[cfg(test)]
mod tests;

pub(crate) use board::{Board, Heard};
pub(crate) use reporting::Reporting;
pub(crate) use roster::{MasterAt, Word};
