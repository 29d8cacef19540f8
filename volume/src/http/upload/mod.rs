//! Receiving an upload: bounded, summed as it arrives, from a multipart form or as a raw body.

mod budget;
mod collector;
mod headers;
mod inspect;
mod multipart;
mod raw;
mod receive;

pub(super) use budget::UploadBudget;
pub(super) use headers::pairs;
pub(super) use receive::{Upload, discard, receive};
