//! The public port of a volume server: needles, and pages about the server.
//!
//! What a request says is decided by pure functions (`needle_path`, `query`, `range`,
//! `conditional`, `content_headers`); `read`, `write` and `delete` act on it. Errors of
//! the layers below become problems in `error` and nowhere else.

mod byte_ranges;
mod conditional;
mod content_headers;
mod delete;
mod epoch;
mod error;
pub(crate) mod gunzip;
mod needle_path;
mod pages;
mod query;
mod range;
mod read;
mod router;
mod state;
mod status;
mod upload;
mod write;

pub use router::PublicPort;
pub use state::{HttpSettings, HttpState};
