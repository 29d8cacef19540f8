//! Committing a batch of writes: the only code that makes a volume longer.
//!
//! The order is never changed: append → sync → index → visible → answer. A batch whose sync failed
//! is never retried, because the kernel may have dropped its pages and would report success; the
//! volume then takes no more writes.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use dulse_shared::id::{BatchPlace, Cookie, NeedleKey, Ts};

use super::{
    checkpoint::WriteState,
    existing::Existing,
    fill::FillAhead,
    lay::{LayError, RecordBytes, lay},
    needle_map::Entry,
    verified::Place,
    volume::{Refusal, Volume},
    write::{Write, WriteError, Written},
};
use crate::{
    disk::VolumeFile,
    format::{
        CURRENT_VERSION, IndexRow, Offset, RowSize, TOMBSTONE_LEN, encode_tombstone, record_len,
    },
};

/// Writes of one batch that passed all checks, in order.
struct Batch {
    end: u64,
    planned: Vec<Planned>,
    /// The newest planned version of each key, so that writes of one batch see each other.
    newest: HashMap<NeedleKey, Existing>,
    /// Indices of writes that were judged by an earlier one of the batch: what becomes of that
    /// becomes of them, even if they plan nothing.
    leaning: Vec<usize>,
}

struct Planned {
    /// Index of the write among those given.
    index: usize,
    row: IndexRow,
    ts: Ts,
    bytes: RecordBytes,
}

impl Volume {
    /// Commits `writes` together with one sync; an answer for each, in their order.
    pub fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, WriteError>> {
        let mut state = self.lock_writes();
        let mut answers: Vec<Result<Written, WriteError>> = Vec::with_capacity(writes.len());
        let mut batch = Batch {
            end: self.dat_len.load(Ordering::Acquire),
            planned: Vec::with_capacity(writes.len()),
            newest: HashMap::new(),
            leaning: Vec::new(),
        };
        let puts = self.refuses_puts();
        let deletes = self.refuses_deletes();
        for (index, write) in writes.into_iter().enumerate() {
            let gate = match write {
                Write::Put(_) => &puts,
                Write::Delete { .. } | Write::Expire { .. } => &deletes,
            };
            let planned = gate
                .clone()
                .map_err(WriteError::from)
                .and_then(|()| self.take_room(&write))
                .and_then(|()| self.plan(&mut batch, index, write));
            answers.push(planned);
        }
        if let Err(failure) = self.append(&mut state, &batch) {
            let planned = batch.planned.iter().map(|planned| planned.index);
            for index in planned.chain(batch.leaning.iter().copied()) {
                answers[index] = Err(failure.answer(self));
            }
        }
        drop(state);
        answers
    }

    /// Counts a write against the room of the disk. Deletes take from what uploads leave.
    fn take_room(&self, write: &Write) -> Result<(), WriteError> {
        match write {
            Write::Put(needle) if self.dir.try_take_room(needle.record_len()?) => Ok(()),
            Write::Put(_) => Err(Refusal::NoRoom(self.id()).into()),
            Write::Delete { .. } | Write::Expire { .. } => {
                self.dir.take_room(TOMBSTONE_LEN as u64);
                Ok(())
            }
        }
    }

    /// Checks one write and plans where its record goes.
    fn plan(&self, batch: &mut Batch, index: usize, write: Write) -> Result<Written, WriteError> {
        let key = write.key();
        let existing = match batch.newest.get(&key) {
            Some(existing) => {
                batch.leaning.push(index);
                Some(*existing)
            }
            None => self
                .existing(key, write.cookie())
                .map_err(|error| WriteError::Unreadable(Arc::new(error)))?,
        };
        let place = if batch.planned.is_empty() { BatchPlace::First } else { BatchPlace::Later };
        let known = existing.map_or(Ts::default(), |existing| existing.floor);
        let ts = self.shared.stamps.next(known, self.slot(), place);
        let (bytes, size, cookie, written) = match write {
            Write::Put(needle) => {
                if existing.is_some_and(|existing| existing.cookie != needle.cookie) {
                    return Err(WriteError::CookieMismatch);
                }
                let cookie = needle.cookie;
                let (record, checksum) = (needle.encode(ts)?, needle.checksum);
                let size = RowSize::Live(needle.body_size()?);
                (RecordBytes::Put { record, checksum }, size, cookie, Written::Stored)
            }
            Write::Delete { cookie, .. } => delete(key, cookie, existing, ts)?,
            Write::Expire { cookie, written, .. } => {
                let expired = existing.filter(|existing| existing.ts == written);
                delete(key, cookie, expired, ts)?
            }
        };
        let (offset, end) = self.place(batch.end, &bytes)?;
        batch.end = end;
        batch.newest.insert(key, Existing { size, cookie, ts, floor: ts });
        let row = IndexRow { key, offset, size };
        batch.planned.push(Planned { index, row, ts, bytes });
        Ok(written)
    }

    /// Where a record lies that is appended at `start`, and where it ends. A volume is full long
    /// before its index cannot say where; but a batch may be long, and deletes are taken from a full
    /// one as well.
    fn place(&self, start: u64, bytes: &RecordBytes) -> Result<(Offset, u64), WriteError> {
        let offset = Offset::from_bytes(start).ok_or_else(|| {
            self.mark_failed("a write", &"the file ends off an 8-byte boundary");
            WriteError::Unknown(self.id())
        })?;
        let end = self.width.end_of(offset, bytes.len());
        let refusal = match bytes {
            RecordBytes::Put { .. } => Refusal::Full(self.id()),
            RecordBytes::Tombstone(_) => Refusal::AtItsEnd(self.id()),
        };
        Ok((offset, end.ok_or(refusal)?))
    }

    /// Whether the index can address so many deletes more.
    pub(super) fn has_place_for_deletes(&self, count: u64) -> bool {
        let end = Offset::from_bytes(self.dat_len.load(Ordering::Acquire));
        let len = count.saturating_mul(TOMBSTONE_LEN as u64);
        end.is_some_and(|end| self.width.end_of(end, len).is_some())
    }

    /// Our stamp's slot in the volume's configuration.
    fn slot(&self) -> u8 {
        let server = self.dir.identity().server;
        let config = self.config();
        config.members.iter().find(|member| member.server == server).map_or(0, |m| m.slot)
    }

    /// Append → sync → index → visible.
    fn append(&self, state: &mut WriteState, batch: &Batch) -> Result<(), AppendFailure> {
        if batch.planned.is_empty() {
            return Ok(());
        }
        let dat = self.dat();
        let start = self.dat_len.load(Ordering::Acquire);
        let records: Vec<_> = batch.planned.iter().map(|planned| &planned.bytes).collect();
        let zeros = if self.dir.is_low() { 0 } else { state.fill.zeros_behind(start, batch.end) };
        self.dir.take_room(zeros);
        match lay(&*dat, &records, zeros, start) {
            Ok(zeros) => state.fill.reaches(batch.end + zeros),
            Err(error) => return Err(self.take_back(state, &*dat, start, error)),
        }
        let before_sync = self.clock().boot();
        if let Err(error) = dat.sync_data() {
            return Err(self.fail("a sync of the volume file", &error));
        }
        let metrics = &self.shared.metrics;
        metrics.fsync_seconds.observe(self.clock().since(before_sync).as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most thousands of writes")]
        metrics.commit_batch_size.observe(batch.planned.len() as f64);
        self.index(state, batch);
        Ok(())
    }

    /// Enters a durable batch into index, map and counters.
    fn index(&self, state: &mut WriteState, batch: &Batch) {
        if !state.idx_is_broken
            && let Err(error) = state.idx.append(batch.planned.iter().map(|planned| &planned.row))
        {
            tracing::error!(volume = %self.id(), "cannot append to the index file: {error}; it is rebuilt at the next start");
            state.idx_is_broken = true;
            self.mark_failed("a write to the index file", &error);
        }
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let mut counters = self.counters();
        for Planned { row, ts, .. } in &batch.planned {
            let entry = Entry { offset: row.offset, size: row.size };
            let before = snapshot.map.insert(row.key, entry);
            if let Some(before) = before {
                let offset = before.offset.as_bytes();
                self.scrubbed.absolve(Place { revision: snapshot.revision, offset });
            }
            counters.moved(before, entry, CURRENT_VERSION);
            counters.stamped(*ts);
        }
        self.dat_len.store(batch.end, Ordering::Release);
    }

    /// Cuts a short or failed write off again. If that works nothing was stored; if not, the
    /// volume has failed.
    fn take_back(
        &self,
        state: &mut WriteState,
        dat: &dyn VolumeFile,
        start: u64,
        error: LayError,
    ) -> AppendFailure {
        let (error, failure) = match error {
            LayError::Volume(error) => (error, AppendFailure::TakenBack),
            LayError::Spool(error) => (error, AppendFailure::Mangled),
        };
        if let Err(truncate) = dat.truncate(start).and_then(|()| dat.sync_data()) {
            tracing::error!(volume = %self.id(), "cannot take back a failed write: {truncate}");
            return self.fail("a write to the volume file", &error);
        }
        state.fill = FillAhead::at_rest(start);
        tracing::error!(volume = %self.id(), "cannot write: {error}; nothing was stored");
        failure
    }

    pub(super) fn fail(&self, action: &str, error: &io::Error) -> AppendFailure {
        tracing::error!(volume = %self.id(), "{action} failed: {error}; the volume takes no more writes until the server is started again");
        self.mark_failed(action, error);
        AppendFailure::Failed
    }
}

/// How an append came to nothing.
pub(super) enum AppendFailure {
    /// The file is as it was before.
    TakenBack,
    /// The same, because a spool file does not hold what was received.
    Mangled,
    /// Nobody knows what the file holds.
    Failed,
}

impl AppendFailure {
    fn answer(&self, volume: &Volume) -> WriteError {
        match self {
            Self::TakenBack => Refusal::NoRoom(volume.id()).into(),
            Self::Mangled => WriteError::Mangled(volume.id()),
            Self::Failed => WriteError::Unknown(volume.id()),
        }
    }
}

/// The tombstone that deletes `existing`, its row's size, its cookie and the answer.
fn delete(
    key: NeedleKey,
    cookie: Cookie,
    existing: Option<Existing>,
    ts: Ts,
) -> Result<(RecordBytes, RowSize, Cookie, Written), WriteError> {
    let body_bytes = deletable(existing, cookie)?;
    let record = encode_tombstone(key, cookie, ts);
    let written = Written::Deleted { body_bytes };
    Ok((RecordBytes::Tombstone(record), RowSize::Tombstone, cookie, written))
}

/// What a delete answers; an empty needle of another program's making has no body, but some
/// clients take a size of 0 for "was not there".
fn deletable(existing: Option<Existing>, cookie: Cookie) -> Result<u64, WriteError> {
    match existing {
        None | Some(Existing { size: RowSize::Tombstone, .. }) => Err(WriteError::NotFound),
        Some(existing) if existing.cookie != cookie => Err(WriteError::CookieMismatch),
        Some(Existing { size: RowSize::Live(0), .. }) => Ok(record_len(0, CURRENT_VERSION)),
        Some(Existing { size: RowSize::Live(size), .. }) => Ok(u64::from(size)),
    }
}
