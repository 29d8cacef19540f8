//! Where a copy goes on behind a record that does not verify, or that the disk does not give.
//!
//! What the needle map does not point at is garbage, and nobody needs to read it: the walk goes on at
//! what the map points at next. A needle's record is never left behind. A delete's may be, under the
//! conditions of [`may_drop_delete`].
//!
//! One look at the map lists what comes next for many bad records, and the log hears of few of them.

use std::{collections::VecDeque, ops::Range};

use dulse_shared::id::NeedleKey;

use super::{copy::Round, run::CompactionError};
use crate::{
    engine::{
        file_order::{InFile, InOrder, Picked},
        scan::BadRecord,
        volume::Volume,
    },
    format::RowSize,
};

/// Entries that a look at the map lists, 16 bytes each, and twice that many at times: 30 million
/// needles are then looked at 458 times at most, in a file with garbage that is bad all over.
const MAX_LISTED: usize = 1 << 16;
/// Stretches that are logged one by one.
const MAX_LOGGED: u64 = 20;

/// The bad records that a copy met, and what it knows of the way ahead.
#[derive(Debug, Default)]
pub(super) struct BadRecords {
    ahead: Ahead,
    /// Stretches of garbage, each from a bad record up to what the map points at next.
    passed: u64,
}

/// A record that the needle map points at, or did when the map was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pointed {
    offset: u64,
    key: NeedleKey,
}

impl InFile for Pointed {
    fn offset(&self) -> u64 {
        self.offset
    }
}

impl BadRecords {
    /// Where the walk goes on behind the bad record at `bad_at`, in a round that ends at `end`.
    pub(super) fn pass_by(
        &mut self,
        volume: &Volume,
        round: Round,
        bad_at: u64,
        end: u64,
        reason: &BadRecord,
    ) -> Result<u64, CompactionError> {
        let mut deleted = None;
        let behind = loop {
            match self.ahead.first(bad_at, end, |stretch| pointed_at(volume, stretch)) {
                None => break end,
                Some(next) if next.offset > bad_at => break next.offset,
                Some(here) => deleted = let_go(volume, round, here, reason)?.or(deleted),
            }
            self.ahead.skip();
        };
        self.note(volume, bad_at, deleted, reason);
        Ok(behind)
    }

    /// How often something was passed by.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    fn note(
        &mut self,
        volume: &Volume,
        offset: u64,
        deleted: Option<NeedleKey>,
        reason: &BadRecord,
    ) {
        let volume = volume.id();
        match (self.passed, deleted) {
            (MAX_LOGGED, _) => {
                tracing::warn!(%volume, "a compaction drops more than {MAX_LOGGED} stretches of bad garbage: the others are only counted");
            }
            (MAX_LOGGED.., _) => {}
            (_, Some(key)) => {
                tracing::warn!(%volume, %key, offset, "a compaction drops the bad record of a delete, and nothing of its needle is left: {reason}");
            }
            (_, None) => {
                tracing::warn!(%volume, offset, "a compaction drops bad garbage: {reason}");
            }
        }
        self.passed += 1;
    }
}

/// Gives up the bad record of `here`, if nothing is lost by that; the needle whose delete it was.
fn let_go(
    volume: &Volume,
    round: Round,
    here: Pointed,
    reason: &BadRecord,
) -> Result<Option<NeedleKey>, CompactionError> {
    let Pointed { offset, key } = here;
    let reason = || reason.to_string();
    match volume.entry(key).filter(|entry| entry.offset.as_bytes() == offset) {
        // It was written over since the map was looked at.
        None => Ok(None),
        Some(entry) if entry.size != RowSize::Tombstone => {
            Err(CompactionError::Damaged { key, offset, reason: reason() })
        }
        Some(_) if may_drop_delete(volume, round) => Ok(Some(key)),
        Some(_) => Err(CompactionError::DamagedDelete { key, offset, reason: reason() }),
    }
}

/// Whether the bad record of a delete may stay behind whatever its age, which it does not tell.
///
/// In the first round the map pointed at it before anything was copied, so no older record of its
/// needle is in the new file or comes there: the needle stays deleted. Later the needle may have been
/// copied before it was deleted; the next compaction's first round meets the delete. Its stamp is no
/// higher than the highest of the volume, which the new file inherits, so every later write is above
/// it. A delete is kept for ten minutes because a copy of the write it ended may still be on its way
/// from another member: where there is no other, none is.
fn may_drop_delete(volume: &Volume, round: Round) -> bool {
    round == Round::First && volume.config().members.len() <= 1
}

fn pointed_at(volume: &Volume, stretch: Range<u64>) -> InOrder<Pointed> {
    let mut picked = Picked::new(stretch, MAX_LISTED);
    let mut next = NeedleKey::new(1);
    while let Some(first) = next {
        let piece = volume.map_piece(first);
        for (key, entry) in piece.entries {
            picked.push(Pointed { offset: entry.offset.as_bytes(), key });
        }
        next = piece.next;
    }
    picked.finish()
}

/// What the map points at next.
#[derive(Debug, Default)]
struct Ahead {
    /// By offset.
    listed: VecDeque<Pointed>,
    /// All before this was listed.
    listed_to: u64,
}

impl Ahead {
    /// The first from `from` on that lies before `end`, by what `list` says of a stretch.
    fn first(
        &mut self,
        from: u64,
        end: u64,
        list: impl Fn(Range<u64>) -> InOrder<Pointed>,
    ) -> Option<Pointed> {
        while self.listed.front().is_some_and(|next| next.offset < from) {
            self.skip();
        }
        let unlisted = from.max(self.listed_to);
        if self.listed.is_empty() && unlisted < end {
            let InOrder { entries, end } = list(unlisted..end);
            (self.listed, self.listed_to) = (entries.into(), end);
        }
        self.listed.front().copied()
    }

    fn skip(&mut self) {
        self.listed.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_map_is_looked_at_once_for_as_many_as_a_list_has_room_for() {
        let record = |n: u64| Pointed { offset: 8 + 64 * n, key: NeedleKey::new(n + 1).unwrap() };
        let (end, looks) = (8 + 64 * 1000, Cell::new(0));
        let list = |stretch| {
            looks.set(looks.get() + 1);
            let mut picked = Picked::new(stretch, 100);
            (0..1000).rev().for_each(|n| picked.push(record(n)));
            picked.finish()
        };
        let mut ahead = Ahead::default();
        // Before each there are two that are bad, and one of them is the very one before.
        for n in 0..999 {
            assert_eq!(ahead.first(record(n).offset, end, list), Some(record(n)));
            ahead.skip();
            for bad_at in [record(n).offset, record(n).offset + 32] {
                assert_eq!(ahead.first(bad_at, end, list), Some(record(n + 1)));
            }
        }
        for _ in 0..3 {
            assert_eq!(ahead.first(end - 32, end, list), None, "nothing is listed before the end");
        }
        assert_eq!(looks.get(), 10);
        // What was written meanwhile lies behind the end of the round before.
        assert_eq!(ahead.first(end, end + 64, |_| list(0..0)), None);
        assert_eq!(looks.get(), 11);
    }
}
