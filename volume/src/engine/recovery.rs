//! Opening a volume: from its checkpoint and the records since, or from nothing but `.dat`.
//!
//! `.idx` is believed as far as a checkpoint's checksum covers it, and no further, except in a
//! foreign volume whose two files end together. Everything else is read from `.dat`, record by
//! record, and the index is written anew.

use std::{collections::HashSet, io, ops::Range, sync::Arc};

use super::{
    counters::Counters,
    damage::{Damage, Suspect, Verdict},
    doubt::Doubt,
    fill::end_of_data,
    foreign_stamp,
    index_file::{IndexFile, load_rows},
    index_writer::IndexWriter,
    lost_tail::Tail,
    needle_map::{Entry, Loader, NeedleMap},
    scan::{Scanned, Scanner},
    search::Budget,
    sidecar::Checkpoint,
    volume_files::{Files, OpenError, at},
};
use crate::{
    disk::{CACHED_AS_ONE_BYTES, FileRange, OpenMode, Trash, VolumeFile, staged_path},
    format::{IndexRow, Offset, OffsetWidth, RowSize, Superblock, Version},
};

/// Where our own records begin in a volume that has none.
const FOREIGN: u64 = u64::MAX;

/// A volume's memory, built from its files.
#[derive(Debug)]
pub struct Loaded {
    /// The volume file.
    pub dat: Arc<dyn VolumeFile>,
    /// What it says of itself.
    pub superblock: Superblock,
    /// How wide the index keeps offsets.
    pub width: OffsetWidth,
    /// Where its needles are.
    pub map: NeedleMap,
    /// How many live.
    pub counters: Counters,
    /// The index, ready to append to.
    pub idx: IndexFile,
    /// Where the next record goes.
    pub dat_len: u64,
    /// What of the file does not verify, or is missing.
    pub damage: Option<Damage>,
    /// Needles of records that nothing vouches for.
    pub doubt: Doubt,
    /// How many stamps of other programs are too far ahead to be believed.
    pub ignored_stamps: u64,
}

impl Files {
    /// Makes durable what was written from `offset` on and then looks at the disk, not at the page
    /// cache: a process that was killed leaves pages that no sync has seen, and a failed sync pages
    /// that the disk does not have.
    fn settle(&self, offset: u64) -> io::Result<()> {
        if offset >= self.dat_len {
            return Ok(());
        }
        self.dat.sync_data()?;
        let start = offset / CACHED_AS_ONE_BYTES * CACHED_AS_ONE_BYTES;
        self.dat.forget_cached(start..self.dat_len)
    }

    /// Builds a foreign volume's memory: from its index if both files end together.
    pub fn load_foreign(self, trash: &Trash, now_ns: u64) -> Result<Loaded, OpenError> {
        let idx_path = self.name.idx(&self.dir);
        let dat_path = self.name.dat(&self.dir);
        if !self.ends_together(self.width).map_err(at(&idx_path))? {
            return self.rebuild(trash, FOREIGN, Checkpoint::default(), now_ns);
        }
        let from = self.superblock.first_needle_offset().as_bytes();
        self.settle(from).map_err(at(&dat_path))?;
        let idx_len = self.idx.len().map_err(at(&idx_path))?;
        let (mut loaded, len, crc) = self.load_index(idx_len).map_err(at(&idx_path))?;
        loaded.counters.modified_at_secs = self.disk.modified_at_secs(&dat_path);
        let idx =
            IndexFile::open_at(self.idx.clone(), self.width, len, crc).map_err(at(&idx_path))?;
        let dat_len = self.dat_len;
        Ok(loaded.finish(self, idx, dat_len))
    }

    /// Builds the memory of a volume of this cluster: from the checkpoint and what was written
    /// after it, or, if the index does not match the checkpoint, from `.dat` alone.
    pub fn load_own(
        self,
        checkpoint: &Checkpoint,
        own_from: u64,
        trash: &Trash,
        now_ns: u64,
    ) -> Result<Loaded, OpenError> {
        let idx_path = self.name.idx(&self.dir);
        let Some(memory) = self.load_checkpoint(checkpoint).map_err(at(&idx_path))? else {
            tracing::warn!(volume = %self.name.id, "the index does not match the checkpoint: reading the whole volume file");
            return self.rebuild(trash, own_from, *checkpoint, now_ns);
        };
        self.load_tail(memory, checkpoint, own_from, trash, now_ns)
    }

    fn load_checkpoint(&self, checkpoint: &Checkpoint) -> io::Result<Option<Memory>> {
        if self.idx.len()? < checkpoint.idx_len || self.dat_len < checkpoint.dat_len {
            return Ok(None);
        }
        let (mut memory, len, crc) = self.load_index(checkpoint.idx_len)?;
        if (len, crc) != (checkpoint.idx_len, checkpoint.idx_crc32c) {
            return Ok(None);
        }
        memory.counters.max_ts = checkpoint.max_ts;
        memory.counters.modified_at_secs = checkpoint.modified_at_secs;
        Ok(Some(memory))
    }

    /// What the rows in the first `len` bytes of the index say; how many bytes were rows, and their
    /// CRC-32C.
    fn load_index(&self, len: u64) -> io::Result<(Memory, u64, u32)> {
        let mut memory = Memory::default();
        let version = self.superblock.version;
        let (len, crc) = load_rows(&*self.idx, self.width, len, |row| memory.enter(&row, version))?;
        Ok((memory, len, crc))
    }

    /// Reads the records after the checkpoint and replaces the rows after it.
    fn load_tail(
        self,
        mut memory: Memory,
        checkpoint: &Checkpoint,
        own_from: u64,
        trash: &Trash,
        now_ns: u64,
    ) -> Result<Loaded, OpenError> {
        let idx_path = self.name.idx(&self.dir);
        let mut rows = Vec::new();
        let mut row_sink = |row| {
            rows.push(row);
            Ok(())
        };
        let from = checkpoint.dat_len;
        let empties = if from < own_from {
            self.empty_needles().map_err(at(&idx_path))?
        } else {
            HashSet::new()
        };
        let walk = Walk { own_from, from, checkpoint: *checkpoint, empties: &empties, now_ns };
        let mut end = self.walk(&walk, &mut memory, &mut row_sink)?;
        let dat_len = self.cut_torn_tail(&mut end, trash, now_ns)?;
        let (len, crc) = (checkpoint.idx_len, checkpoint.idx_crc32c);
        // Written over before it is cut: if this start fails half way, the next finds the same rows.
        let mut idx = IndexFile::over(self.idx.clone(), self.width, len, crc);
        let idx = idx.append(rows.iter()).and_then(|()| idx.trim()).map(|()| idx);
        memory.damage = end.damage;
        Ok(memory.finish(self, idx.map_err(at(&idx_path))?, dat_len))
    }

    /// Reads all of `.dat` and puts a new index in place of the old. Without `own_from` the volume is
    /// another program's.
    pub fn load_anew(
        self,
        own_from: Option<u64>,
        checkpoint: Checkpoint,
        trash: &Trash,
        now_ns: u64,
    ) -> Result<Loaded, OpenError> {
        let dat_path = self.name.dat(&self.dir);
        let loaded = self.rebuild(trash, own_from.unwrap_or(FOREIGN), checkpoint, now_ns)?;
        match &loaded.damage {
            // Whoever asked for a repair hears why there was none.
            Some(damage @ Damage::UnkeptTail { .. }) => {
                Err(at(&dat_path)(io::Error::other(damage.to_string())))
            }
            _ => Ok(loaded),
        }
    }

    fn rebuild(
        self,
        trash: &Trash,
        own_from: u64,
        checkpoint: Checkpoint,
        now_ns: u64,
    ) -> Result<Loaded, OpenError> {
        let idx_path = self.name.idx(&self.dir);
        let new_path = staged_path(&idx_path);
        let empties = self.empty_needles().map_err(at(&idx_path))?;
        let new = self.disk.open(&new_path, OpenMode::WriteOrCreate).map_err(at(&new_path))?;
        let idx = IndexFile::open_at(new, self.width, 0, 0).map_err(at(&new_path))?;
        let mut writer = IndexWriter::new(idx);
        let mut memory = Memory::default();
        let from = self.superblock.first_needle_offset().as_bytes();
        let walk = Walk { own_from, from, checkpoint, empties: &empties, now_ns };
        let mut end = self.walk(&walk, &mut memory, &mut |row| writer.push(row))?;
        let idx = writer.finish(&*self.disk, &new_path, &idx_path).map_err(at(&new_path))?;
        let dat_len = self.cut_torn_tail(&mut end, trash, now_ns)?;
        memory.damage = end.damage;
        Ok(memory.finish(self, idx, dat_len))
    }

    /// Offsets of records without a body that the index calls live. Only it can tell an empty
    /// needle of another program's making from a tombstone.
    fn empty_needles(&self) -> io::Result<HashSet<u64>> {
        let mut empties = HashSet::new();
        load_rows(&*self.idx, self.width, self.idx.len()?, |row| {
            if row.size == RowSize::Live(0) {
                empties.insert(row.offset.as_bytes());
            }
        })?;
        Ok(empties)
    }

    fn walk(
        &self,
        walk: &Walk<'_>,
        memory: &mut Memory,
        row_sink: &mut dyn FnMut(IndexRow) -> io::Result<()>,
    ) -> Result<WalkEnd, OpenError> {
        self.settle(walk.from)
            .and_then(|()| self.walk_records(walk, memory, row_sink))
            .and_then(|end| self.keep_lost_rows(walk, end, memory, row_sink))
            .map_err(at(&self.name.dat(&self.dir)))
    }

    fn walk_records(
        &self,
        walk: &Walk<'_>,
        memory: &mut Memory,
        row_sink: &mut dyn FnMut(IndexRow) -> io::Result<()>,
    ) -> io::Result<WalkEnd> {
        let version = self.superblock.version;
        let mut scanner =
            Scanner::new(&*self.dat, version, walk.own_from, walk.from, self.dat_len).forgetting();
        let mut budget = Budget::new(Some(self.name.id));
        let mut end = WalkEnd::whole(self.dat_len);
        while let Some(found) = scanner.advance()? {
            match found {
                Ok(record) => {
                    let row = walk.row(&record);
                    memory.enter(&row, version);
                    memory.stamped(&record, walk);
                    end.records_behind += u64::from(record.offset >= walk.checkpoint.dat_len);
                    row_sink(row)?;
                }
                Err(error) => {
                    let bad_at = scanner.position();
                    let data_end = end_of_data(&*self.dat, bad_at, self.dat_len)?;
                    if data_end > bad_at {
                        tracing::warn!(volume = %self.name.id, offset = bad_at, "a record does not verify: {error}");
                    }
                    let suspect = self.suspect(walk, bad_at, data_end, end.records, memory);
                    match suspect.judge(&mut scanner, &mut budget)? {
                        // What another program wrote is not ours to cut; zeros are nothing.
                        Verdict::TornTail if bad_at < walk.own_from && data_end > bad_at => {
                            end.damage.get_or_insert(Damage::Record(bad_at));
                            return Ok(end);
                        }
                        Verdict::TornTail => {
                            (end.valid_len, end.data_end) = (bad_at, data_end);
                            return Ok(end);
                        }
                        Verdict::Damage(resume) => {
                            if let Some(doubt) = suspect.doubt(resume, &mut scanner, &mut budget)? {
                                memory.doubt = doubt;
                            }
                            let resume_at = resume.sure_offset().unwrap_or(self.dat_len);
                            self.keep_damaged_rows(bad_at..resume_at, memory, row_sink)?;
                            end.damage.get_or_insert(Damage::Record(bad_at));
                            scanner.seek(resume_at);
                        }
                    }
                }
            }
            end.records += 1;
        }
        Ok(end)
    }

    /// Needles behind the end of a file that lost its own end stay in the index like damaged ones.
    fn keep_lost_rows(
        &self,
        walk: &Walk<'_>,
        mut end: WalkEnd,
        memory: &mut Memory,
        row_sink: &mut dyn FnMut(IndexRow) -> io::Result<()>,
    ) -> io::Result<WalkEnd> {
        let Walk { own_from, checkpoint, .. } = *walk;
        let tail = Tail { idx: &*self.idx, width: self.width, own_from, checkpoint };
        let (found, covered) = (self.dat_len, checkpoint.dat_len);
        if found < covered {
            self.keep_damaged_rows(found..u64::MAX, memory, row_sink)?;
            end.damage.get_or_insert(Damage::Short { found, covered });
        } else if end.damage.is_some() {
            self.keep_damaged_rows(found.max(own_from)..u64::MAX, memory, row_sink)?;
        } else if tail.is_lost_behind(end.valid_len, end.records_behind)? {
            let lost = end.valid_len..u64::MAX;
            let rows = self.keep_damaged_rows(lost, memory, row_sink)?;
            let damage = Damage::LostTail { end: end.valid_len, rows };
            tracing::error!(volume = %self.name.id, "{damage}");
            end.damage = Some(damage);
        }
        Ok(end)
    }

    /// Needles whose records are damaged stay in the index, so that a read answers an error and
    /// not that there is no such needle. How many rows that were.
    fn keep_damaged_rows(
        &self,
        damaged: Range<u64>,
        memory: &mut Memory,
        row_sink: &mut dyn FnMut(IndexRow) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut rows = Vec::new();
        load_rows(&*self.idx, self.width, self.idx.len()?, |row| {
            if damaged.contains(&row.offset.as_bytes()) {
                rows.push(row);
            }
        })?;
        for row in &rows {
            memory.enter(row, self.superblock.version);
            row_sink(*row)?;
        }
        Ok(rows.len() as u64)
    }

    fn suspect(
        &self,
        walk: &Walk<'_>,
        bad_at: u64,
        data_end: u64,
        records_before: u64,
        memory: &Memory,
    ) -> Suspect<'_> {
        Suspect {
            idx: &*self.idx,
            width: self.width,
            version: self.superblock.version,
            bad_at,
            data_end,
            dat_len: self.dat_len,
            own_from: walk.own_from,
            covered_len: walk.checkpoint.dat_len,
            covered_rows: walk.checkpoint.idx_len / self.width.row_len() as u64,
            records_before,
            newest: memory.counters.max_ts,
        }
    }

    /// Cuts off what was never acknowledged, keeping the bytes in the trash, and the zeros behind
    /// the data. Where the records end. What cannot be kept stays, as damage that the next start
    /// may cut off: nothing is written behind it.
    fn cut_torn_tail(
        &self,
        end: &mut WalkEnd,
        trash: &Trash,
        now_ns: u64,
    ) -> Result<u64, OpenError> {
        if end.valid_len == self.dat_len || end.damage.is_some() {
            return Ok(self.dat_len);
        }
        if end.data_end > end.valid_len
            && let Err(error) = self.keep_torn_tail(end.valid_len..end.data_end, trash, now_ns)
        {
            let damage = Damage::unkept_tail(end.data_end - end.valid_len, &error);
            tracing::error!(volume = %self.name.id, "{damage}");
            end.damage = Some(damage);
            return Ok(end.valid_len);
        }
        let cut = self.dat.truncate(end.valid_len).and_then(|()| self.dat.sync_data());
        cut.map_err(at(&self.name.dat(&self.dir)))?;
        Ok(end.valid_len)
    }

    fn keep_torn_tail(&self, torn: Range<u64>, trash: &Trash, now_ns: u64) -> io::Result<()> {
        let len = torn.end - torn.start;
        let kept =
            trash.keep_torn(&self.name.stem(), now_ns, &mut FileRange::new(&*self.dat, torn))?;
        tracing::warn!(
            volume = %self.name.id,
            "cutting a torn tail of {len} bytes, which no write was answered for; kept as {}",
            kept.display(),
        );
        Ok(())
    }
}

/// What a walk over `.dat` starts from.
struct Walk<'a> {
    own_from: u64,
    from: u64,
    /// What was verified and synced before.
    checkpoint: Checkpoint,
    empties: &'a HashSet<u64>,
    now_ns: u64,
}

struct WalkEnd {
    valid_len: u64,
    /// Behind it are zeros at most.
    data_end: u64,
    /// Records, those that do not verify included.
    records: u64,
    /// Those that verify and are not covered by the checkpoint.
    records_behind: u64,
    damage: Option<Damage>,
}

impl WalkEnd {
    fn whole(len: u64) -> Self {
        Self { valid_len: len, data_end: len, records: 0, records_behind: 0, damage: None }
    }
}

impl Walk<'_> {
    fn row(&self, record: &Scanned) -> IndexRow {
        let is_empty = record.offset < self.own_from && self.empties.contains(&record.offset);
        let is_live = record.size != 0 || is_empty;
        let size = if is_live { RowSize::Live(record.size) } else { RowSize::Tombstone };
        let offset = Offset::from_bytes(record.offset).unwrap_or_default();
        IndexRow { key: record.key, offset, size }
    }
}

/// Map and counters while they are built.
#[derive(Default)]
struct Memory {
    loader: Loader,
    counters: Counters,
    damage: Option<Damage>,
    doubt: Doubt,
    ignored_stamps: u64,
}

impl Memory {
    /// Takes note of a record's stamp, if it is to be believed.
    fn stamped(&mut self, record: &Scanned, walk: &Walk<'_>) {
        if foreign_stamp::counts(record.ts, record.offset >= walk.own_from, walk.now_ns) {
            self.counters.stamped(record.ts);
        } else {
            self.ignored_stamps += 1;
        }
    }

    fn enter(&mut self, row: &IndexRow, version: Version) {
        let entry = Entry { offset: row.offset, size: row.size };
        let counters = &mut self.counters;
        self.loader.enter(row.key, entry, |before, after| counters.moved(before, after, version));
    }

    fn finish(self, files: Files, idx: IndexFile, dat_len: u64) -> Loaded {
        let Self { loader, mut counters, damage, doubt, ignored_stamps } = self;
        let Files { dat, superblock, width, .. } = files;
        let version = superblock.version;
        let map = loader.finish(|before, after| counters.moved(before, after, version));
        Loaded {
            dat,
            superblock,
            width,
            map,
            counters,
            idx,
            dat_len,
            damage,
            doubt,
            ignored_stamps,
        }
    }
}
