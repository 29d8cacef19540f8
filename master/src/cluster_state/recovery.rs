//! Taking over what volume servers hold, when the masters that agreed on it are lost.
//!
//! A cluster is taken over by masters that have none, or one in which nothing was ever made. Its
//! ids then go on far above all that was found, since the masters that are lost may have handed out
//! more. A volume is taken over as its sidecar has it, unless there is word of it already: so a
//! recovery can be repeated, and go on where it was interrupted.

use std::sync::Arc;

use dulse_shared::{id::ClusterId, wire::VolumeConfig};
use serde::{Deserialize, Serialize};

use super::{ClusterState, Outcome, Refusal};

/// A cluster that is taken over, and where it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovery {
    /// The cluster that the volume servers belong to.
    pub cluster: ClusterId,
    /// Needle keys go on here, or above.
    pub next_key: u64,
    /// Volume ids go on here, or above; 0 if none is left.
    pub next_volume_id: u32,
    /// The volume map's versions go on above this one, which is above any that a client knows.
    pub map_version: u64,
}

impl Recovery {
    /// What two recoveries of a cluster come to; `self` if they are of two.
    #[must_use]
    pub fn joined_with(self, other: Self) -> Self {
        if self.cluster != other.cluster {
            return self;
        }
        Self {
            cluster: self.cluster,
            next_key: self.next_key.max(other.next_key),
            next_volume_id: later_id(self.next_volume_id, other.next_volume_id),
            map_version: self.map_version.max(other.map_version),
        }
    }
}

/// The later of two places where volume ids go on; 0 is behind all.
fn later_id(one: u32, other: u32) -> u32 {
    if one == 0 || other == 0 { 0 } else { one.max(other) }
}

impl ClusterState {
    /// Whether nothing was ever made in it.
    pub fn is_unused(&self) -> bool {
        self.volumes.is_empty() && self.deleted.is_empty() && self.next_volume_id == 1
    }

    pub(super) fn recover_cluster(&mut self, recovery: &Recovery) -> Result<Outcome, Refusal> {
        let Recovery { cluster, next_key, next_volume_id, map_version } = *recovery;
        if self.cluster != Some(cluster) {
            if let Some(ours) = self.cluster.filter(|_| !self.is_unused()) {
                return Err(Refusal::OtherCluster { ours });
            }
            self.cluster = Some(cluster);
            self.changes.begin_above(map_version);
        }
        self.next_key = self.next_key.max(next_key);
        self.next_volume_id = later_id(self.next_volume_id, next_volume_id);
        Ok(Outcome::Founded { cluster })
    }

    /// Those that were deleted or are known already are passed over.
    pub(super) fn recover_volumes(
        &mut self,
        cluster: ClusterId,
        volumes: &[Arc<VolumeConfig>],
    ) -> Result<Outcome, Refusal> {
        if let Some(ours) = self.cluster.filter(|ours| *ours != cluster) {
            return Err(Refusal::OtherCluster { ours });
        }
        let is_news = |config: &&Arc<VolumeConfig>| {
            !self.volumes.contains_key(&config.id) && !self.deleted.contains(config.id)
        };
        let news: Vec<&Arc<VolumeConfig>> = volumes.iter().filter(is_news).collect();
        if let Some(highest) = news.iter().map(|config| config.id).max() {
            let above = highest.as_u32().checked_add(1).unwrap_or(0);
            self.next_volume_id = later_id(self.next_volume_id, above);
        }
        self.volumes.extend(news.iter().map(|config| (config.id, Arc::clone(config))));
        let configs = news.into_iter().map(|config| VolumeConfig::clone(config)).collect();
        Ok(Outcome::Volumes { configs })
    }
}

#[cfg(test)]
mod tests {
    use dulse_shared::wire::{Epoch, Incarnation};

    use super::*;
    use crate::{
        cluster_state::{Command, Deletion, writable_config},
        testing::{cluster, server, volume},
    };

    const RECOVERY: Recovery = Recovery {
        cluster: ClusterId::from_u128(7),
        next_key: 900,
        next_volume_id: 50,
        map_version: 1_000,
    };

    fn config(id: u32) -> VolumeConfig {
        let (collection, placement, ttl) = Default::default();
        let (disk, members) = (Default::default(), [(server(1), Incarnation(3))]);
        writable_config(volume(id), &collection, placement, ttl, &disk, &members)
    }

    fn recover(state: &mut ClusterState, recovery: Recovery) -> Outcome {
        state.apply(&Command::RecoverCluster(recovery))
    }

    fn take(state: &mut ClusterState, ids: &[u32]) -> Vec<u32> {
        let volumes = ids.iter().map(|id| Arc::new(config(*id))).collect();
        let cluster = RECOVERY.cluster;
        match state.apply(&Command::RecoverVolumes { cluster, volumes }) {
            Outcome::Volumes { configs } => configs.iter().map(|c| c.id.as_u32()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn grant(state: &mut ClusterState) -> Outcome {
        state.apply(&Command::GrantKeys { count: 5, at_least: 0 })
    }

    #[test]
    fn a_lost_cluster_goes_on_above_all_that_was_found_and_its_volumes_are_back() {
        let mut state = ClusterState::default();
        recover(&mut state, RECOVERY);
        assert_eq!(state.cluster, Some(RECOVERY.cluster));
        assert_eq!(take(&mut state, &[3, 40]), [3, 40]);
        assert_eq!(grant(&mut state), Outcome::Keys { first: 900, count: 5 });
        assert_eq!(state.next_volume_id, 50);
        assert!(!state.changes.can_tell_since(3), "an old version of the map means nothing");
        assert!(state.changes.version() > RECOVERY.map_version);
    }

    #[test]
    fn a_second_recovery_adds_what_is_new_and_takes_nothing_back() {
        let mut state = ClusterState::default();
        recover(&mut state, RECOVERY);
        take(&mut state, &[3, 7]);
        let deletion = Deletion { id: volume(7), epoch: Epoch(1) };
        state.apply(&Command::DeleteVolumes { volumes: vec![deletion] });
        let known = state.volumes[&volume(3)].clone();
        grant(&mut state);
        let version = state.changes.version();
        recover(&mut state, Recovery { next_key: 2, next_volume_id: 2, ..RECOVERY });
        assert_eq!((state.next_key, state.next_volume_id), (905, 50));
        assert_eq!(state.changes.version(), version, "clients go on with what they have");
        assert_eq!(take(&mut state, &[3, 7, 60]), [60], "3 is known, 7 was deleted");
        assert_eq!(state.volumes[&volume(3)], known);
        assert_eq!(state.next_volume_id, 61);
    }

    #[test]
    fn a_cluster_in_which_something_was_made_is_never_replaced() {
        let mut state = ClusterState::default();
        state.apply(&Command::FoundCluster { cluster: cluster() });
        grant(&mut state);
        let mut used = state.clone();
        used.volumes.insert(volume(1), Arc::new(config(1)));
        let refused = Outcome::Refused { refusal: Refusal::OtherCluster { ours: cluster() } };
        assert_eq!(recover(&mut used, RECOVERY), refused);
        recover(&mut state, RECOVERY);
        assert_eq!(state.cluster, Some(RECOVERY.cluster), "nobody missed the other one");
        let foreign = Command::RecoverVolumes { cluster: cluster(), volumes: Vec::new() };
        let ours = RECOVERY.cluster;
        let refused = Outcome::Refused { refusal: Refusal::OtherCluster { ours } };
        assert_eq!(state.apply(&foreign), refused);
    }

    #[test]
    fn ids_that_have_run_out_stay_so() {
        let mut state = ClusterState::default();
        recover(&mut state, Recovery { next_volume_id: 0, ..RECOVERY });
        recover(&mut state, RECOVERY);
        assert_eq!(state.next_volume_id, 0);
        let other = Recovery { next_volume_id: 0, next_key: 1, ..RECOVERY };
        assert_eq!(RECOVERY.joined_with(other).next_volume_id, 0);
        assert_eq!(RECOVERY.joined_with(other).next_key, 900);
    }
}
