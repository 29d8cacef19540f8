//! `/status`: disks and volumes in the shape and spelling that existing clients parse.
//!
//! Field names and units are theirs; what the numbers mean is said where they are counted. All are
//! taken at the time of the request.

use dulse_shared::{
    id::{ReplicaPlacement, Ttl},
    wire::{DirReport, JobKind, JobProgress, UnservedVolume},
};
use serde::Serialize;

use super::pages::state_in_words;
use crate::{
    engine::volume::Volume,
    maintenance::Maintenance,
    read_only::ReadOnlyCause,
    store::{Contradiction, Foreign, Store},
};

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Status {
    version: String,
    disk_statuses: Vec<DiskStatus>,
    volumes: Vec<VolumeInfo>,
    /// What is being done in the background.
    jobs: Vec<Job>,
    /// Volumes with files here that are not served, and why.
    unserved: Vec<Unserved>,
    /// Volumes of other programs that are not served yet.
    foreign: Vec<ForeignInfo>,
    /// Volumes whose report a master contradicts.
    contradictions: Vec<ContradictionInfo>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContradictionInfo {
    id: u32,
    master: String,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Job {
    kind: JobKind,
    volume: u32,
    done_bytes: u64,
    total_bytes: u64,
    started_at_second: u64,
    is_asked_for: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Unserved {
    id: u32,
    collection: String,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ForeignInfo {
    id: u32,
    collection: String,
    /// How far it is on its way, or why it stays out, in words.
    state: String,
}

#[derive(Debug, Serialize)]
struct DiskStatus {
    dir: String,
    all: u64,
    used: u64,
    free: u64,
    percent_free: f64,
    percent_used: f64,
    disk_type: String,
    /// Volumes it holds, and how many it may hold.
    volumes: u32,
    max_volumes: u32,
    /// Below so many free bytes it gets no new data.
    min_free: u64,
    /// Why it cannot be used, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeInfo {
    id: u32,
    size: u64,
    collection: String,
    disk_type: String,
    disk_id: u32,
    remote_storage_name: &'static str,
    replica_placement: Placement,
    ttl: TtlParts,
    version: u8,
    file_count: u64,
    delete_count: u64,
    deleted_byte_count: u64,
    /// With the deleted ones and the overhead, all of the size.
    live_byte_count: u64,
    overhead_byte_count: u64,
    read_only: bool,
    /// In words, `writable` or why not.
    state: &'static str,
    /// What failed and when, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    compact_revision: u16,
    modified_at_second: u64,
    /// When all of it was last read from the disk, unless a finding says that the disk gave nothing
    /// any more; 0 if it never was.
    last_scrub_at_second: u64,
    /// Records that did not verify then.
    scrub_finding_count: u64,
}

/// Digits that are 0 are left out.
#[derive(Debug, Serialize)]
struct Placement {
    #[serde(skip_serializing_if = "is_zero")]
    node: u8,
    #[serde(skip_serializing_if = "is_zero")]
    rack: u8,
    #[serde(skip_serializing_if = "is_zero")]
    dc: u8,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TtlParts {
    count: u8,
    unit: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(digit: &u8) -> bool {
    *digit == 0
}

/// What the server has now.
pub(super) fn status(store: &Store, maintenance: &Maintenance) -> Status {
    let dirs = store.dirs();
    let volumes = store.volumes();
    Status {
        version: concat!("dulse ", env!("CARGO_PKG_VERSION")).to_owned(),
        volumes: volumes.iter().map(|volume| VolumeInfo::of(volume, &dirs)).collect(),
        disk_statuses: dirs.into_iter().map(DiskStatus::of).collect(),
        jobs: maintenance.running().into_iter().map(Job::of).collect(),
        unserved: store.unserved().into_iter().map(Unserved::of).collect(),
        foreign: store.foreign().into_iter().map(ForeignInfo::of).collect(),
        contradictions: store.contradictions().into_iter().map(ContradictionInfo::of).collect(),
    }
}

impl Job {
    fn of(job: JobProgress) -> Self {
        Self {
            kind: job.kind,
            volume: job.volume.as_u32(),
            done_bytes: job.done_bytes,
            total_bytes: job.total_bytes,
            started_at_second: job.started_at_secs,
            is_asked_for: job.is_asked_for,
        }
    }
}

impl DiskStatus {
    #[expect(clippy::cast_precision_loss, reason = "shown as a percentage")]
    fn of(dir: DirReport) -> Self {
        let percent = |bytes: u64| match dir.total_bytes {
            0 => 0.0,
            total => bytes as f64 * 100.0 / total as f64,
        };
        let used = dir.total_bytes.saturating_sub(dir.free_bytes);
        Self {
            all: dir.total_bytes,
            used,
            free: dir.free_bytes,
            percent_free: percent(dir.free_bytes),
            percent_used: percent(used),
            dir: dir.dir,
            disk_type: dir.disk.0,
            volumes: dir.volumes,
            max_volumes: dir.max_volumes,
            min_free: dir.min_free_bytes,
            reason: dir.trouble,
        }
    }
}

impl VolumeInfo {
    fn of(volume: &Volume, dirs: &[DirReport]) -> Self {
        let report = volume.report();
        let dir = volume.dir().path().display().to_string();
        let disk_id = dirs.iter().position(|report| report.dir == dir).unwrap_or(0);
        let is_read_only = ReadOnlyCause::of(&report, &volume.config()).is_some();
        let state = state_in_words(&report, &volume.config());
        let (last_scrub_at_second, scrub_finding_count) = volume.scrubbed().last();
        let overhead_byte_count = report.overhead_bytes();
        Self {
            id: report.id.as_u32(),
            size: report.size_bytes,
            collection: report.collection.to_string(),
            disk_type: report.disk.0,
            disk_id: u32::try_from(disk_id).unwrap_or(0),
            remote_storage_name: "",
            replica_placement: Placement::of(report.placement),
            ttl: TtlParts::of(report.ttl),
            version: volume.version().as_byte(),
            // Counted as puts: those that were overwritten or deleted since are among them.
            file_count: report.live_needles.saturating_add(report.garbage_needles),
            delete_count: report.garbage_needles,
            deleted_byte_count: report.garbage_bytes,
            live_byte_count: report.live_bytes,
            overhead_byte_count,
            read_only: is_read_only,
            state,
            reason: report.trouble,
            compact_revision: report.compaction_revision,
            modified_at_second: report.modified_at_secs,
            last_scrub_at_second,
            scrub_finding_count,
        }
    }
}

impl Unserved {
    fn of(volume: UnservedVolume) -> Self {
        let UnservedVolume { id, collection, reason } = volume;
        Self { id: id.as_u32(), collection: collection.to_string(), reason }
    }
}

impl ContradictionInfo {
    fn of(contradiction: Contradiction) -> Self {
        let Contradiction { volume, master, reason } = contradiction;
        Self { id: volume.as_u32(), master, reason }
    }
}

impl ForeignInfo {
    fn of(foreign: Foreign) -> Self {
        let Foreign { volume, standing } = foreign;
        Self {
            id: volume.id.as_u32(),
            collection: volume.collection.to_string(),
            state: standing.in_words().to_owned(),
        }
    }
}

impl Placement {
    fn of(placement: ReplicaPlacement) -> Self {
        Self {
            node: placement.same_rack(),
            rack: placement.other_racks(),
            dc: placement.other_data_centers(),
        }
    }
}

impl TtlParts {
    fn of(ttl: Ttl) -> Self {
        Self { count: ttl.count(), unit: ttl.unit() as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_clients_expect_them() {
        let placement = Placement::of("110".parse().unwrap());
        assert_eq!(serde_json::to_string(&placement).unwrap(), r#"{"rack":1,"dc":1}"#);
        let ttl = TtlParts::of("3d".parse().unwrap());
        assert_eq!(serde_json::to_string(&ttl).unwrap(), r#"{"Count":3,"Unit":3}"#);
        let report = DirReport {
            dir: "/data".to_owned(),
            disk: dulse_shared::wire::DiskType::default(),
            max_volumes: 8,
            volumes: 1,
            total_bytes: 200,
            free_bytes: 50,
            min_free_bytes: 1 << 30,
            is_low: false,
            trouble: None,
        };
        let disk = serde_json::to_value(DiskStatus::of(report)).unwrap();
        assert_eq!((disk["used"].as_u64(), disk["percent_free"].as_f64()), (Some(150), Some(25.0)));
        let limits = ["volumes", "max_volumes", "min_free"].map(|name| disk[name].as_u64());
        assert_eq!(limits, [Some(1), Some(8), Some(1 << 30)]);
    }
}
