//! The replicated state machine: what the masters agree on.
//!
//! Pure and deterministic: [`ClusterState::apply`] reads no clock and draws no random number, so
//! every master that applies the same commands holds the same state. Soft facts (who is alive,
//! how full a volume is) live in the topology, never here. The changes of a volume that exists are
//! in the module `volume_change`.

mod changes;
mod deleted_ids;
mod recovery;
mod volume_change;

use std::{collections::BTreeMap, fmt, sync::Arc};

use dulse_shared::{
    id::{ClusterId, Collection, ReplicaPlacement, ServerId, Ttl, VolumeId},
    wire::{
        Decision, DiskType, Epoch, Incarnation, LastWritable, Member, ReadOnlyReason, VolumeConfig,
        VolumeState,
    },
};
use serde::{Deserialize, Serialize};

use self::volume_change::Change;
pub use self::{changes::Changes, deleted_ids::DeletedIds, recovery::Recovery};

/// What the masters agree on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterState {
    /// The cluster's name; none until the first command.
    pub cluster: Option<ClusterId>,
    /// The lowest needle key that was never granted.
    pub next_key: u64,
    /// The lowest volume id that was never used; 0 once all are.
    pub next_volume_id: u32,
    /// Every volume and who holds it. Snapshots share what does not change meanwhile.
    pub volumes: BTreeMap<VolumeId, Arc<VolumeConfig>>,
    /// Ids of volumes that were deleted, never to be used again.
    #[serde(default, skip_serializing_if = "DeletedIds::is_empty")]
    pub deleted: DeletedIds,
    /// When volumes last changed.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub changes: Changes,
}

/// A change of the state. Commands are few, and each either applies whole or is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Names the cluster, once.
    FoundCluster {
        /// A random id, drawn by the proposer.
        cluster: ClusterId,
    },
    /// Takes over a cluster whose masters are lost.
    RecoverCluster(Recovery),
    /// Takes over volumes that volume servers of the cluster hold, as their sidecars have them.
    RecoverVolumes {
        /// The cluster that they belong to.
        cluster: ClusterId,
        /// Them. The log shares them with the state.
        volumes: Vec<Arc<VolumeConfig>>,
    },
    /// Grants `count` needle keys to the proposer, all at least `at_least`.
    GrantKeys {
        /// How many.
        count: u64,
        /// Above the keys that volume servers reported.
        at_least: u64,
    },
    /// Creates a volume for each entry of `members`.
    CreateVolumes {
        /// Their collection.
        collection: Collection,
        /// Their replica placement.
        placement: ReplicaPlacement,
        /// Their ttl.
        ttl: Ttl,
        /// Their disk type.
        disk: DiskType,
        /// For each volume, the servers that will hold it.
        members: Vec<Vec<(ServerId, Incarnation)>>,
    },
    /// Takes in a volume that was made elsewhere, closed.
    AdmitVolume {
        /// The id in its file name, kept.
        id: VolumeId,
        /// From its file name.
        collection: Collection,
        /// From its superblock.
        placement: ReplicaPlacement,
        /// From its superblock.
        ttl: Ttl,
        /// The disk it lies on.
        disk: DiskType,
        /// The server that holds it.
        server: ServerId,
        /// This run of that server.
        incarnation: Incarnation,
    },
    /// Makes volumes read-only, each with the members that are left: a server's death changes all
    /// its volumes at once. Volumes whose epoch moved on are passed over.
    SealVolumes {
        /// Them.
        volumes: Vec<Seal>,
    },
    /// Decides, once, what becomes of the writes that a sealed volume holds without outcome.
    DecideVolume {
        /// The volume.
        id: VolumeId,
        /// The epoch in which its members were asked.
        epoch: Epoch,
        /// The outcomes.
        decision: Decision,
    },
    /// Has a copy of a resolved volume made on a server.
    RepairVolume {
        /// The volume.
        id: VolumeId,
        /// Its epoch.
        epoch: Epoch,
        /// The server.
        target: ServerId,
    },
    /// Makes a resolved volume writable.
    OpenVolume {
        /// The volume.
        id: VolumeId,
        /// Its epoch, which all of `members` have made durable, with equal digests.
        epoch: Epoch,
        /// The members from now on, each as it runs.
        members: Vec<(ServerId, Incarnation)>,
    },
    /// Deletes volumes for good. Those whose epoch moved on are passed over.
    DeleteVolumes {
        /// Them.
        volumes: Vec<Deletion>,
    },
}

/// One volume that is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Deletion {
    /// The volume.
    pub id: VolumeId,
    /// Its epoch until now.
    pub epoch: Epoch,
}

/// One volume that becomes read-only.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Seal {
    /// The volume.
    pub id: VolumeId,
    /// Its epoch until now.
    pub epoch: Epoch,
    /// The members that are left, each as it runs; never empty.
    pub members: Vec<(ServerId, Incarnation)>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FoundCluster { cluster } => write!(f, "found cluster {cluster}"),
            Self::RecoverCluster(recovery) => write!(f, "recover cluster {}", recovery.cluster),
            Self::RecoverVolumes { volumes, .. } => write!(f, "recover {} volumes", volumes.len()),
            Self::GrantKeys { count, at_least } => {
                write!(f, "grant {count} keys from {at_least} on")
            }
            Self::CreateVolumes { collection, members, .. } => {
                write!(f, "create {} volumes in {collection:?}", members.len())
            }
            Self::AdmitVolume { id, server, .. } => write!(f, "admit volume {id} of {server}"),
            Self::SealVolumes { volumes } => write!(f, "seal {} volumes", volumes.len()),
            Self::DecideVolume { id, decision, .. } => {
                let Decision { commit, abort } = decision;
                write!(f, "commit {} and abort {} writes of {id}", commit.len(), abort.len())
            }
            Self::RepairVolume { id, target, .. } => write!(f, "repair volume {id} on {target}"),
            Self::OpenVolume { id, members, .. } => {
                write!(f, "open volume {id} with {} members", members.len())
            }
            Self::DeleteVolumes { volumes } => write!(f, "delete {} volumes", volumes.len()),
        }
    }
}

/// What applying a command gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The cluster's id: the proposed one, or the one it already had.
    Founded {
        /// It.
        cluster: ClusterId,
    },
    /// Keys `first` to `first + count − 1` are the proposer's.
    Keys {
        /// The lowest key.
        first: u64,
        /// How many.
        count: u64,
    },
    /// The volumes that now exist, in the order of the command.
    Volumes {
        /// Their configurations.
        configs: Vec<VolumeConfig>,
    },
    /// The volumes that are no more.
    Deleted {
        /// Their ids, in the order of the command.
        ids: Vec<VolumeId>,
    },
    /// The command does not apply; nothing changed.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

/// Why a command does not apply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Refusal {
    /// All 64-bit needle keys are granted.
    #[error("needle keys have run out")]
    OutOfKeys,
    /// All 32-bit volume ids are used.
    #[error("volume ids have run out: the highest is 4294967295")]
    OutOfVolumeIds,
    /// A volume needs a member.
    #[error("a volume needs at least one member")]
    NoMembers,
    /// Another volume has the id.
    #[error("volume id {id} is already used in this cluster")]
    VolumeIdTaken {
        /// The id.
        id: VolumeId,
    },
    /// A volume of this id was deleted.
    #[error("volume {id} was deleted, and its id is never used again")]
    VolumeIdDeleted {
        /// The id.
        id: VolumeId,
    },
    /// Another cluster has volumes here.
    #[error("the masters are of the cluster {ours}, which has volumes")]
    OtherCluster {
        /// Theirs.
        ours: ClusterId,
    },
    /// The id is of no volume.
    #[error("there is no volume {id}")]
    NoSuchVolume {
        /// The id.
        id: VolumeId,
    },
    /// The volume changed since the command was planned.
    #[error("volume {id} is at another epoch by now")]
    EpochMoved {
        /// The volume.
        id: VolumeId,
    },
    /// The volume's state does not admit the change.
    #[error("volume {id} is not in a state for this change")]
    WrongState {
        /// The volume.
        id: VolumeId,
    },
    /// A server cannot be a member: it has no copy that could count.
    #[error("server {server} has no copy of volume {id} that could count")]
    NoCopy {
        /// The volume.
        id: VolumeId,
        /// The server.
        server: ServerId,
    },
    /// All 256 slots are in use.
    #[error("volume {id} has no slot for another member")]
    OutOfSlots {
        /// The volume.
        id: VolumeId,
    },
    /// One copy would count as two.
    #[error("server {server} cannot be a member of volume {id} twice")]
    MemberTwice {
        /// The volume.
        id: VolumeId,
        /// The server.
        server: ServerId,
    },
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            cluster: None,
            next_key: 1,
            next_volume_id: 1,
            volumes: BTreeMap::new(),
            deleted: DeletedIds::default(),
            changes: Changes::default(),
        }
    }
}

impl ClusterState {
    /// A volume's configuration.
    pub fn volume(&self, id: VolumeId) -> Option<&VolumeConfig> {
        self.volumes.get(&id).map(|config| &**config)
    }

    /// All configurations, by id.
    pub fn configs(&self) -> impl Iterator<Item = &VolumeConfig> {
        self.volumes.values().map(|config| &**config)
    }

    /// Applies one committed command.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        let outcome = self.execute(command);
        self.changes.note(&outcome);
        outcome
    }

    fn execute(&mut self, command: &Command) -> Outcome {
        let applied = match command {
            Command::FoundCluster { cluster } => {
                let cluster = *self.cluster.get_or_insert(*cluster);
                Ok(Outcome::Founded { cluster })
            }
            Command::RecoverCluster(recovery) => self.recover_cluster(recovery),
            Command::RecoverVolumes { cluster, volumes } => self.recover_volumes(*cluster, volumes),
            Command::GrantKeys { count, at_least } => self.grant_keys(*count, *at_least),
            Command::CreateVolumes { collection, placement, ttl, disk, members } => {
                let template = |id, members: &[(ServerId, Incarnation)]| {
                    writable_config(id, collection, *placement, *ttl, disk, members)
                };
                self.create_volumes(members, template)
            }
            Command::AdmitVolume { id, collection, placement, ttl, disk, server, incarnation } => {
                let members = [(*server, *incarnation)];
                let config = writable_config(*id, collection, *placement, *ttl, disk, &members);
                self.admit_volume(config)
            }
            Command::SealVolumes { volumes } => Ok(self.seal_volumes(volumes)),
            Command::DecideVolume { id, epoch, decision } => {
                self.change(*id, *epoch, |config| config.decide(decision))
            }
            Command::RepairVolume { id, epoch, target } => {
                self.change(*id, *epoch, |config| config.begin_repair(*target))
            }
            Command::OpenVolume { id, epoch, members } => {
                self.change(*id, *epoch, |config| config.open(members))
            }
            Command::DeleteVolumes { volumes } => Ok(self.delete_volumes(volumes)),
        };
        applied.unwrap_or_else(|refusal| Outcome::Refused { refusal })
    }

    fn grant_keys(&mut self, count: u64, at_least: u64) -> Result<Outcome, Refusal> {
        let first = self.next_key.max(at_least);
        self.next_key = first.checked_add(count).ok_or(Refusal::OutOfKeys)?;
        Ok(Outcome::Keys { first, count })
    }

    fn create_volumes(
        &mut self,
        members: &[Vec<(ServerId, Incarnation)>],
        config: impl Fn(VolumeId, &[(ServerId, Incarnation)]) -> VolumeConfig,
    ) -> Result<Outcome, Refusal> {
        let mut next = self.next_volume_id;
        let mut configs = Vec::with_capacity(members.len());
        for members in members {
            if members.is_empty() {
                return Err(Refusal::NoMembers);
            }
            let id = VolumeId::new(next).ok_or(Refusal::OutOfVolumeIds)?;
            configs.push(config(id, members));
            next = next.checked_add(1).unwrap_or(0);
        }
        self.next_volume_id = next;
        self.volumes.extend(configs.iter().map(|config| (config.id, Arc::new(config.clone()))));
        Ok(Outcome::Volumes { configs })
    }

    /// An admitted volume is closed, and read-only when its placement asks for more copies than
    /// the one that was brought.
    fn admit_volume(&mut self, mut config: VolumeConfig) -> Result<Outcome, Refusal> {
        if self.volumes.contains_key(&config.id) {
            return Err(Refusal::VolumeIdTaken { id: config.id });
        }
        if self.deleted.contains(config.id) {
            return Err(Refusal::VolumeIdDeleted { id: config.id });
        }
        config.closed = true;
        if config.placement.copies() > config.members.len() {
            config.state = VolumeState::ReadOnly { reason: ReadOnlyReason::MissingCopies };
            config.last_writable = None;
        }
        if self.next_volume_id != 0 && config.id.as_u32() >= self.next_volume_id {
            self.next_volume_id = config.id.as_u32().checked_add(1).unwrap_or(0);
        }
        self.volumes.insert(config.id, Arc::new(config.clone()));
        Ok(Outcome::Volumes { configs: vec![config] })
    }

    /// Deletes those that still are as they were planned for.
    fn delete_volumes(&mut self, deletions: &[Deletion]) -> Outcome {
        let mut ids = Vec::with_capacity(deletions.len());
        for Deletion { id, epoch } in deletions {
            if self.volumes.get(id).is_some_and(|config| config.epoch == *epoch) {
                self.volumes.remove(id);
                self.deleted.insert(*id);
                ids.push(*id);
            }
        }
        Outcome::Deleted { ids }
    }
}

fn writable_config(
    id: VolumeId,
    collection: &Collection,
    placement: ReplicaPlacement,
    ttl: Ttl,
    disk: &DiskType,
    members: &[(ServerId, Incarnation)],
) -> VolumeConfig {
    let epoch = Epoch(1);
    // A volume has at most 28 copies (three digits of 9 and one), so the slots never run out.
    let slots = 0_u8..;
    VolumeConfig {
        id,
        collection: collection.clone(),
        placement,
        ttl,
        disk: disk.clone(),
        closed: false,
        epoch,
        members: members
            .iter()
            .zip(slots)
            .map(|((server, _), slot)| Member { server: *server, slot })
            .collect(),
        state: VolumeState::Writable,
        last_writable: Some(LastWritable { epoch, members: members.to_vec() }),
        sealed_with: Vec::new(),
        decision: None,
        next_slot: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(members: Vec<Vec<(ServerId, Incarnation)>>) -> Command {
        Command::CreateVolumes {
            collection: Collection::default(),
            placement: ReplicaPlacement::default(),
            ttl: Ttl::NONE,
            disk: DiskType::default(),
            members,
        }
    }

    fn server() -> (ServerId, Incarnation) {
        (ServerId::from(7), Incarnation(1))
    }

    fn admit(id: u32, placement: &str) -> Command {
        Command::AdmitVolume {
            id: VolumeId::new(id).unwrap(),
            collection: Collection::default(),
            placement: placement.parse().unwrap(),
            ttl: Ttl::NONE,
            disk: DiskType::default(),
            server: server().0,
            incarnation: server().1,
        }
    }

    #[test]
    fn keys_are_granted_once_and_above_what_was_seen() {
        let mut state = ClusterState::default();
        let grant = |at_least| Command::GrantKeys { count: 10, at_least };
        assert_eq!(state.apply(&grant(0)), Outcome::Keys { first: 1, count: 10 });
        assert_eq!(state.apply(&grant(0)), Outcome::Keys { first: 11, count: 10 });
        assert_eq!(state.apply(&grant(100)), Outcome::Keys { first: 100, count: 10 });
        let before = state.clone();
        let refused = Outcome::Refused { refusal: Refusal::OutOfKeys };
        assert_eq!(state.apply(&grant(u64::MAX)), refused);
        assert_eq!(state, before, "a refused command changes nothing");
    }

    #[test]
    fn volume_ids_run_on_above_admitted_ones_and_end_at_the_largest() {
        let mut state = ClusterState::default();
        state.apply(&admit(41, "000"));
        state.apply(&create(vec![vec![server()], vec![server()]]));
        let ids: Vec<u32> = state.volumes.keys().map(|id| id.as_u32()).collect();
        assert_eq!(ids, [41, 42, 43]);
        state.apply(&admit(u32::MAX, "000"));
        let refused = Outcome::Refused { refusal: Refusal::OutOfVolumeIds };
        assert_eq!(state.apply(&create(vec![vec![server()]])), refused);
        assert_eq!(state.volumes.len(), 4);
    }

    #[test]
    fn an_admitted_volume_is_closed_and_read_only_while_copies_are_missing() {
        let mut state = ClusterState::default();
        state.apply(&admit(1, "000"));
        state.apply(&admit(2, "001"));
        let config = |id| &state.volumes[&VolumeId::new(id).unwrap()];
        assert!(config(1).closed && config(1).state == VolumeState::Writable);
        let reason = ReadOnlyReason::MissingCopies;
        assert!(config(2).closed && config(2).state == VolumeState::ReadOnly { reason });
        let id = VolumeId::new(2).unwrap();
        let refused = Outcome::Refused { refusal: Refusal::VolumeIdTaken { id } };
        assert_eq!(state.apply(&admit(2, "000")), refused);
    }

    fn delete(id: u32, epoch: u64) -> Command {
        let deletion = Deletion { id: VolumeId::new(id).unwrap(), epoch: Epoch(epoch) };
        Command::DeleteVolumes { volumes: vec![deletion] }
    }

    #[test]
    fn the_id_of_a_deleted_volume_is_never_used_again() {
        let mut state = ClusterState::default();
        state.apply(&create(vec![vec![server()], vec![server()]]));
        let id = VolumeId::new(2).unwrap();
        assert_eq!(state.apply(&delete(2, 1)), Outcome::Deleted { ids: vec![id] });
        assert!(!state.volumes.contains_key(&id) && state.deleted.contains(id));
        let refused = Outcome::Refused { refusal: Refusal::VolumeIdDeleted { id } };
        assert_eq!(state.apply(&admit(2, "000")), refused);
        state.apply(&create(vec![vec![server()]]));
        let ids: Vec<u32> = state.volumes.keys().map(|id| id.as_u32()).collect();
        assert_eq!(ids, [1, 3]);
    }

    #[test]
    fn a_volume_that_changed_since_its_deletion_was_planned_stays() {
        let mut state = ClusterState::default();
        state.apply(&create(vec![vec![server()]]));
        let before = state.clone();
        for stale in [delete(1, 2), delete(1, 0), delete(7, 1)] {
            assert_eq!(state.apply(&stale), Outcome::Deleted { ids: Vec::new() });
            assert_eq!(state, before);
        }
        state.apply(&delete(1, 1));
        let once = state.clone();
        state.apply(&delete(1, 1));
        assert_eq!(state, once, "deleting twice is deleting once");
    }

    #[test]
    fn a_cluster_is_named_once() {
        let mut state = ClusterState::default();
        let found = |n| Command::FoundCluster { cluster: ClusterId::from(n) };
        state.apply(&found(1));
        assert_eq!(state.apply(&found(2)), Outcome::Founded { cluster: ClusterId::from(1) });
    }
}
