//! Why a volume of this server takes no new needles, in one word.
//!
//! Pure: what the server knows by itself and what the masters agreed on, held against each other.
//! A volume on a disk that is short of room, or with needles that do not verify, is not read-only:
//! overwrites and deletes are taken.

use dulse_shared::wire::{LocalState, VolumeConfig, VolumeReport, VolumeState};

/// Why, for metrics: the number of them is the number of series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadOnlyCause {
    /// It has reached the size limit.
    Full,
    /// The time of all its needles is over.
    Expired,
    /// A write, a sync or the disk under it failed.
    Failed,
    /// The server has another file with its id.
    Duplicate,
    /// A part of its file does not verify.
    Damaged,
    /// Its format is older than the one that is written.
    OldFormat,
    /// The masters say so: copies are missing, or its last writes are being resolved.
    Agreed,
}

impl ReadOnlyCause {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Full,
        Self::Expired,
        Self::Failed,
        Self::Duplicate,
        Self::Damaged,
        Self::OldFormat,
        Self::Agreed,
    ];

    /// Of a volume, if it is read-only.
    pub(crate) fn of(report: &VolumeReport, config: &VolumeConfig) -> Option<Self> {
        match report.local {
            LocalState::Full => Some(Self::Full),
            LocalState::Expired => Some(Self::Expired),
            LocalState::Failed => Some(Self::Failed),
            LocalState::Duplicate => Some(Self::Duplicate),
            LocalState::Damaged => Some(Self::Damaged),
            LocalState::OldFormat => Some(Self::OldFormat),
            LocalState::Ready | LocalState::LowSpace | LocalState::Corrupt => {
                (config.state != VolumeState::Writable).then_some(Self::Agreed)
            }
        }
    }

    /// The word.
    pub(crate) const fn as_word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Duplicate => "duplicate",
            Self::Damaged => "damaged",
            Self::OldFormat => "old_format",
            Self::Agreed => "agreed",
        }
    }
}
