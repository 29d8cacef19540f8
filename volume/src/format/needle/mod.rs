//! Needle records: one needle, or the tombstone of one, as it lies in the volume file.
//!
//! `layout` has lengths and the header, `meta` what the body says beside the data,
//! `checksum` the sums, `encode` and `decode` the two directions.

mod checksum;
mod decode;
mod encode;
mod layout;
mod meta;

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic in a test is a failed test"
)]
mod properties;

pub use decode::{DecodeError, Head, Needle, Tail};
#[cfg(test)]
pub(in crate::format) use encode::encode_without_body;
pub use encode::{DataLen, EncodeError, LimitKind, NewNeedle, Record, encode_tombstone};
pub use layout::{
    CURRENT_VERSION, HEAD_LEN, HEADER_LEN, MAX_BODY_LEN, MAX_MIME_LEN, MAX_NAME_LEN, MAX_PAIRS_LEN,
    MAX_TAIL_BYTES, NeedleHeader, TOMBSTONE_LEN, Version, record_len,
};
pub use meta::NeedleMeta;
