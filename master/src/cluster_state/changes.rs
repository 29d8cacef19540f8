//! When volumes last changed: the versions of the volume map.
//!
//! A counter in the replicated state, raised by one with each command that changed a volume, so
//! every master gives a change the same version, and it never goes back. It lies in snapshots like
//! all of the state: neither a restart nor a follower that is sent a snapshot loses what changed
//! after an earlier version. Of volumes that are no more the last ones are remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dulse_shared::id::VolumeId;
use serde::{Deserialize, Serialize};

use super::Outcome;

/// Deletions that are remembered. Whoever missed more is told everything anew.
const MAX_DELETIONS: usize = 1_000;

/// The version that each volume last changed in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Changes {
    stored: Stored,
    /// The volumes of `stored` in the order in which they changed.
    in_order: BTreeSet<(u64, VolumeId)>,
}

/// What of it is in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Stored {
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

impl From<Stored> for Changes {
    fn from(stored: Stored) -> Self {
        let in_order = stored.volumes.iter().map(|(id, version)| (*version, *id)).collect();
        Self { stored, in_order }
    }
}

impl From<Changes> for Stored {
    fn from(changes: Changes) -> Self {
        changes.stored
    }
}

impl Changes {
    /// Whether nothing has changed yet.
    pub fn is_empty(&self) -> bool {
        self.stored.version == 0
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.stored.version
    }

    /// Whether what changed after `version` can be told.
    pub fn can_tell_since(&self, version: u64) -> bool {
        (self.stored.forgotten..=self.stored.version).contains(&version)
    }

    /// Volumes that exist and changed after `version`, the last first.
    pub fn changed_since(&self, version: u64) -> impl Iterator<Item = VolumeId> {
        let last_first = self.in_order.iter().rev();
        last_first.take_while(move |(changed, _)| *changed > version).map(|(_, id)| *id)
    }

    /// Volumes that were deleted after `version`, the last first.
    pub fn deleted_since(&self, version: u64) -> impl Iterator<Item = VolumeId> {
        let last_first = self.stored.deletions.iter().rev();
        last_first.take_while(move |(deleted, _)| *deleted > version).map(|(_, id)| *id)
    }

    /// Has versions go on above `version`. Whoever knows an earlier one is told everything anew.
    pub(super) fn begin_above(&mut self, version: u64) {
        let Stored { version: present, deletions, forgotten, .. } = &mut self.stored;
        *present = version.max(*present);
        *forgotten = *present;
        deletions.clear();
    }

    /// Takes note of what a command changed.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Volumes { configs } if !configs.is_empty() => {
                self.stored.version += 1;
                let version = self.stored.version;
                for config in configs {
                    self.forget(config.id);
                    self.stored.volumes.insert(config.id, version);
                    self.in_order.insert((version, config.id));
                }
            }
            Outcome::Deleted { ids } if !ids.is_empty() => {
                self.stored.version += 1;
                for id in ids {
                    self.forget(*id);
                    self.stored.deletions.push_back((self.stored.version, *id));
                }
                self.forget_old_deletions();
            }
            _ => {}
        }
    }

    fn forget(&mut self, id: VolumeId) {
        if let Some(version) = self.stored.volumes.remove(&id) {
            self.in_order.remove(&(version, id));
        }
    }

    fn forget_old_deletions(&mut self) {
        let Stored { deletions, forgotten, .. } = &mut self.stored;
        let too_many = deletions.len().saturating_sub(MAX_DELETIONS);
        for (version, _) in deletions.drain(..too_many) {
            *forgotten = version;
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
