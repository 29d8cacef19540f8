//! When volumes last changed: the versions of the volume map.
//!
//! A counter in the replicated state, raised by one with each command that changed a volume, so
//! every master gives a change the same version, and it never goes back. It lies in snapshots like
//! all of the state: neither a restart nor a follower that is sent a snapshot loses what changed
//! after an earlier version. Of volumes that are no more the last ones are remembered.

use std::collections::{BTreeMap, VecDeque};

use dulse_shared::id::VolumeId;
use serde::{Deserialize, Serialize};

use super::Outcome;

/// Deletions that are remembered. Whoever missed more is told everything anew.
const MAX_DELETIONS: usize = 1_000;

/// The version that each volume last changed in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// That of the last change; 0 before the first.
    version: u64,
    /// By volume. One that has not changed since versions are counted is not in it.
    volumes: BTreeMap<VolumeId, u64>,
    /// The last deletions, oldest first, with their versions.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    deletions: VecDeque<(u64, VolumeId)>,
    /// Deletions up to this version may be forgotten.
    #[serde(default, skip_serializing_if = "is_zero")]
    forgotten: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_zero(version: &u64) -> bool {
    *version == 0
}

impl Changes {
    /// Whether nothing has changed yet.
    pub fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether what changed after `version` can be told.
    pub fn can_tell_since(&self, version: u64) -> bool {
        (self.forgotten..=self.version).contains(&version)
    }

    /// Volumes that exist and changed after `version`.
    pub fn changed_since(&self, version: u64) -> impl Iterator<Item = VolumeId> {
        let changed = self.volumes.iter().filter(move |(_, changed)| **changed > version);
        changed.map(|(id, _)| *id)
    }

    /// Volumes that were deleted after `version`.
    pub fn deleted_since(&self, version: u64) -> impl Iterator<Item = VolumeId> {
        let newest_first = self.deletions.iter().rev();
        newest_first.take_while(move |(deleted, _)| *deleted > version).map(|(_, id)| *id)
    }

    /// Takes note of what a command changed.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Volumes { configs } if !configs.is_empty() => {
                self.version += 1;
                let version = self.version;
                self.volumes.extend(configs.iter().map(|config| (config.id, version)));
            }
            Outcome::Deleted { ids } if !ids.is_empty() => {
                self.version += 1;
                for id in ids {
                    self.volumes.remove(id);
                    self.deletions.push_back((self.version, *id));
                }
                self.forget_old_deletions();
            }
            _ => {}
        }
    }

    fn forget_old_deletions(&mut self) {
        let too_many = self.deletions.len().saturating_sub(MAX_DELETIONS);
        for (version, _) in self.deletions.drain(..too_many) {
            self.forgotten = version;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(n: u32) -> VolumeId {
        VolumeId::new(n).unwrap()
    }

    fn delete(changes: &mut Changes, ids: impl IntoIterator<Item = u32>) {
        let ids = ids.into_iter().map(volume).collect();
        changes.note(&Outcome::Deleted { ids });
    }

    #[test]
    fn a_deletion_is_told_of_until_a_thousand_more_came() {
        let mut changes = Changes::default();
        delete(&mut changes, [1, 2]);
        delete(&mut changes, 3..=MAX_DELETIONS as u32);
        assert!(changes.can_tell_since(0));
        assert_eq!(changes.deleted_since(1).count(), MAX_DELETIONS - 2);
        delete(&mut changes, [5_000]);
        assert!(!changes.can_tell_since(0), "volume 1 is forgotten");
        assert!(changes.can_tell_since(1), "whoever knows version 1 knows of it");
        assert_eq!(changes.deleted_since(2).collect::<Vec<_>>(), [volume(5_000)]);
        assert!(!changes.can_tell_since(4), "a version to come");
    }

    #[test]
    fn what_changed_nothing_has_no_version() {
        let mut changes = Changes::default();
        delete(&mut changes, []);
        changes.note(&Outcome::Volumes { configs: Vec::new() });
        changes.note(&Outcome::Keys { first: 1, count: 2 });
        assert_eq!(changes, Changes::default());
    }
}
