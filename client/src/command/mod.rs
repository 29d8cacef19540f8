//! The commands of the command line that talk to a cluster.
//!
//! Data goes to stdout, words go to stderr. What concerns one of several things is reported where
//! it happens, and the others go on.

mod delete;
mod get;
mod lookup;
mod progress;
mod put;
mod say;
mod status;

pub use delete::delete;
pub use get::{GetRequest, get};
pub use lookup::{LookupSubject, lookup, parse_subject};
pub use put::{PutRequest, put};
pub use status::status;

/// How a command ended that did not fail as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// Some of it failed, and was reported.
    Partial,
}

impl Outcome {
    fn of(is_complete: bool) -> Self {
        if is_complete { Self::Done } else { Self::Partial }
    }
}
