//! One compaction from start to end.
//!
//! Copy, sync, read back, compare; only then swap, and only then let the old file go. Whatever goes
//! wrong before the swap leaves the volume as it was.

use std::{io, ops::ControlFlow, sync::TryLockError, time::Duration};

use dulse_shared::id::NeedleKey;

use super::copy::{Copy, Round};
use crate::engine::{
    volume::{Refusal, Volume},
    write::WriteError,
};

/// Bytes that may be left for the last round, while which writes wait: some milliseconds.
const LAST_ROUND_BYTES: u64 = 1 << 20;
/// Rounds after the first: each is shorter than the one before, unless writes come faster than they
/// can be copied.
const MAX_ROUNDS: u32 = 16;
/// Room beyond the live bytes: what is written meanwhile, and the index.
const SPARE_BYTES: u64 = 64 << 20;

/// How fast a compaction goes.
pub trait Pace {
    /// Called after `bytes` were read; waits as long as others should have the disk, and ends the
    /// compaction with `Break`.
    fn after(&mut self, bytes: u64) -> ControlFlow<()>;
}

/// What a compaction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// Length of the volume file before, in bytes.
    pub before_bytes: u64,
    /// Length of the volume file after, in bytes.
    pub after_bytes: u64,
    /// Needles that were deleted because they had expired.
    pub expired: u64,
    /// Needles that look expired and were kept, because the clock is not believed.
    pub doubted: u64,
    /// Expired needles that were kept, because the index could not address their deletes: the file
    /// was as long as that. The next compaction deletes them if this one made it shorter.
    pub postponed: u64,
    /// Stretches of garbage that were dropped unread, because what they begin with is bad.
    pub bad_stretches: u64,
    /// For how long writes waited at the end.
    pub writes_stopped: Duration,
}

/// Why a volume was not compacted; it is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// Another compaction of it is under way.
    #[error("it is being compacted already")]
    Busy,
    /// It takes no deletes either.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would not fit beside the old file.
    #[error("it needs {needed} bytes of room, its disk has {free}: free space or add a disk")]
    NoRoom {
        /// For the copy and some more.
        needed: u64,
        /// As last measured.
        free: u64,
    },
    /// It was asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// The record of a needle does not verify, or the disk does not give it.
    #[error(
        "needle {key} at offset {offset} cannot be copied: {reason}; a scrub tells its fid: upload it \
         again or delete it, and then vacuum the volume"
    )]
    Damaged {
        /// Its key.
        key: NeedleKey,
        /// Where it lies.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The same of the record of a delete, which may still be needed.
    #[error(
        "the delete of needle {key} at offset {offset} cannot be copied: {reason}; vacuum the volume \
         again, and if that does not help upload the needle, delete it and then vacuum"
    )]
    DamagedDelete {
        /// The key of the needle that was deleted.
        key: NeedleKey,
        /// Where the record lies.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Expired needles could not be deleted.
    #[error("expired needles could not be deleted: {0}")]
    Expire(#[source] WriteError),
    /// What was written is not what was copied.
    #[error("the copy is not what was copied: the disk or the program is at fault")]
    Differs,
    /// It never caught up with the writes.
    #[error("writes come faster than they can be copied: try again later")]
    Outrun,
    /// The disk says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Volume {
    /// Writes the live needles into a new file and puts it in the place of the old one. Readers and
    /// writers go on meanwhile; writes wait while the last megabyte at most is copied.
    pub fn compact(&self, pace: &mut dyn Pace) -> Result<Compacted, CompactionError> {
        let _alone = match self.compaction.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(CompactionError::Busy),
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        self.can_be_compacted()?;
        let compacted = self.copy_and_swap(pace);
        match &compacted {
            Err(_) => self.give_up(),
            Ok(_) => {
                if let Err(error) = self.checkpoint() {
                    tracing::warn!(volume = %self.id(), "cannot write a checkpoint after a compaction: {error}; the next start reads more of the volume");
                }
            }
        }
        compacted
    }

    fn can_be_compacted(&self) -> Result<(), CompactionError> {
        self.refuses_deletes()?;
        self.dir.measure(self.clock());
        let needed = self.counters().live_bytes.saturating_add(SPARE_BYTES);
        if self.dir.has_room_for(needed) {
            return Ok(());
        }
        Err(CompactionError::NoRoom { needed, free: self.dir.free_bytes() })
    }

    fn copy_and_swap(&self, pace: &mut dyn Pace) -> Result<Compacted, CompactionError> {
        let before_bytes = self.report().size_bytes;
        let mut copy = Copy::begin(self)?;
        copy.round(Round::First, pace)?;
        let mut rounds = 0;
        catch_up(&mut copy, &mut rounds)?;
        copy.compare()?;
        // Comparing takes seconds in a large volume, in which much may be written.
        let (mut state, stopped_at) = loop {
            catch_up(&mut copy, &mut rounds)?;
            self.announce(&mut copy)?;
            let state = self.lock_writes();
            if copy.left_bytes() <= LAST_ROUND_BYTES {
                break (state, self.clock().boot());
            }
        };
        self.refuses_deletes()?;
        copy.round(Round::Later, &mut AtOnce)?;
        self.compare_counts(&mut copy)?;
        let compacted = copy.outcome(before_bytes);
        let replaced = copy.swap(self, &mut state)?;
        drop(state);
        let writes_stopped = self.clock().since(stopped_at);
        drop(replaced);
        Ok(Compacted { writes_stopped, ..compacted })
    }

    /// Has the sidecar speak of the new files as well, so that whichever a start finds is known.
    fn announce(&self, copy: &mut Copy<'_>) -> Result<(), CompactionError> {
        copy.idx.sync()?;
        let mut state = self.lock_writes();
        copy.inherit(&self.counters());
        state.next = Some(copy.generation());
        Ok(self.write_sidecar(&mut state, &self.config())?)
    }

    fn compare_counts(&self, copy: &mut Copy<'_>) -> Result<(), CompactionError> {
        let old = *self.counters();
        copy.inherit(&old);
        let new = &copy.counters;
        let is_same = (old.live_needles, old.live_bytes) == (new.live_needles, new.live_bytes);
        if is_same { Ok(()) } else { Err(CompactionError::Differs) }
    }

    /// Removes what was begun, unless a start may still need it.
    fn give_up(&self) {
        let mut state = self.lock_writes();
        if self.failure.is_set() {
            return;
        }
        state.next = None;
        let (disk, dir) = (self.dir.files(), self.dir.path());
        for path in [self.name.compacted_dat(dir), self.name.compacted_idx(dir)] {
            // One that stays is removed by the next start, or written over.
            drop(disk.remove(&path));
        }
    }
}

/// Copies until little is left, in some rounds at most.
fn catch_up(copy: &mut Copy<'_>, rounds: &mut u32) -> Result<(), CompactionError> {
    while copy.left_bytes() > LAST_ROUND_BYTES {
        *rounds += 1;
        if *rounds > MAX_ROUNDS {
            return Err(CompactionError::Outrun);
        }
        copy.round(Round::Later, &mut AtOnce)?;
    }
    Ok(())
}

/// Writes are waiting, or soon will be.
struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
