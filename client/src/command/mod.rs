//! The commands of the command line that talk to a cluster.
//!
//! Data goes to stdout, words go to stderr. What concerns one of several things is reported where
//! it happens, and the others go on.

mod cluster_events;
mod cluster_status;
mod cluster_wait;
mod delete;
mod get;
mod lookup;
mod masters;
mod outcome;
mod progress;
mod put;
mod recover;
mod say;
mod scrub;
mod status;
mod table;
mod vacuum;
mod when;
mod work;

pub use cluster_events::cluster_events;
pub use cluster_status::cluster_status;
pub use cluster_wait::{Wanted, cluster_wait};
pub use delete::delete;
pub use get::{GetRequest, get};
pub use lookup::{LookupSubject, lookup, parse_subject};
pub use masters::masters;
pub use outcome::Outcome;
pub use put::{PutRequest, put};
pub use recover::recover;
pub use scrub::scrub;
pub use status::status;
pub use vacuum::vacuum;
