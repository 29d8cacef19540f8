//! What scrubs found out, over restarts: `scrub.json` in each data directory.
//!
//! A server that is restarted every week would otherwise never come to the end of its volumes. It is
//! a file of its own and no part of the sidecars: nothing depends on it, its loss costs an early
//! scrub, and a sidecar is written with the volume's index and while its writes wait. Only the
//! directory's worker writes it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use dulse_shared::{id::VolumeId, wire::ScrubFinding};
use serde::{Deserialize, Serialize};

use crate::{
    disk::{Disk, durable_replace, read_small_file},
    engine::scrub::ScrubFindings,
};

const FILE: &str = "scrub.json";
const FORMAT_VERSION: u32 = 1;
/// Findings of one volume that are kept: fewer than a run keeps, because the file is written whole at
/// the end of each scrub and holds those of all volumes. After a restart one that is still bad is enough
/// for its volume to get no new needles; the others are found by reads, and by the next scrub.
const MAX_KEPT: usize = 100;

/// The file's contents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ScrubFile {
    version: u32,
    volumes: BTreeMap<VolumeId, ScrubRecord>,
}

/// What is known of a volume's last scrub.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct ScrubRecord {
    /// When it was first seen here, in seconds since 1970.
    pub(super) seen_at_secs: u64,
    /// When its last scrub was complete; 0 if none ever was.
    pub(super) completed_at_secs: u64,
    /// What that found.
    pub(super) findings: Vec<ScrubFinding>,
    /// How many more it found.
    pub(super) more_findings: u64,
}

impl Default for ScrubFile {
    fn default() -> Self {
        Self { version: FORMAT_VERSION, volumes: BTreeMap::new() }
    }
}

impl ScrubFile {
    /// Reads a directory's file. One that cannot be read counts as empty.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Self {
        let path = path(dir);
        let file = read_small_file(disk, &path).and_then(|bytes| match bytes {
            None => Ok(Self::default()),
            Some(bytes) => Ok(serde_json::from_slice::<Self>(&bytes)?),
        });
        match file {
            Ok(file) if file.version == FORMAT_VERSION => file,
            Ok(file) => {
                tracing::warn!(
                    "{} has format {}: all volumes are scrubbed anew",
                    path.display(),
                    file.version
                );
                Self::default()
            }
            Err(error) => {
                tracing::warn!("{}: {error}: all volumes are scrubbed anew", path.display());
                Self::default()
            }
        }
    }

    /// Replaces the directory's file.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        durable_replace(disk, &path(dir), &serde_json::to_vec(self)?)
    }

    /// What is known of a volume.
    pub(super) fn record(&self, volume: VolumeId) -> Option<&ScrubRecord> {
        self.volumes.get(&volume)
    }

    /// Takes note of what a scrub found.
    pub(super) fn complete(
        &mut self,
        volume: VolumeId,
        completed_at_secs: u64,
        findings: &ScrubFindings,
    ) {
        let kept: Vec<_> = findings.as_slice().iter().take(MAX_KEPT).cloned().collect();
        let record = self.volumes.entry(volume).or_default();
        record.completed_at_secs = completed_at_secs;
        record.more_findings = findings.len().saturating_sub(kept.len() as u64);
        record.findings = kept;
    }

    /// Takes note of which volumes there are; whether that is news.
    pub(super) fn see(&mut self, volumes: &[VolumeId], now_secs: u64) -> bool {
        let before = self.volumes.len();
        self.volumes.retain(|id, _| volumes.contains(id));
        let mut is_news = self.volumes.len() != before;
        for volume in volumes {
            self.volumes.entry(*volume).or_insert_with(|| {
                is_news = true;
                ScrubRecord { seen_at_secs: now_secs, ..ScrubRecord::default() }
            });
        }
        is_news
    }

    /// Since when the volume that waits longest has not been scrubbed; a volume counts from when it
    /// came here. `None` without volumes.
    pub(super) fn oldest_secs(&self) -> Option<u64> {
        let since = |record: &ScrubRecord| match record.completed_at_secs {
            0 => record.seen_at_secs,
            completed => completed,
        };
        self.volumes.values().map(since).min()
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::SimulatedDisk;

    fn id(id: u32) -> VolumeId {
        VolumeId::new(id).unwrap()
    }

    #[test]
    fn it_is_read_back_and_one_that_is_broken_or_newer_counts_as_empty() {
        let (disk, dir) = (SimulatedDisk::new(1), Path::new("/data"));
        disk.create_dir(dir).unwrap();
        assert_eq!(ScrubFile::read(&disk, dir), ScrubFile::default());
        let mut file = ScrubFile::default();
        assert!(file.see(&[id(3), id(4)], 50));
        assert!(!file.see(&[id(3), id(4)], 60));
        let finding = ScrubFinding { offset: 8, key: None, fid: None, reason: "why".to_owned() };
        let findings = ScrubFindings::from_kept(vec![finding; MAX_KEPT + 2], 3);
        file.complete(id(3), 70, &findings);
        file.write(&disk, dir).unwrap();
        let read = ScrubFile::read(&disk, dir);
        assert_eq!(read, file);
        let record = read.record(id(3)).unwrap();
        assert_eq!((record.findings.len(), record.more_findings), (MAX_KEPT, 5));
        assert_eq!((record.seen_at_secs, read.oldest_secs()), (50, Some(50)));
        for broken in [&b"{"[..], br#"{"version":2,"volumes":{}}"#] {
            disk.put(&path(dir), broken.to_vec());
            assert_eq!(ScrubFile::read(&disk, dir), ScrubFile::default());
        }
    }

    #[test]
    fn volumes_that_are_gone_are_forgotten() {
        let mut file = ScrubFile::default();
        file.see(&[id(3), id(4)], 50);
        assert!(file.see(&[id(4)], 60));
        assert_eq!(file.record(id(3)), None);
        assert_eq!(file.oldest_secs(), Some(50));
    }
}
