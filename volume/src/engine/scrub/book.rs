//! What scrubs found out about a volume, beside the volume: which needles are known to be bad, and
//! what the last complete scrub said.
//!
//! Reads ask here before they trust the page cache, so an empty book must cost them nothing: one
//! load of an atomic. A place leaves the book when the needle there is overwritten or deleted, and
//! when it verifies again. The book's lock may be taken while the snapshot's is held, never the
//! other way round.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use dulse_shared::wire::ScrubFinding;

use super::findings::ScrubFindings;
use crate::engine::verified::Place;

/// Bad needles that are kept. Beyond that reads find out by themselves, as they always do. They are more
/// than the findings that are kept to be shown: these are looked up, not read by people.
const MAX_BAD: usize = 10_000;

/// Bad needles, and the last scrub.
#[derive(Debug, Default)]
pub struct ScrubBook {
    bad_count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bad: BTreeMap<Place, Badness>,
    last: ScrubSummary,
}

/// What became of scrubs so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubSummary {
    /// Those that came to their end since the volume was opened.
    pub completed: u64,
    /// When the last one was complete, in seconds since 1970; 0 if none ever was.
    pub completed_at_secs: u64,
    /// What it found.
    pub findings: ScrubFindings,
}

/// How a live needle is bad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Badness {
    /// The disk gives other bytes than were written.
    Corrupt(String),
    /// The disk gives no bytes. It may give them at the next attempt, and then they are verified.
    Unreadable(String),
}

impl fmt::Display for Badness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Corrupt(reason) | Self::Unreadable(reason)) = self;
        f.write_str(reason)
    }
}

impl ScrubBook {
    /// Whether some live needle is known to be bad.
    pub fn has_bad_needles(&self) -> bool {
        self.bad_count.load(Ordering::Acquire) > 0
    }

    /// Why a read of the record at `place` must not be attempted, if so.
    pub fn reason_to_refuse(&self, place: Place) -> Option<String> {
        if !self.has_bad_needles() {
            return None;
        }
        match self.lock().bad.get(&place) {
            Some(Badness::Corrupt(reason)) => Some(reason.clone()),
            Some(Badness::Unreadable(_)) | None => None,
        }
    }

    /// Whether the needle there is known to be bad, in whatever way.
    pub fn has_bad_needle_at(&self, place: Place) -> bool {
        self.has_bad_needles() && self.lock().bad.contains_key(&place)
    }

    /// What became of scrubs so far.
    pub fn summary(&self) -> ScrubSummary {
        self.lock().last.clone()
    }

    /// When the last scrub was complete, in seconds since 1970, and how much it found.
    pub fn last(&self) -> (u64, u64) {
        let state = self.lock();
        (state.last.completed_at_secs, state.last.findings.len())
    }

    /// Takes over what an earlier run of the server knew.
    pub fn restore(&self, completed_at_secs: u64, findings: Vec<ScrubFinding>, more: u64) {
        let mut state = self.lock();
        state.last.completed_at_secs = completed_at_secs;
        state.last.findings = ScrubFindings::from_kept(findings, more);
    }

    /// A scrub has come to its end at `now_secs`.
    pub(super) fn complete(&self, findings: ScrubFindings, now_secs: u64) {
        let mut state = self.lock();
        let completed = state.last.completed + 1;
        state.last = ScrubSummary { completed, completed_at_secs: now_secs, findings };
    }

    /// Forgets what was said of files before that of this revision.
    pub(super) fn keep_revision(&self, revision: u16) {
        if self.has_bad_needles() {
            let mut state = self.lock();
            state.bad.retain(|place, _| place.revision == revision);
            self.count(&state);
        }
    }

    /// The needle at `place` is bad. The caller holds the snapshot, in which it lives.
    pub(super) fn condemn(&self, place: Place, badness: Badness) {
        let mut state = self.lock();
        if state.bad.len() < MAX_BAD || state.bad.contains_key(&place) {
            state.bad.insert(place, badness);
        }
        self.count(&state);
    }

    /// Nothing that lives at `place` is bad.
    pub(in crate::engine) fn absolve(&self, place: Place) {
        if self.has_bad_needles() {
            let mut state = self.lock();
            state.bad.remove(&place);
            self.count(&state);
        }
    }

    fn count(&self, state: &State) {
        self.bad_count.store(state.bad.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u16, offset: u64) -> Place {
        Place { revision, offset }
    }

    #[test]
    fn only_what_is_corrupt_in_this_very_file_is_refused() {
        let book = ScrubBook::default();
        book.condemn(at(1, 8), Badness::Corrupt("why".to_owned()));
        book.condemn(at(1, 64), Badness::Unreadable(String::new()));
        assert_eq!(book.reason_to_refuse(at(1, 8)).as_deref(), Some("why"));
        assert_eq!(book.reason_to_refuse(at(1, 64)), None, "the disk may give it after all");
        assert_eq!(book.reason_to_refuse(at(2, 8)), None, "another file");
        book.keep_revision(2);
        assert!(!book.has_bad_needles());
    }

    #[test]
    fn a_place_is_absolved_and_few_are_kept() {
        let book = ScrubBook::default();
        for offset in 0..=MAX_BAD as u64 {
            book.condemn(at(0, offset), Badness::Unreadable(String::new()));
        }
        for offset in 0..MAX_BAD as u64 {
            assert!(book.has_bad_needles());
            book.absolve(at(0, offset));
        }
        assert!(!book.has_bad_needles());
    }
}
