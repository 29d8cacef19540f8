//! One walk over a volume's files: each record verified, each row of the index held against its
//! record, the checkpoint against what lies below it.
//!
//! Rows are kept sorted by offset and walked in step with the records: 24 bytes of memory a row,
//! and the map's 16 a needle.

use std::{collections::HashSet, io};

use dulse_shared::id::Ts;

use super::finding::{Finding, Findings};
use crate::{
    disk::VolumeFile,
    engine::{
        counters::Counters,
        damage::{Resume, Suspect, Verdict},
        fill::end_of_data,
        index_file::load_rows,
        lost_tail::Tail,
        needle_map::{Entry, NeedleMap},
        scan::{ScanError, Scanned, Scanner},
        search::Budget,
        sidecar::Checkpoint,
    },
    format::{IndexRow, Offset, OffsetWidth, RowSize, Superblock, Version, record_len},
};

/// The files of a volume and what is believed of them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The volume file.
    pub dat: &'a dyn VolumeFile,
    /// Up to where it counts.
    pub dat_len: u64,
    /// The index.
    pub idx: &'a dyn VolumeFile,
    /// What the volume file says of itself.
    pub superblock: Superblock,
    /// The width of the index's offsets.
    pub width: OffsetWidth,
    /// From where on records are ours; `None` in a volume that nobody of ours has written to.
    pub own_from: Option<u64>,
    /// The sidecar's checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// What the files say, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Survey {
    /// What is wrong.
    pub findings: Findings,
    /// Where the needles are, by the volume file.
    pub map: NeedleMap,
    /// How many.
    pub counters: Counters,
    /// Records that verify.
    pub records: u64,
    /// Their bytes, live or not.
    pub record_bytes: u64,
    /// Some part does not verify.
    pub is_damaged: bool,
    /// Where the last good record ends.
    pub valid_len: u64,
}

/// Walks the files; searches behind bad records may take `budget`. `progress` hears of each record's
/// end.
pub fn survey(
    subject: &Subject<'_>,
    budget: Budget,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Survey> {
    let mut walk = Walk::new(subject, budget)?;
    walk.records(progress)?;
    walk.finish()
}

struct Walk<'a> {
    subject: &'a Subject<'a>,
    survey: Survey,
    /// Sorted by offset; those before `next_row` were seen.
    rows: Vec<IndexRow>,
    next_row: usize,
    /// What the rows say in their own order.
    by_index: NeedleMap,
    empties: HashSet<u64>,
    /// Records that verify and are not covered by the checkpoint.
    records_behind: u64,
    /// Records, those that do not verify included.
    records_met: u64,
    /// What searches may take.
    budget: Budget,
}

impl<'a> Walk<'a> {
    fn new(subject: &'a Subject<'a>, budget: Budget) -> io::Result<Self> {
        let mut survey = Survey::default();
        let (mut rows, mut by_index, mut empties) =
            (Vec::new(), NeedleMap::default(), HashSet::new());
        let len = subject.idx.len()?;
        let (read, _) = load_rows(subject.idx, subject.width, len, |row| {
            by_index.insert(row.key, entry(&row));
            if row.size == RowSize::Live(0) {
                empties.insert(row.offset.as_bytes());
            }
            rows.push(row);
        })?;
        if read < len {
            survey.findings.push(Finding::Row { position: read, len });
        }
        rows.sort_by_key(|row| row.offset);
        let mut walk = Self {
            subject,
            survey,
            rows,
            next_row: 0,
            by_index,
            empties,
            records_behind: 0,
            records_met: 0,
            budget,
        };
        walk.skip_old_deletes();
        Ok(walk)
    }

    /// Old programs gave the row of a delete no offset.
    fn skip_old_deletes(&mut self) {
        let is_old = |row: &IndexRow| row.offset == Offset::ZERO && row.size == RowSize::Tombstone;
        if self.subject.own_from.is_none() {
            self.next_row = self.rows.iter().take_while(|row| is_old(row)).count();
        }
    }

    fn records(&mut self, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let Subject { dat, dat_len, superblock, own_from, .. } = *self.subject;
        let first = superblock.first_needle_offset().as_bytes();
        let own_from = own_from.unwrap_or(u64::MAX);
        let mut scanner = Scanner::new(dat, superblock.version, own_from, first, dat_len);
        self.survey.valid_len = first;
        self.checkpoint_reached(first);
        while let Some(found) = scanner.advance()? {
            match found {
                Ok(record) => self.record(&record),
                Err(reason) => {
                    let bad_at = scanner.position();
                    if self.bad_record(bad_at, reason, &mut scanner)? {
                        break;
                    }
                }
            }
            self.records_met += 1;
            progress(scanner.position());
        }
        Ok(())
    }

    fn record(&mut self, record: &Scanned) {
        self.rows_before(record.offset);
        // Without a body, ours are tombstones.
        let is_foreign = self.subject.own_from.is_none_or(|own_from| record.offset < own_from);
        let is_empty = is_foreign && self.empties.contains(&record.offset);
        let is_live = record.size != 0 || is_empty;
        let size = if is_live { RowSize::Live(record.size) } else { RowSize::Tombstone };
        let offset = Offset::from_bytes(record.offset).unwrap_or_default();
        let row = IndexRow { key: record.key, offset, size };
        let mut is_indexed = false;
        while let Some(found) = self.rows.get(self.next_row).filter(|found| found.offset == offset)
        {
            is_indexed |= *found == row;
            if *found != row {
                self.row_without_record(*found);
            }
            self.next_row += 1;
        }
        if !is_indexed {
            let (key, offset) = (record.key, record.offset);
            self.survey.findings.push(Finding::NotIndexed { key, offset });
        }
        self.enter(&row);
        if !is_foreign {
            // What others stamp is covered by no sum.
            self.survey.counters.stamped(record.ts);
        }
        self.survey.records += 1;
        let covered_len = self.subject.checkpoint.map_or(0, |checkpoint| checkpoint.dat_len);
        self.records_behind += u64::from(record.offset >= covered_len);
        self.survey.record_bytes += record.len;
        self.survey.valid_len = record.offset + record.len;
        self.checkpoint_reached(self.survey.valid_len);
    }

    /// All records behind the beginning of a bad one, whatever lies between them: a search passes over
    /// what proves nothing.
    fn doubtful_behind(&mut self, bad_at: u64, scanner: &mut Scanner<'_>) -> io::Result<()> {
        let mut position = bad_at + 8;
        while position < self.subject.dat_len {
            if self.budget.is_spent() {
                self.survey.findings.push(Finding::Unsearched { offset: position });
                return Ok(());
            }
            match self.budget.record_at(scanner, position)? {
                Some(record) => {
                    self.rows_before(position);
                    self.doubtful(&record);
                    position += record.len;
                }
                None => position += 8,
            }
        }
        Ok(())
    }

    /// A record that may be data of another one replaces nothing.
    fn doubtful(&mut self, record: &Scanned) {
        let (key, offset) = (record.key, record.offset);
        self.survey.findings.push(Finding::Doubtful { key, offset });
        if record.size != 0 && self.survey.map.lookup(key).is_none() {
            let offset = Offset::from_bytes(offset).unwrap_or_default();
            self.enter(&IndexRow { key, offset, size: RowSize::Live(record.size) });
        }
    }

    fn enter(&mut self, row: &IndexRow) {
        let before = self.survey.map.insert(row.key, entry(row));
        self.survey.counters.moved(before, entry(row), self.subject.superblock.version);
    }

    /// Rows that come before the record at `offset` and were not met speak of nothing.
    fn rows_before(&mut self, offset: u64) {
        while let Some(row) =
            self.rows.get(self.next_row).copied().filter(|row| row.offset.as_bytes() < offset)
        {
            self.row_without_record(row);
            self.next_row += 1;
        }
    }

    fn row_without_record(&mut self, row: IndexRow) {
        let (key, offset) = (row.key, row.offset.as_bytes());
        self.survey.findings.push(Finding::RowWithoutRecord { key, offset });
    }

    /// Takes note of a bad record; whether the walk ends there.
    fn bad_record(
        &mut self,
        bad_at: u64,
        reason: ScanError,
        scanner: &mut Scanner<'_>,
    ) -> io::Result<bool> {
        let Subject { dat, superblock, dat_len, .. } = *self.subject;
        let data_end = end_of_data(dat, bad_at, dat_len)?;
        let suspect = self.suspect(superblock.version, bad_at, data_end);
        let own_from = suspect.own_from;
        self.rows_before(bad_at);
        match suspect.judge(scanner, &mut self.budget)? {
            Verdict::TornTail if self.is_lost_behind(bad_at)? => {
                self.damaged(bad_at, Resume::Never, reason);
                Ok(true)
            }
            // A volume that was written to when its server died.
            Verdict::TornTail if data_end == bad_at => Ok(true),
            Verdict::TornTail if own_from <= bad_at => {
                let len = data_end - bad_at;
                self.survey.findings.push(Finding::TornTail { offset: bad_at, len });
                Ok(true)
            }
            Verdict::TornTail => {
                self.damaged(bad_at, Resume::Never, reason);
                Ok(true)
            }
            Verdict::Damage(resume) => {
                self.damaged(bad_at, resume, reason);
                if let Resume::Doubtful(_) = resume {
                    self.doubtful_behind(bad_at, scanner)?;
                }
                scanner.seek(resume.sure_offset().unwrap_or(dat_len));
                Ok(false)
            }
        }
    }

    fn suspect(&self, version: Version, bad_at: u64, data_end: u64) -> Suspect<'a> {
        let Subject { idx, width, dat_len, own_from, checkpoint, .. } = *self.subject;
        let checkpoint = checkpoint.unwrap_or_default();
        Suspect {
            idx,
            width,
            version,
            bad_at,
            data_end,
            dat_len,
            own_from: own_from.unwrap_or(u64::MAX),
            covered_len: checkpoint.dat_len,
            covered_rows: checkpoint.idx_len / width.row_len() as u64,
            records_before: self.records_met,
            newest: self.survey.counters.max_ts,
        }
    }

    /// The index is all that knows what lay in a damaged stretch.
    fn damaged(&mut self, offset: u64, resume: Resume, reason: ScanError) {
        self.survey.is_damaged = true;
        self.survey.findings.push(Finding::Record { offset, resume, reason });
        let end = resume.offset().unwrap_or(self.subject.dat_len);
        while let Some(row) =
            self.rows.get(self.next_row).copied().filter(|row| row.offset.as_bytes() < end)
        {
            self.enter(&row);
            self.next_row += 1;
        }
    }

    /// The walk has come to `offset`, where a checkpoint may have been written.
    fn checkpoint_reached(&mut self, offset: u64) {
        let Some(checkpoint) = self.subject.checkpoint.filter(|c| c.dat_len == offset) else {
            return;
        };
        let counters = self.survey.counters;
        let first = self.subject.superblock.first_needle_offset().as_bytes();
        let garbage = offset.saturating_sub(first).saturating_sub(counters.live_bytes);
        self.compare_checkpoint("live_needles", checkpoint.live_needles, counters.live_needles);
        self.compare_checkpoint("live_bytes", checkpoint.live_bytes, counters.live_bytes);
        self.compare_checkpoint("garbage_bytes", checkpoint.garbage_bytes, garbage);
        let (kept, found) = (checkpoint.garbage_needles, counters.garbage_needles);
        self.compare_checkpoint("garbage_needles", kept, found);
        if self.subject.own_from == Some(first) && !self.may_miss_stamps(checkpoint.max_ts) {
            self.compare_checkpoint("max_ts", checkpoint.max_ts.0, counters.max_ts.0);
        }
    }

    /// A compaction drops tombstones, and their stamps live on in the checkpoint alone.
    fn may_miss_stamps(&self, kept: Ts) -> bool {
        self.subject.superblock.compaction_revision > 0 && kept > self.survey.counters.max_ts
    }

    fn compare_checkpoint(&mut self, name: &'static str, kept: u64, found: u64) {
        if kept != found && !self.survey.is_damaged {
            self.survey.findings.push(Finding::Checkpoint { name, kept, found });
        }
    }

    fn finish(mut self) -> io::Result<Survey> {
        self.lost_tail()?;
        self.rows_before(u64::MAX);
        self.index_order();
        self.live_bytes();
        self.checkpoint_covers()?;
        Ok(self.survey)
    }

    /// Whether the index proves that a record was lost behind `end`.
    fn is_lost_behind(&self, end: u64) -> io::Result<bool> {
        let Subject { idx, width, own_from, checkpoint, .. } = *self.subject;
        let (Some(checkpoint), Some(own_from)) = (checkpoint, own_from) else {
            return Ok(false);
        };
        Tail { idx, width, own_from, checkpoint }.is_lost_behind(end, self.records_behind)
    }

    /// Rows behind the end of the file are those of lost records, if it is too short.
    fn lost_tail(&mut self) -> io::Result<()> {
        let dat_len = self.subject.dat_len;
        let is_short = self.subject.checkpoint.is_some_and(|c| dat_len < c.dat_len);
        let is_known = is_short || (self.survey.is_damaged && self.subject.own_from.is_some());
        if !is_known && !self.is_lost_behind(self.survey.valid_len)? {
            return Ok(());
        }
        self.rows_before(dat_len);
        for row in self.rows.split_off(self.next_row) {
            let (key, offset) = (row.key, row.offset.as_bytes());
            self.survey.is_damaged = true;
            self.survey.findings.push(Finding::LostRecord { key, offset });
            self.enter(&row);
        }
        Ok(())
    }

    /// Rows in the order of the index must say the same as records in the order of the file.
    fn index_order(&mut self) {
        let version_of = |map: &NeedleMap, key| map.lookup(key);
        let wrong: Vec<_> = self
            .survey
            .map
            .iter()
            .filter(|(key, entry)| {
                version_of(&self.by_index, *key).is_some_and(|by_index| by_index != *entry)
            })
            .map(|(key, _)| key)
            .collect();
        for key in wrong {
            self.survey.findings.push(Finding::IndexOrder { key });
        }
    }

    /// The running count against the sum over the map.
    fn live_bytes(&mut self) {
        let version = self.subject.superblock.version;
        let live = self.survey.map.iter().filter_map(|(_, entry)| match entry.size {
            RowSize::Live(size) => Some(record_len(size, version)),
            RowSize::Tombstone => None,
        });
        let (kept, found) = (self.survey.counters.live_bytes, live.sum());
        self.survey.findings.compare("live_bytes", kept, found);
    }

    /// The checkpoint must cover whole records and an index with its sum.
    fn checkpoint_covers(&mut self) -> io::Result<()> {
        let Some(checkpoint) = self.subject.checkpoint else {
            return Ok(());
        };
        if checkpoint.dat_len > self.survey.valid_len {
            let (kept, found) = (checkpoint.dat_len, self.survey.valid_len);
            self.survey.findings.push(Finding::Checkpoint { name: "dat_len", kept, found });
        }
        let idx_len = self.subject.idx.len()?.min(checkpoint.idx_len);
        let (len, crc) = load_rows(self.subject.idx, self.subject.width, idx_len, |_| {})?;
        self.compare_checkpoint("idx_len", checkpoint.idx_len, len);
        let (kept, found) = (u64::from(checkpoint.idx_crc32c), u64::from(crc));
        self.compare_checkpoint("idx_crc32c", kept, found);
        Ok(())
    }
}

fn entry(row: &IndexRow) -> Entry {
    Entry { offset: row.offset, size: row.size }
}
