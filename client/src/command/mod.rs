//! The commands of the command line that talk to a cluster.
//!
//! Data goes to stdout, words go to stderr. What concerns one of several things is reported where
//! it happens, and the others go on.

mod delete;
mod get;
mod lookup;
mod outcome;
mod progress;
mod put;
mod say;
mod scrub;
mod status;
mod vacuum;
mod work;

pub use delete::delete;
pub use get::{GetRequest, get};
pub use lookup::{LookupSubject, lookup, parse_subject};
pub use outcome::Outcome;
pub use put::{PutRequest, put};
pub use scrub::scrub;
pub use status::status;
pub use vacuum::vacuum;
