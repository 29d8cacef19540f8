//! One of several files with one id in a server's directories: what chooses among them, and that the
//! chosen one is only read.
//!
//! Which of them holds what clients were answered is unknown: a start without one of the directories
//! served, and wrote, whichever was left. So nothing is written to any of them until people have
//! moved all but one away; which one is served is chosen in [`crate::store`].

use std::{path::PathBuf, sync::OnceLock};

use dulse_shared::{id::Ts, wire::bounded_sentence};

use super::{damage::Damage, volume::Volume};

/// That there is another file with the volume's id, if there is one. Set before the volume is
/// served, and never taken back.
#[derive(Debug, Default)]
pub(super) struct Duplicate(OnceLock<String>);

impl Duplicate {
    /// Whether there is another.
    pub(super) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Which one, and what to do.
    pub(super) fn sentence(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// How new a volume file is: of two, the greater one is served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Newness {
    /// The highest stamp that it knows of.
    pub(crate) max_ts: Ts,
    /// All that was acknowledged verifies: of two that know the same, this one has all its needles.
    pub(crate) is_whole: bool,
    /// Bytes.
    pub(crate) len: u64,
}

impl Volume {
    /// Nothing is written to it any more, because the server has another file with its id.
    pub(crate) fn mark_duplicate(&self, reason: &str) {
        self.duplicate.0.get_or_init(|| bounded_sentence(reason));
    }

    /// Its volume file.
    pub(crate) fn dat_path(&self) -> PathBuf {
        self.name.dat(self.dir.path())
    }

    /// How new it is beside another file with its id.
    pub(crate) fn newness(&self) -> Newness {
        let report = self.report();
        let max_ts = self.counters().max_ts;
        let is_whole = !self.damage.as_ref().is_some_and(Damage::concerns_needles);
        Newness { max_ts, is_whole, len: report.size_bytes }
    }

    /// Whether it is as its creation left it: no needle was ever in it. One from which a compaction
    /// took the last needle has a stamp and a revision.
    pub(crate) fn was_never_written(&self) -> bool {
        let report = self.report();
        let first = self.superblock.first_needle_offset().as_bytes();
        let has_no_past = self.counters().max_ts == Ts::default() && self.keys().0 == 0;
        let is_as_made = report.size_bytes <= first && report.compaction_revision == 0;
        self.damage.is_none() && has_no_past && is_as_made
    }
}
