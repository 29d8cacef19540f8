//! The files of a volume, as bytes: superblock, needle records, index rows, volume information.
//!
//! A pure codec: it neither opens nor reads nor writes files, and knows no clock. Its invariant:
//! no input makes it panic or allocate more than a small multiple of the input's length. What a
//! record that does not verify means for its volume is the engine's business.
#![doc = ""]
#![doc = include_str!("../../FORMAT.md")]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic in a test is a failed test"
)]
mod golden_tests;
mod index_entry;
mod needle;
mod offset;
mod superblock;
mod vif;

pub use index_entry::{IndexRow, IndexRowError, RowSize};
pub use needle::{
    CURRENT_VERSION, DataLen, DecodeError, EncodeError, HEAD_LEN, HEADER_LEN, Head, LimitKind,
    MAX_BODY_LEN, MAX_MIME_LEN, MAX_NAME_LEN, MAX_PAIRS_LEN, MAX_TAIL_BYTES, Needle, NeedleHeader,
    NeedleMeta, NewNeedle, Record, TOMBSTONE_LEN, Tail, Version, encode_tombstone, record_len,
};
pub use offset::{Offset, OffsetWidth};
pub use superblock::{SUPERBLOCK_LEN, Superblock, SuperblockError};
pub use vif::{Vif, VifError};
