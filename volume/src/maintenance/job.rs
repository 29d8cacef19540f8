//! A job and how far it is.

use dulse_shared::{
    id::VolumeId,
    wire::{JobKind, JobProgress},
};

/// Something to be done to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Job {
    pub(super) kind: JobKind,
    pub(super) volume: VolumeId,
    pub(super) origin: Origin,
}

/// Why a job is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Its time has come.
    Routine,
    /// An operator asked for it: it goes ahead of routine work.
    AskedFor,
}

impl Job {
    /// Its progress at the start, before anybody knows how much there is to do.
    pub(super) fn begin(self, started_at_secs: u64) -> JobProgress {
        JobProgress {
            kind: self.kind,
            volume: self.volume,
            done_bytes: 0,
            total_bytes: 0,
            started_at_secs,
            is_asked_for: self.origin == Origin::AskedFor,
        }
    }
}
