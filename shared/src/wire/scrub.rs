//! Scrubs on a volume server's cluster port.

use serde::{Deserialize, Serialize};

use super::JobPhase;
use crate::id::{Collection, NeedleKey, VolumeId};

/// `POST /admin/scrub`: read volumes again from their disks, ahead of routine work. Answered with a
/// [`ScrubReport`] of those that were asked for. A scrub of the same volume that waits or runs is
/// taken for the one that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartScrub {
    /// The volume; all of the server if none.
    pub volume: Option<VolumeId>,
}

/// The answer to `GET /admin/scrub`, with `?volume=ID` of one volume, else of all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScrubReport {
    /// By id.
    pub volumes: Vec<VolumeScrub>,
}

/// What is known of one volume's scrubs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeScrub {
    /// The volume.
    pub volume: VolumeId,
    /// Its collection.
    pub collection: Collection,
    /// Whether one waits or runs.
    pub phase: JobPhase,
    /// Bytes read of the one that runs.
    pub done_bytes: u64,
    /// Bytes that there are to read.
    pub total_bytes: u64,
    /// Scrubs that this run of the server has completed.
    pub completed: u64,
    /// When the last one was complete, in seconds since 1970; 0 if none ever was.
    pub completed_at_secs: u64,
    /// What the last one found, up to a limit.
    pub findings: Vec<ScrubFinding>,
    /// How many more it found.
    pub more_findings: u64,
}

/// Bytes of a volume file that are not what was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScrubFinding {
    /// Where the bad record starts.
    pub offset: u64,
    /// The needle that cannot be read because of it; none if nothing live lies there.
    pub key: Option<NeedleKey>,
    /// Its fid, if the record's header is still that of the needle.
    pub fid: Option<String>,
    /// What is wrong.
    pub reason: String,
}
