//! A record that does not verify: was the end of the file torn off, or is there damage in its
//! middle?
//!
//! A torn tail was never acknowledged and is cut off. Damage is never cut: what follows it may be
//! the only copy. There is no magic number to look for, and a needle may itself contain a volume
//! file, so that one valid record further on proves nothing. Evidence of damage is one of:
//! the checkpoint covers bytes past the bad record; the index has a row for it or for a later
//! record, and the file is long enough to hold it (rows are written once their records are
//! durable); soon after come valid records of a later batch.
//!
//! What is found by searching proves damage, but nothing vouches for it: whoever uploads a needle can
//! put records into it, and a power cut or rot can take the beginning of that needle alone. So what
//! lies behind a bad record counts only if the index or the bad record's own length leads there, or if
//! another program wrote the bad one. Nor does a checkpoint that covers the bad record vouch for what
//! is found, unless it leaves room for one record only: from there on records lie end to end up to where
//! it ends, and with the bad one they are as many as it has rows for. An uploader's records within the
//! bad one are too many then, and those before the last lost one too few. Other needles found are
//! [doubtful](Resume::Doubtful), and so is whatever looks like one when a search
//! [was given up](Resume::Unsearched).
//!
//! The pages of a batch reach the disk in any order, so that a torn one may have valid records
//! behind a bad one. They count only if a batch begins among them, since a batch is written when
//! everything before it is durable, and if they are newer than what came before, or go on to the
//! end of the data: records within a needle do neither. A bad record in the very last batch, without
//! its index row, cannot be told from a torn one.

use std::{collections::HashSet, io};

use dulse_shared::id::Ts;

use super::{
    index_file::load_rows,
    scan::Scanner,
    search::{Budget, Outcome, Run},
};
use crate::{
    disk::VolumeFile,
    format::{HEADER_LEN, IndexRow, NeedleHeader, OffsetWidth, RowSize, Version, record_len},
};

/// Bits of a record's size.
const SIZE_BITS: usize = 32;
/// Rows of the index that are tried as evidence.
const ROWS_TRIED: usize = 10_000;

/// Why a volume counts as damaged: what was met first.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// A record does not verify.
    #[error("the record at offset {0} does not verify: see the server's log")]
    Record(u64),
    /// The file ends before what the checkpoint covers.
    #[error("its file has {found} bytes, and {covered} were durable: restore it from a copy")]
    Short {
        /// Its length.
        found: u64,
        /// What the checkpoint says.
        covered: u64,
    },
    /// The file ends before records that the index knows.
    #[error(
        "its file ends at {end}, and {rows} acknowledged writes behind that are lost: restore it \
         from a copy"
    )]
    LostTail {
        /// Where it ends.
        end: u64,
        /// How many rows speak of them.
        rows: u64,
    },
    /// The end of the file was torn off, and is still there: the next start cuts it off.
    #[error(
        "its torn end of {len} bytes cannot be kept in the trash: {reason}; {} and start the server \
         again",
        if *is_for_want_of_room { "make room" } else { "see to the disk" }
    )]
    UnkeptTail {
        /// How long that is.
        len: u64,
        /// Why it was not cut off.
        reason: String,
        /// Whether it can be once the disk has room.
        is_for_want_of_room: bool,
    },
}

impl Damage {
    /// That a torn end of this length cannot be kept.
    pub fn unkept_tail(len: u64, error: &io::Error) -> Self {
        let is_for_want_of_room =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self::UnkeptTail { len, reason: error.to_string(), is_for_want_of_room }
    }

    /// Whether needles that were acknowledged may be missing or bad.
    pub fn concerns_needles(&self) -> bool {
        !matches!(self, Self::UnkeptTail { .. })
    }
}

/// What a bad record means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything from it on was never acknowledged.
    TornTail,
    /// It was good once.
    Damage(Resume),
}

/// Where good records go on behind a bad one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// Here.
    At(u64),
    /// Here are records that verify, but they may be data of the bad one: a read of their needles
    /// answers an error, neither what they say nor what was before.
    Doubtful(u64),
    /// Unknown: so much looks like records that the search was given up. Nothing behind the bad one is
    /// believed, and nothing is cut off.
    Unsearched,
    /// Nowhere.
    Never,
}

impl Resume {
    /// Where records are sure to go on, if anywhere.
    pub fn sure_offset(self) -> Option<u64> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Doubtful(_) | Self::Unsearched | Self::Never => None,
        }
    }

    /// Where the next record that verifies is, if one is known.
    pub fn offset(self) -> Option<u64> {
        match self {
            Self::At(offset) | Self::Doubtful(offset) => Some(offset),
            Self::Unsearched | Self::Never => None,
        }
    }
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
    /// How many rows the index had then: one for each record of ours.
    pub covered_rows: u64,
    /// Records before the bad one, those that do not verify included.
    pub records_before: u64,
    /// The highest stamp before the bad record.
    pub newest: Ts,
}

impl Suspect<'_> {
    /// Weighs the evidence; `scanner` is moved about. `budget` is that of the whole walk.
    pub fn judge(&self, scanner: &mut Scanner<'_>, budget: &mut Budget) -> io::Result<Verdict> {
        budget.begin(self.data_end - self.bad_at);
        let mut whole_ends = Vec::new();
        let resume = match self.first_indexed_record(scanner)? {
            Some(offset) => Resume::At(offset),
            None => {
                whole_ends = self.ends_but_for_a_bit(scanner)?;
                self.later_batch(scanner, budget, &whole_ends)?
            }
        };
        let may_be_torn = resume == Resume::Never && whole_ends.is_empty();
        if may_be_torn && !self.was_durable() && !self.is_indexed()? {
            return Ok(Verdict::TornTail);
        }
        Ok(Verdict::Damage(resume))
    }

    /// Whether a checkpoint covers the beginning of the bad record.
    fn was_durable(&self) -> bool {
        self.covered_len > self.bad_at
    }

    /// Whether the index says that a whole record was durable where the bad one is, or behind it.
    /// Where there is nothing but zeros only a row of that very place counts: one flipped bit of a row
    /// may name any other.
    fn is_indexed(&self) -> io::Result<bool> {
        let mut is_indexed = false;
        load_rows(self.idx, self.width, self.idx.len()?, |row| {
            let size = match row.size {
                RowSize::Live(size) => size,
                RowSize::Tombstone => 0,
            };
            let offset = row.offset.as_bytes();
            let end = offset.saturating_add(record_len(size, self.version));
            let is_place = offset == self.bad_at;
            let is_behind = offset > self.bad_at && self.data_end > self.bad_at;
            is_indexed |= (is_place || is_behind) && end <= self.dat_len;
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

    /// Where valid records of a later batch begin. `whole_ends`, where the bad record ends if one bit
    /// of its length was flipped, are likelier than where it ends by what its header says.
    fn later_batch(
        &self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
        whole_ends: &[u64],
    ) -> io::Result<Resume> {
        let by_header = self.end_by_its_header(scanner)?;
        for end in whole_ends.iter().copied().chain(by_header) {
            if self.run(scanner, budget, end, &mut HashSet::new())? == Run::LaterBatch {
                return Ok(Resume::At(end));
            }
        }
        let is_own = self.bad_at >= self.own_from;
        if is_own
            && self.was_durable()
            && let Some(offset) = self.proven_by_checkpoint(scanner, budget)?
        {
            return Ok(Resume::At(offset));
        }
        Ok(match self.search(scanner, budget)? {
            Outcome::Found(offset) if is_own => Resume::Doubtful(offset),
            // No power cut tears what another program wrote.
            Outcome::Found(offset) => Resume::At(offset),
            Outcome::Unknown => Resume::Unsearched,
            Outcome::Nothing => Resume::Never,
        })
    }

    fn end_by_its_header(&self, scanner: &mut Scanner<'_>) -> io::Result<Option<u64>> {
        let head = scanner.head_bytes(self.bad_at)?;
        let header = head.as_ref().and_then(|head| head.first_chunk()).map(NeedleHeader::parse);
        Ok(header.and_then(Result::ok).map(|header| self.bad_at + header.record_len(self.version)))
    }

    /// Where the bad record ends if one bit of its length was flipped: the sums are right without it.
    /// A torn record has no such end.
    fn ends_but_for_a_bit(&self, scanner: &mut Scanner<'_>) -> io::Result<Vec<u64>> {
        let mut ends = Vec::new();
        let Some(head) = scanner.head_bytes(self.bad_at)? else {
            return Ok(ends);
        };
        for bit in 0..SIZE_BITS {
            let mut head = head;
            head[HEADER_LEN - 1 - bit / 8] ^= 1 << (bit % 8);
            if let Ok(record) = scanner.record_with(self.bad_at, &head)? {
                ends.push(self.bad_at + record.len);
            }
        }
        Ok(ends)
    }
}
