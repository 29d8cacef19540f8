//! Looking for records behind a bad one, where nothing says at which offset they begin.
//!
//! Any multiple of eight may be one, and to try it costs as many bytes as its header claims. Whoever
//! uploads a needle can fill it with records that claim long bodies, each of which would be summed: so
//! all searches of a walk share a [budget](Budget), a multiple of the bytes behind the first bad
//! record. Numbers and other data that nobody planted often begin like a header as well, but a few
//! bytes further on tell them apart ([`crate::format::Head::fits_its_fields`]) and hardly cost any of
//! it; only in a file of version 1, whose records have no such fields, it is soon spent. A search that
//! has spent it proves nothing, neither that records follow nor that none do. What that means is for
//! [`super::damage`].

use std::{collections::HashSet, io};

use dulse_shared::{
    id::{BatchPlace, VolumeId},
    size::ByteSize,
};

use super::{
    damage::{Resume, Suspect},
    doubt::Doubt,
    scan::{Scanned, Scanner},
};
use crate::format::{MAX_BODY_LEN, SUPERBLOCK_LEN, Version, record_len};

/// How far behind the longest that a bad record can be valid ones are looked for.
const SEARCH_BYTES: u64 = 64 << 20;
/// The [work](Scanner::work) for each byte that lies behind the first bad record. Where nobody has
/// planted anything it takes about half of that: to hold it against the checkpoint, to search it and to
/// walk over what was found each read it once, look at a few bytes far away and sum what verifies.
const WORK_PER_BYTE: u64 = 16;
/// As many more, which take no time to speak of.
const MIN_WORK_BYTES: u64 = 64 << 20;
/// The log hears each time that so many more were.
const LOGGED_EVERY_BYTES: u64 = 4 << 30;
/// Offsets that are remembered because some run of records came by: some tens of megabytes of memory.
const MAX_WALKED: usize = 1 << 20;

/// What the searches of one walk may take together.
#[derive(Debug)]
pub struct Budget {
    /// Whose log hears of it.
    volume: Option<VolumeId>,
    /// In bytes; `None` until there is a bad record.
    limit: Option<u64>,
    used: u64,
}

impl Budget {
    /// For a walk over this volume, of which the log hears, or over one of which it does not.
    pub fn new(volume: Option<VolumeId>) -> Self {
        Self { volume, limit: None, used: 0 }
    }

    /// One that is never spent.
    pub fn unlimited() -> Self {
        Self { volume: None, limit: Some(u64::MAX), used: 0 }
    }

    /// There are so many bytes behind a bad record: the first one counts.
    pub(super) fn begin(&mut self, bytes_behind: u64) {
        let limit = bytes_behind.saturating_mul(WORK_PER_BYTE).saturating_add(MIN_WORK_BYTES);
        self.limit.get_or_insert(limit);
    }

    /// Whether nothing more is verified.
    pub fn is_spent(&self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }

    /// The record at `offset`, if one is there that verifies and the budget is not spent.
    pub fn record_at(
        &mut self,
        scanner: &mut Scanner<'_>,
        offset: u64,
    ) -> io::Result<Option<Scanned>> {
        if self.is_spent() {
            return Ok(None);
        }
        let before = scanner.work();
        let found = scanner.likely_record_at(offset)?;
        self.charge(scanner.work() - before, offset);
        Ok(found)
    }

    fn charge(&mut self, work: u64, offset: u64) {
        let before = self.used;
        self.used += work;
        let is_due = before / LOGGED_EVERY_BYTES < self.used / LOGGED_EVERY_BYTES;
        if let (true, Some(volume), Some(limit)) = (is_due, self.volume, self.limit) {
            let (used, limit) = (ByteSize(self.used), ByteSize(limit));
            tracing::info!(%volume, "still looking for records behind a damaged one, at offset {offset}: {used} were read or summed, {limit} are the most");
        }
    }
}

/// What valid records behind a bad one prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    /// They were written when the bad one was durable.
    LaterBatch,
    /// They go on to the end of the data, and no batch begins among them: they are of its batch.
    SameBatch,
    /// Nothing.
    Nothing,
}

/// What a search comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Here is the first of valid records of a later batch.
    Found(u64),
    /// There are none.
    Nothing,
    /// The budget was spent before it came to its end.
    Unknown,
}

impl Suspect<'_> {
    /// Looks at every offset behind the bad record's beginning.
    pub(super) fn search(
        &self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
    ) -> io::Result<Outcome> {
        // Runs merge: one that comes to an offset of another one goes on like that one. None comes
        // to where an earlier one began, so those are not kept.
        let mut walked = HashSet::new();
        for start in self.starts(self.data_end) {
            if walked.remove(&start) {
                continue;
            }
            match self.run(scanner, budget, start, &mut walked)? {
                Run::LaterBatch => return Ok(Outcome::Found(start)),
                Run::SameBatch => return Ok(Outcome::Nothing),
                Run::Nothing if budget.is_spent() => return Ok(Outcome::Unknown),
                Run::Nothing => {}
            }
        }
        Ok(Outcome::Nothing)
    }

    fn starts(&self, end: u64) -> impl Iterator<Item = u64> + use<> {
        let longest = record_len(MAX_BODY_LEN, self.version);
        let last = end.min(self.bad_at + longest + SEARCH_BYTES);
        (self.bad_at + 8..last).step_by(8)
    }

    /// What the valid records from `start` on prove; those that lie in `walked` proved nothing.
    pub(super) fn run(
        &self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
        start: u64,
        walked: &mut HashSet<u64>,
    ) -> io::Result<Run> {
        let mut begins = false;
        let mut position = start;
        while position < self.data_end && (position == start || is_new(walked, position)) {
            let Some(record) = budget.record_at(scanner, position)? else {
                break;
            };
            // Other programs stamp as they like: any record of theirs may begin a batch.
            let is_own = position >= self.own_from;
            begins |= !is_own || record.ts.place() == BatchPlace::First;
            if is_own && begins && record.ts > self.newest {
                return Ok(Run::LaterBatch);
            }
            position += record.len;
        }
        // The data ends within the last record if that ends in zeros.
        let goes_to_the_end = position >= self.data_end;
        Ok(match (begins, goes_to_the_end) {
            (true, true) => Run::LaterBatch,
            (false, true) => Run::SameBatch,
            (_, false) => Run::Nothing,
        })
    }

    /// Where records go on behind one that a checkpoint covers, if the checkpoint proves it: from there
    /// they lie end to end up to where it ends, and are as many as it has rows for but one, which is
    /// that of the bad record. The index of a file that was made elsewhere may have fewer rows than
    /// there are records, so it proves nothing.
    pub(super) fn proven_by_checkpoint(
        &self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
    ) -> io::Result<Option<u64>> {
        let is_all_own = self.own_from == SUPERBLOCK_LEN as u64;
        let to_come = self.covered_rows.checked_sub(self.records_before + 1);
        let Some(to_come) = to_come.filter(|_| is_all_own) else {
            return Ok(None);
        };
        let mut walked = HashSet::new();
        for start in self.starts(self.covered_len.saturating_add(1)) {
            if budget.is_spent() {
                return Ok(None);
            }
            if walked.remove(&start) {
                continue;
            }
            let Some(found) = self.count_to_covered(scanner, budget, start, &mut walked)? else {
                continue;
            };
            // Those that are too many are the first ones: they lie within the bad record. If there are
            // too few, more than one was lost, and from further on there are fewer still.
            return match found.checked_sub(to_come) {
                Some(too_many) => pass(scanner, budget, start, too_many),
                None => Ok(None),
            };
        }
        Ok(None)
    }

    /// How many records lie end to end between `start` and where the checkpoint ends, if they do.
    fn count_to_covered(
        &self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
        start: u64,
        walked: &mut HashSet<u64>,
    ) -> io::Result<Option<u64>> {
        let (mut position, mut count) = (start, 0);
        while position < self.covered_len && (position == start || is_new(walked, position)) {
            let Some(record) = budget.record_at(scanner, position)? else {
                break;
            };
            position += record.len;
            count += 1;
        }
        Ok((position == self.covered_len).then_some(count))
    }

    /// The needles behind the bad record that are not to be read, when records go on like this; the log
    /// hears of them.
    pub(super) fn doubt(
        &self,
        resume: Resume,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
    ) -> io::Result<Option<Doubt>> {
        let bad_at = self.bad_at;
        let why = match resume {
            Resume::Doubtful(offset) => format!(
                "records from offset {offset} on verify, but they may be data of a needle that was never stored"
            ),
            Resume::Unsearched => {
                let used = ByteSize(budget.used);
                format!(
                    "so much behind the bad record at offset {bad_at} looks like records that the search for them was given up after {used}; nothing there is believed"
                )
            }
            Resume::Never | Resume::At(_) => return Ok(None),
        };
        let doubt = self.doubtful(scanner, budget)?;
        if let Some(volume) = budget.volume {
            tracing::error!(%volume, "{why}: nothing is cut off, and the needles that they name ({}) are not served; `dulse export` writes out what verifies", doubt.in_words());
        }
        Ok(Some(doubt))
    }

    /// The needles of all records behind the bad one's beginning, whatever lies between them, those
    /// before the first that a search has found too: it passes over what proves nothing. Once the budget
    /// is spent whatever looks like a record counts; in a file of version 1 anything does.
    fn doubtful(&self, scanner: &mut Scanner<'_>, budget: &mut Budget) -> io::Result<Doubt> {
        let mut doubt = Doubt::default();
        let mut position = self.bad_at + 8;
        while position < self.data_end {
            if let Some(record) = budget.record_at(scanner, position)? {
                doubt.add(record.key);
                position += record.len;
                continue;
            }
            if budget.is_spent() {
                if self.version == Version::V1 {
                    return Ok(Doubt::of_all());
                }
                if let Some(head) = scanner.likely_head(position)? {
                    doubt.add(head.header().key);
                }
            }
            position += 8;
        }
        Ok(doubt)
    }
}

/// Where the record after `count` good ones from `start` on begins.
fn pass(
    scanner: &mut Scanner<'_>,
    budget: &mut Budget,
    start: u64,
    count: u64,
) -> io::Result<Option<u64>> {
    let mut position = start;
    for _ in 0..count {
        let Some(record) = budget.record_at(scanner, position)? else {
            return Ok(None);
        };
        position += record.len;
    }
    Ok(Some(position))
}

fn is_new(walked: &mut HashSet<u64>, position: u64) -> bool {
    walked.len() >= MAX_WALKED || walked.insert(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{OpenMode, RealFile, write_all_at},
        format::HEAD_LEN,
    };

    /// Heads whose metadata is one and the same at the end of the file: it fits each of them, is as
    /// long as can be, and has the sums of none.
    fn heads_with_a_long_tail(count: usize) -> Vec<u8> {
        let pairs = u16::MAX;
        let end = count * 24;
        let mut bytes = vec![0xee; end];
        for at in (0..count).map(|n| n * 24) {
            let data_len = u32::try_from(end - at - HEAD_LEN).unwrap();
            let size = 4 + data_len + 3 + u32::from(pairs);
            bytes[at + 12..at + 16].copy_from_slice(&size.to_be_bytes());
            bytes[at + 16..at + 20].copy_from_slice(&data_len.to_be_bytes());
        }
        bytes.push(0x20);
        bytes.extend(pairs.to_be_bytes());
        bytes.resize(bytes.len() + usize::from(pairs) + 20, 0xee);
        bytes
    }

    #[test]
    fn tails_that_have_to_be_summed_count_though_they_are_in_memory() {
        let temp = tempfile::tempdir().unwrap();
        let file = RealFile::open(&temp.path().join("f"), OpenMode::CreateNew).unwrap();
        let bytes = heads_with_a_long_tail(5000);
        write_all_at(&file, &mut [std::io::IoSlice::new(&bytes)], 0).unwrap();
        let len = bytes.len() as u64;
        let mut scanner = Scanner::new(&file, Version::V3, 0, 0, len);
        let mut budget = Budget::new(None);
        budget.begin(len);
        let mut tried = 0;
        while !budget.is_spent() {
            assert_eq!(budget.record_at(&mut scanner, tried * 24).unwrap(), None);
            tried += 1;
        }
        let most = (16 * len + MIN_WORK_BYTES) / (4 * u64::from(u16::MAX));
        assert!((1..=most).contains(&tried), "{tried} tails were summed, {most} are the most");
        assert!(tried > most / 2, "a head that fits is not passed over: {tried} of {most}");
    }
}
