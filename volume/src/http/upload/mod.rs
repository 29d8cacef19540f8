//! Receiving an upload: bounded, summed as it arrives, from a multipart form or as a raw body.
//!
//! What leaves here was received whole and is no larger than a needle may be. Storing it, and
//! which volume takes it, is decided by the caller.

mod budget;
mod collector;
mod form_body;
mod headers;
mod inspect;
mod multipart;
mod raw;
mod receive;
mod spooler;
#[cfg(test)]
mod test_dir;

pub(super) use budget::{Room, UploadBudget};
pub(super) use headers::pairs;
pub(super) use receive::{Upload, receive};
