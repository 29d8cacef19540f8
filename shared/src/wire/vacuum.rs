//! Vacuums on a volume server's cluster port.

use serde::{Deserialize, Serialize};

use super::JobPhase;
use crate::id::{Collection, VolumeId};

/// `POST /admin/vacuum`: compact volumes, ahead of routine work. Answered with a [`VacuumReport`] of
/// those that it concerns: with more garbage than the threshold, and
/// writable.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StartVacuum {
    /// The volume; all of the server if none.
    pub volume: Option<VolumeId>,
    /// The part of a volume file, from 0 to 1, above which it is compacted; the server's own
    /// threshold if none.
    pub garbage_threshold: Option<f64>,
}

/// The answer to `GET /admin/vacuum`, with `?volume=ID` of one volume, else of all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VacuumReport {
    /// By id.
    pub volumes: Vec<VolumeVacuum>,
}

/// What is known of one volume's vacuums.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeVacuum {
    /// The volume.
    pub volume: VolumeId,
    /// Its collection.
    pub collection: Collection,
    /// Whether one waits or runs.
    pub phase: JobPhase,
    /// Bytes dealt with by the one that runs.
    pub done_bytes: u64,
    /// Bytes that there are to deal with.
    pub total_bytes: u64,
    /// Vacuums that ended in this run of the server, well or not.
    pub completed: u64,
    /// How the last one ended.
    pub last: Option<VacuumOutcome>,
}

/// How a vacuum ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VacuumOutcome {
    /// When, in seconds since 1970.
    pub ended_at_secs: u64,
    /// Length of the volume file before, in bytes.
    pub before_bytes: u64,
    /// Length of the volume file after, in bytes.
    pub after_bytes: u64,
    /// Needles that were deleted because they had expired.
    pub expired: u64,
    /// Why the volume was left as it was; none if it was compacted.
    pub error: Option<String>,
}
