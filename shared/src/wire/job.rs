//! What a volume server does in the background.

use serde::{Deserialize, Serialize};

use crate::id::VolumeId;

/// Whether a job of a volume is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// None waits or runs.
    Idle,
    /// It was asked for.
    Waiting,
    /// It is under way.
    Running,
}

/// What a server does to a volume in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// It reads all of it from the disk again.
    Scrub,
    /// It writes the live needles into a new file.
    Vacuum,
}

/// How far a job in the background is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobProgress {
    /// What is done.
    pub kind: JobKind,
    /// To which volume.
    pub volume: VolumeId,
    /// Bytes of it that were dealt with.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// When it began, in seconds since 1970.
    pub started_at_secs: u64,
    /// Whether an operator asked for it.
    pub is_asked_for: bool,
}

impl JobKind {
    /// The word for people.
    pub const fn as_word(self) -> &'static str {
        match self {
            Self::Scrub => "scrub",
            Self::Vacuum => "vacuum",
        }
    }
}
