//! A record that does not verify: was the end of the file torn off, or is there damage in its
//! middle?
//!
//! A torn tail was never acknowledged and is cut off. Damage is never cut: what follows it may be
//! the only copy. There is no magic number to look for, and a needle may itself contain a volume
//! file, so that one valid record further on proves nothing. Evidence of damage is one of:
//! the checkpoint covers bytes past the bad record; the index has a row for it, and the file is long
//! enough to hold it (rows are written once their records are durable); the index has a row for a
//! later record that verifies; a chain of valid records that begins soon after ends exactly where
//! the data does.
//!
//! The pages of a batch reach the disk in any order, so that a torn one may have valid records
//! behind a bad one. A chain therefore counts only if a batch begins in it: that batch was written
//! when everything before it was durable.

use std::{collections::HashSet, io};

use dulse_shared::id::BatchPlace;

use super::{index_file::load_rows, scan::Scanner};
use crate::{
    disk::VolumeFile,
    format::{IndexRow, OffsetWidth, RowSize, Version, record_len},
};

/// How far behind a bad record a chain of valid ones is looked for.
const CHAIN_SEARCH_BYTES: u64 = 64 << 20;
/// Rows of the index that are tried as evidence.
const ROWS_TRIED: usize = 10_000;

/// What a bad record means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything from it on was never acknowledged.
    TornTail,
    /// It was good once. Where the next good record starts, if there is one.
    Damage {
        /// That offset.
        resume_at: Option<u64>,
    },
}

/// What is known of a file with a bad record.
#[derive(Debug)]
pub struct Suspect<'a> {
    /// The index as it was found.
    pub idx: &'a dyn VolumeFile,
    /// The width of its offsets.
    pub width: OffsetWidth,
    /// The format of the records.
    pub version: Version,
    /// Where the bad record starts.
    pub bad_at: u64,
    /// Where the data ends: behind it are zeros at most.
    pub data_end: u64,
    /// Length of the volume file, those zeros included.
    pub dat_len: u64,
    /// Records from here on are our own, with stamps that tell where batches begin.
    pub own_from: u64,
    /// Up to where a checkpoint says that the file was verified and synced.
    pub covered_len: u64,
}

impl Suspect<'_> {
    /// Weighs the evidence; `scanner` is moved about.
    pub fn judge(&self, scanner: &mut Scanner<'_>) -> io::Result<Verdict> {
        let resume_at = match self.first_indexed_record(scanner)? {
            Some(offset) => Some(offset),
            None => self.chain_to_the_end(scanner)?,
        };
        if resume_at.is_none() && self.covered_len <= self.bad_at && !self.is_indexed()? {
            return Ok(Verdict::TornTail);
        }
        Ok(Verdict::Damage { resume_at })
    }

    /// Whether the index says that a whole record was durable where the bad one is.
    fn is_indexed(&self) -> io::Result<bool> {
        let mut is_indexed = false;
        load_rows(self.idx, self.width, self.idx.len()?, |row| {
            let size = match row.size {
                RowSize::Live(size) => size,
                RowSize::Tombstone => 0,
            };
            let end = self.bad_at.saturating_add(record_len(size, self.version));
            is_indexed |= row.offset.as_bytes() == self.bad_at && end <= self.dat_len;
        })?;
        Ok(is_indexed)
    }

    /// The first record past the bad one that the index knows and that verifies.
    fn first_indexed_record(&self, scanner: &mut Scanner<'_>) -> io::Result<Option<u64>> {
        let mut rows = Vec::new();
        load_rows(self.idx, self.width, self.idx.len()?, |row| {
            if row.offset.as_bytes() > self.bad_at {
                rows.push(row);
            }
        })?;
        rows.sort_by_key(|row| row.offset);
        for IndexRow { key, offset, .. } in rows.into_iter().take(ROWS_TRIED) {
            let found = scanner.record_at(offset.as_bytes())?;
            if found.is_ok_and(|record| record.key == key) {
                return Ok(Some(offset.as_bytes()));
            }
        }
        Ok(None)
    }

    /// The start of a chain of valid records that ends exactly where the data does, unless all of
    /// it belongs to one batch with the bad record.
    fn chain_to_the_end(&self, scanner: &mut Scanner<'_>) -> io::Result<Option<u64>> {
        // Chains merge: one that reaches an offset of a failed one fails as well.
        let mut failed = HashSet::new();
        let last = self.data_end.min(self.bad_at + CHAIN_SEARCH_BYTES);
        let mut start = self.bad_at + 8;
        while start < last {
            if let Some(has_batch_start) = self.chain(scanner, start, &mut failed)? {
                return Ok(has_batch_start.then_some(start));
            }
            start += 8;
        }
        Ok(None)
    }

    /// Whether a batch begins in the chain from `start` to the end of the data; `None` if there is
    /// no such chain.
    fn chain(
        &self,
        scanner: &mut Scanner<'_>,
        start: u64,
        failed: &mut HashSet<u64>,
    ) -> io::Result<Option<bool>> {
        let mut walked = Vec::new();
        let mut has_batch_start = false;
        let mut position = start;
        while position < self.data_end && !failed.contains(&position) {
            let Ok(record) = scanner.record_at(position)? else {
                break;
            };
            walked.push(position);
            has_batch_start |= position < self.own_from || record.ts.place() == BatchPlace::First;
            position += record.len;
        }
        if position >= self.data_end {
            return Ok(Some(has_batch_start));
        }
        failed.extend(walked);
        Ok(None)
    }
}
