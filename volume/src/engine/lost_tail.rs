//! Acknowledged records that the end of a volume file no longer has.
//!
//! A row is written once its record is durable, so a row of a record behind the end of the file
//! proves that the record was lost. Behind the checkpoint only a row whose place and offset leave no
//! doubt counts: in a file of ours the n-th row behind it is that of the n-th record behind it, and
//! records lie end to end. So the first lost one has the row after those of all records that were
//! found, and that row names the offset where they end. A flipped bit, a torn row or another file's
//! index does not come to that. What lies below the checkpoint needs no such proof.

use std::io;

use super::{
    index_file::{load_rows, load_rows_between},
    sidecar::Checkpoint,
};
use crate::{disk::VolumeFile, format::OffsetWidth};

/// An index and the checkpoint that it should agree with.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// The index as it was found.
    pub idx: &'a dyn VolumeFile,
    /// The width of its offsets.
    pub width: OffsetWidth,
    /// From here on records are our own.
    pub own_from: u64,
    /// What the sidecar says.
    pub checkpoint: Checkpoint,
}

impl Tail<'_> {
    /// Whether a record was lost behind `end`, where the last good one ends, when `found` records
    /// behind the checkpoint verify.
    pub fn is_lost_behind(&self, end: u64, found: u64) -> io::Result<bool> {
        let Checkpoint { dat_len, idx_len, .. } = self.checkpoint;
        if dat_len < self.own_from || end < dat_len {
            return Ok(false);
        }
        let row_len = self.width.row_len() as u64;
        let start = idx_len.saturating_add(found.saturating_mul(row_len));
        let next = start..self.idx.len()?.min(start.saturating_add(row_len));
        let mut is_lost = false;
        load_rows_between(self.idx, self.width, next, |row| {
            is_lost = row.offset.as_bytes() == end;
        })?;
        // Looked at last: it takes a read of the whole index.
        Ok(is_lost && self.is_of_this_file()?)
    }

    /// Another generation's index does not have the checkpoint's sum.
    fn is_of_this_file(&self) -> io::Result<bool> {
        let Checkpoint { idx_len, idx_crc32c, .. } = self.checkpoint;
        Ok(load_rows(self.idx, self.width, idx_len, |_| {})? == (idx_len, idx_crc32c))
    }
}
