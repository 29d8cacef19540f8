//! The new files in the making.
//!
//! The old file is walked from its start, in rounds: each copies what the needle map still points
//! at and ends where the file ended when the round began. What is written or deleted meanwhile lies
//! behind that, so the next round meets it; the last one runs while writes wait. Records keep their
//! order and their bytes. A round is read back from the disk before the next begins.

use std::{
    io::{self, IoSlice},
    ops::{ControlFlow, Range},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dulse_shared::id::{NeedleKey, Ts};

use super::{
    bad_records::BadRecords,
    run::{Compacted, CompactionError, Pace},
    swap::remove_marker,
};
use crate::{
    disk::{CACHED_AS_ONE_BYTES, OpenMode, VolumeFile, read_exact_at, write_all_at},
    engine::{
        counters::Counters,
        index_file::IndexFile,
        needle_map::{Entry, NeedleMap},
        scan::{Scanned, Scanner},
        sidecar::{Checkpoint, Generation},
        volume::Volume,
        write::{Write, WriteError},
    },
    format::{IndexRow, Offset, RowSize, SUPERBLOCK_LEN, Superblock, Version},
};

/// Bytes that are read, and copied, at once, before others have their turn.
const STEP_BYTES: u64 = 256 << 10;
/// Bytes that are left to the page cache at most: a sync of many would hold up those of writers.
const UNSYNCED_BYTES: u64 = 1 << 20;
/// A tombstone is kept for as long as a copy of the write it ended may still be on its way.
const TOMBSTONE_AGE_NS: u64 = 600 * 1_000_000_000;
/// Expired needles that are deleted with one sync.
const EXPIRED_AT_ONCE: usize = 1024;

/// How a round treats what it meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    /// The first: old tombstones stay behind, expired needles are deleted.
    First,
    /// One that follows: everything newer than the rounds before is copied.
    Later,
}

/// The new files, and up to where they follow the old one.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    volume: &'a Volume,
    source: Source,
    pub(super) dat: Arc<dyn VolumeFile>,
    pub(super) idx: IndexFile,
    pub(super) map: NeedleMap,
    pub(super) counters: Counters,
    /// Length of the new file.
    pub(super) len: u64,
    pub(super) superblock: Superblock,
    /// Needles that were deleted because they had expired.
    expired: u64,
    /// Needles that look expired by a clock that is not believed: they were copied.
    doubted: u64,
    /// Expired needles that were copied, for want of a place for their deletes.
    postponed: u64,
    /// What was passed by.
    bad: BadRecords,
    own_from: Option<u64>,
    /// Up to where the old file was walked.
    copied_to: u64,
    synced_len: u64,
    pending: Pending,
    round: RoundSum,
}

/// The file that is compacted.
#[derive(Debug)]
struct Source {
    dat: Arc<dyn VolumeFile>,
    version: Version,
    own_from: u64,
}

/// What was chosen and not written yet: neighbouring stretches of the old file, and their rows.
#[derive(Debug, Default)]
struct Pending {
    stretches: Vec<Range<u64>>,
    bytes: u64,
    rows: Vec<IndexRow>,
}

/// What a round copied: to be found again on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct RoundSum {
    from: u64,
    records: u64,
    sum: u32,
}

impl<'a> Copy<'a> {
    /// Empty files beside the old ones.
    pub(super) fn begin(volume: &'a Volume) -> io::Result<Self> {
        let (dat, own_from, revision) = {
            let snapshot = volume.snapshot();
            (snapshot.dat.clone(), snapshot.own_from, snapshot.revision)
        };
        let superblock =
            Superblock { compaction_revision: revision.wrapping_add(1), ..volume.superblock };
        let (disk, dir) = (volume.dir.files(), volume.dir.path());
        remove_marker(&**disk, dir, &volume.name)?;
        let open = |path: &Path| disk.open(path, OpenMode::WriteOrCreate);
        let new = open(&volume.name.compacted_dat(dir))?;
        new.truncate(0)?;
        let idx = open(&volume.name.compacted_idx(dir))?;
        let first = superblock.first_needle_offset().as_bytes();
        let mut start = vec![0; usize::try_from(first).map_err(io::Error::other)?];
        read_exact_at(&*dat, &mut start, 0)?;
        start[..SUPERBLOCK_LEN].copy_from_slice(&superblock.encode());
        write_all_at(&*new, &mut [IoSlice::new(&start)], 0)?;
        Ok(Self {
            volume,
            source: Source { dat, version: volume.version(), own_from },
            dat: new,
            idx: IndexFile::open_at(idx, volume.width, 0, 0)?,
            map: NeedleMap::default(),
            counters: Counters::default(),
            len: first,
            superblock,
            expired: 0,
            doubted: 0,
            postponed: 0,
            bad: BadRecords::default(),
            own_from: None,
            copied_to: first,
            synced_len: 0,
            pending: Pending::default(),
            round: RoundSum { from: first, ..RoundSum::default() },
        })
    }

    /// Bytes of the old file that no round has walked.
    pub(super) fn left_bytes(&self) -> u64 {
        self.volume.dat_len.load(Ordering::Acquire).saturating_sub(self.copied_to)
    }

    /// What was done so far to a file of `before_bytes`; writes are not stopped yet.
    pub(super) fn outcome(&self, before_bytes: u64) -> Compacted {
        Compacted {
            before_bytes,
            after_bytes: self.len,
            expired: self.expired,
            doubted: self.doubted,
            postponed: self.postponed,
            bad_stretches: self.bad.passed(),
            writes_stopped: Duration::ZERO,
        }
    }

    /// What the sidecar says of the new files so far.
    pub(super) fn generation(&self) -> Generation {
        let first = self.superblock.first_needle_offset().as_bytes();
        Generation {
            generation: self.superblock.compaction_revision,
            own_from: self.own_from.unwrap_or(self.len),
            checkpoint: Checkpoint::covering(self.len, first, &self.idx, &self.counters),
        }
    }

    /// Copies what was appended up to now, syncs it and reads it back.
    pub(super) fn round(
        &mut self,
        round: Round,
        pace: &mut dyn Pace,
    ) -> Result<(), CompactionError> {
        let end = self.volume.dat_len.load(Ordering::Acquire);
        self.round = RoundSum { from: self.len, ..RoundSum::default() };
        let mut expired = Vec::new();
        let dat = self.source.dat.clone();
        let Source { version, own_from, .. } = self.source;
        let mut scanner = Scanner::new(&*dat, version, own_from, self.copied_to, end)
            .in_small_steps()
            .sparing_neighbours();
        let mut steps = Steps { pace, reached: self.copied_to };
        while let Some(found) = scanner.advance_or_tell() {
            match found {
                Ok(record) => self.record(&record, round, &mut expired)?,
                Err(reason) => {
                    let bad_at = scanner.position();
                    let behind = self.bad.pass_by(self.volume, round, bad_at, end, &reason)?;
                    scanner.seek(behind);
                }
            }
            if expired.len() >= EXPIRED_AT_ONCE {
                self.delete_expired(&mut expired)?;
            }
            if steps.is_due(scanner.position()) {
                self.write_pending()?;
                steps.pause(scanner.position())?;
            }
        }
        steps.pause(scanner.position())?;
        self.delete_expired(&mut expired)?;
        self.write_pending()?;
        self.copied_to = end;
        self.sync()?;
        self.read_back(steps.pace)
    }

    /// Takes a record along if it is the newest of its key.
    fn record(
        &mut self,
        record: &Scanned,
        round: Round,
        expired: &mut Vec<Write>,
    ) -> Result<(), CompactionError> {
        let entry = self.volume.entry(record.key);
        let Some(entry) = entry.filter(|entry| entry.offset.as_bytes() == record.offset) else {
            return Ok(());
        };
        let is_first = round == Round::First;
        match entry.size {
            RowSize::Tombstone if is_first && self.is_old(record.ts) => return Ok(()),
            RowSize::Live(_)
                if is_first && self.is_expired(record) && self.is_deletable(expired.len()) =>
            {
                let Scanned { key, cookie, ts, .. } = *record;
                expired.push(Write::Expire { key, cookie, written: ts });
                return Ok(());
            }
            RowSize::Tombstone | RowSize::Live(_) => {}
        }
        self.choose(record, entry.size)
    }

    fn is_old(&self, ts: Ts) -> bool {
        ts.0.saturating_add(TOMBSTONE_AGE_NS) <= self.volume.clock().wall_ns()
    }

    /// Whether a needle is to be deleted. One that a wrong clock takes for expired is hidden until
    /// the clock is set right: deleted it would be gone.
    fn is_expired(&mut self, record: &Scanned) -> bool {
        let is_over = |now_secs| record.expires_at_secs.is_some_and(|at| at <= now_secs);
        let (true, Some(ttl)) = (is_over(self.volume.clock().wall_secs()), record.ttl.duration())
        else {
            return false;
        };
        let is_believed = self.volume.secs_to_delete_by(ttl).is_some_and(is_over);
        self.doubted += u64::from(!is_believed);
        is_believed
    }

    /// Whether an expired needle can be deleted before the copy, as one more than `others`. At the
    /// last offset that the index can express there is no place for that; in the new file there is.
    fn is_deletable(&mut self, others: usize) -> bool {
        let is_deletable = self.volume.has_place_for_deletes(others as u64 + 1);
        self.postponed += u64::from(!is_deletable);
        is_deletable
    }

    fn choose(&mut self, record: &Scanned, size: RowSize) -> Result<(), CompactionError> {
        let at = self.len + self.pending.bytes;
        let offset = Offset::from_bytes(at).ok_or_else(|| io::Error::other("it grows too long"))?;
        if record.offset >= self.source.own_from {
            self.own_from.get_or_insert(at);
        }
        let row = IndexRow { key: record.key, offset, size };
        self.pending.add(record.offset..record.offset + record.len, row);
        let entry = Entry { offset, size };
        let before = self.map.insert(record.key, entry);
        self.counters.moved(before, entry, self.source.version);
        if self.volume.believes(record.ts, record.offset >= self.source.own_from) {
            self.counters.stamped(record.ts);
        }
        self.round.take(record);
        if self.pending.bytes >= STEP_BYTES { Ok(self.write_pending()?) } else { Ok(()) }
    }

    /// Deletes what has expired as a client would. What was written anew meanwhile stays.
    fn delete_expired(&mut self, expired: &mut Vec<Write>) -> Result<(), CompactionError> {
        if expired.is_empty() {
            return Ok(());
        }
        for answer in self.volume.commit(std::mem::take(expired)) {
            match answer {
                Ok(_) => self.expired += 1,
                Err(WriteError::NotFound) => {}
                Err(error) => return Err(CompactionError::Expire(error)),
            }
        }
        Ok(())
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let Pending { stretches, rows, .. } = std::mem::take(&mut self.pending);
        let mut buffer = Vec::new();
        for stretch in stretches {
            let mut position = stretch.start;
            while position < stretch.end {
                let piece = (stretch.end - position).min(STEP_BYTES);
                let filled = buffer.len();
                buffer.resize(filled + usize::try_from(piece).map_err(io::Error::other)?, 0);
                read_exact_at(&*self.source.dat, &mut buffer[filled..], position)
                    .map_err(|error| unread(position, &error))?;
                position += piece;
                if buffer.len() as u64 >= STEP_BYTES {
                    self.write(&mut buffer)?;
                }
            }
        }
        self.write(&mut buffer)?;
        self.idx.append(rows.iter())
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        write_all_at(&*self.dat, &mut [IoSlice::new(buffer)], self.len)?;
        self.len += buffer.len() as u64;
        buffer.clear();
        if self.len - self.synced_len >= UNSYNCED_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.dat.sync_data()?;
        self.synced_len = self.len;
        Ok(())
    }

    /// Reads what the round wrote from the disk: it must be what was copied, and each record where
    /// the new map says.
    fn read_back(&self, pace: &mut dyn Pace) -> Result<(), CompactionError> {
        let start = self.round.from / CACHED_AS_ONE_BYTES * CACHED_AS_ONE_BYTES;
        self.dat.forget_cached(start..self.len)?;
        let mut found = RoundSum { from: self.round.from, ..RoundSum::default() };
        let own_from = self.own_from.unwrap_or(u64::MAX);
        let mut scanner =
            Scanner::new(&*self.dat, self.source.version, own_from, self.round.from, self.len)
                .in_small_steps();
        let mut steps = Steps { pace, reached: self.round.from };
        while let Some(record) = scanner.advance()? {
            let record = record.map_err(|_| CompactionError::Differs)?;
            let entry = self.map.lookup(record.key);
            if entry.is_none_or(|entry| entry.offset.as_bytes() != record.offset) {
                return Err(CompactionError::Differs);
            }
            found.take(&record);
            if steps.is_due(scanner.position()) {
                steps.pause(scanner.position())?;
            }
        }
        steps.pause(scanner.position())?;
        if found == self.round { Ok(()) } else { Err(CompactionError::Differs) }
    }

    /// Holds the new map against the old one, as far as the rounds have come: every needle of the
    /// old one must be there. That there are no others is told by their number.
    pub(super) fn compare(&self) -> Result<(), CompactionError> {
        let mut next = NeedleKey::new(1);
        while let Some(first) = next {
            let piece = self.volume.map_piece(first);
            let is_behind = |entry: &Entry| entry.offset.as_bytes() >= self.copied_to;
            let mut entries = piece.entries.iter().filter(|(_, entry)| !is_behind(entry));
            if entries.any(|(key, entry)| !self.has(*key, entry)) {
                return Err(CompactionError::Differs);
            }
            next = piece.next;
        }
        Ok(())
    }

    fn has(&self, key: NeedleKey, old: &Entry) -> bool {
        let new = self.map.lookup(key).map(|entry| entry.size);
        match old.size {
            RowSize::Live(_) => new == Some(old.size),
            RowSize::Tombstone => !matches!(new, Some(RowSize::Live(_))),
        }
    }

    /// Takes over what no record says: the highest stamp, of whatever was dropped, and when the
    /// volume was written last.
    pub(super) fn inherit(&mut self, old: &Counters) {
        self.counters.max_ts = self.counters.max_ts.max(old.max_ts);
        self.counters.modified_at_secs = old.modified_at_secs;
    }
}

fn unread(offset: u64, error: &io::Error) -> io::Error {
    let what = format!("the disk no longer gives the records from offset {offset} on: {error}");
    io::Error::new(error.kind(), what)
}

impl Pending {
    fn add(&mut self, stretch: Range<u64>, row: IndexRow) {
        self.bytes += stretch.end - stretch.start;
        self.rows.push(row);
        match self.stretches.last_mut() {
            Some(last) if last.end == stretch.start => last.end = stretch.end,
            _ => self.stretches.push(stretch),
        }
    }
}

impl RoundSum {
    fn take(&mut self, record: &Scanned) {
        self.records += 1;
        self.sum = crc32c::crc32c_append(self.sum, &record.sum.to_be_bytes());
    }
}

/// A walk in steps, with a pause after each.
struct Steps<'a> {
    pace: &'a mut dyn Pace,
    /// Where the last pause was.
    reached: u64,
}

impl Steps<'_> {
    fn is_due(&self, position: u64) -> bool {
        position - self.reached >= STEP_BYTES
    }

    fn pause(&mut self, position: u64) -> Result<(), CompactionError> {
        let bytes = position - std::mem::replace(&mut self.reached, position);
        match self.pace.after(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CompactionError::Stopped),
        }
    }
}
