//! How a volume that exists changes: sealed, decided, repaired, opened.
//!
//! Each change is made on the epoch it was planned for, or not at all, and raises the epoch by one.
//! The member list never becomes empty or names a server twice, a decision is made once and kept
//! until the volume is writable again, and only servers of the last writable epoch are ever asked
//! to decide. Who is alive, whose lease is over and whose digest is right is for the plans: they
//! know, this does not.

use std::{collections::BTreeSet, sync::Arc};

use dulse_shared::{
    id::{ServerId, VolumeId},
    wire::{
        Decision, Epoch, Incarnation, LastWritable, Member, ReadOnlyReason, VolumeConfig,
        VolumeState,
    },
};

use super::{ClusterState, Outcome, Refusal, Seal};

impl ClusterState {
    /// Seals those of `seals` that can be; the others are left as they are.
    pub(super) fn seal_volumes(&mut self, seals: &[Seal]) -> Outcome {
        let mut configs = Vec::with_capacity(seals.len());
        for Seal { id, epoch, members } in seals {
            let sealed = self.change(*id, *epoch, |config| config.seal(members));
            if let Ok(Outcome::Volumes { configs: changed }) = sealed {
                configs.extend(changed);
            }
        }
        Outcome::Volumes { configs }
    }

    /// Changes one volume if it is still at `epoch`, whole or not at all.
    pub(super) fn change(
        &mut self,
        id: VolumeId,
        epoch: Epoch,
        change: impl FnOnce(&mut VolumeConfig) -> Result<(), Refusal>,
    ) -> Result<Outcome, Refusal> {
        let current = self.volumes.get_mut(&id).ok_or(Refusal::NoSuchVolume { id })?;
        if current.epoch != epoch {
            return Err(Refusal::EpochMoved { id });
        }
        let mut changed = VolumeConfig::clone(current);
        change(&mut changed)?;
        changed.epoch = Epoch(epoch.0.saturating_add(1));
        if changed.state == VolumeState::Writable {
            let members = std::mem::take(&mut changed.sealed_with);
            changed.last_writable = Some(LastWritable { epoch: changed.epoch, members });
        }
        *current = Arc::new(changed.clone());
        Ok(Outcome::Volumes { configs: vec![changed] })
    }
}

/// The changes of one configuration. None touches the epoch.
pub(super) trait Change {
    /// Read-only, with these members.
    fn seal(&mut self, members: &[(ServerId, Incarnation)]) -> Result<(), Refusal>;
    /// What was without outcome has one.
    fn decide(&mut self, decision: &Decision) -> Result<(), Refusal>;
    /// A copy is made on `target`.
    fn begin_repair(&mut self, target: ServerId) -> Result<(), Refusal>;
    /// Writable, with these members.
    fn open(&mut self, members: &[(ServerId, Incarnation)]) -> Result<(), Refusal>;
}

impl Change for VolumeConfig {
    fn seal(&mut self, members: &[(ServerId, Incarnation)]) -> Result<(), Refusal> {
        let may_decide = |server: &ServerId| match &self.last_writable {
            Some(last) => last.members.iter().any(|(member, _)| member == server),
            None => is_member(self, *server),
        };
        if let Some((server, _)) = members.iter().find(|(server, _)| !may_decide(server)) {
            return Err(Refusal::NoCopy { id: self.id, server: *server });
        }
        set_members(self, members)?;
        let reason = if self.members.len() < self.placement.copies() {
            ReadOnlyReason::MissingCopies
        } else {
            ReadOnlyReason::Resolving
        };
        self.state = VolumeState::ReadOnly { reason };
        Ok(())
    }

    fn decide(&mut self, decision: &Decision) -> Result<(), Refusal> {
        let is_sealed = matches!(self.state, VolumeState::ReadOnly { .. });
        if !is_sealed || self.sealed_with.is_empty() || self.decision.is_some() {
            return Err(Refusal::WrongState { id: self.id });
        }
        self.decision = Some(decision.clone());
        Ok(())
    }

    fn begin_repair(&mut self, target: ServerId) -> Result<(), Refusal> {
        if self.state == VolumeState::Writable || !is_resolved(self) || is_member(self, target) {
            return Err(Refusal::WrongState { id: self.id });
        }
        self.state = VolumeState::Repairing { target };
        Ok(())
    }

    fn open(&mut self, members: &[(ServerId, Incarnation)]) -> Result<(), Refusal> {
        if self.state == VolumeState::Writable || !is_resolved(self) {
            return Err(Refusal::WrongState { id: self.id });
        }
        if let Some((server, _)) = members.iter().find(|(server, _)| !has_copy(self, *server)) {
            return Err(Refusal::NoCopy { id: self.id, server: *server });
        }
        set_members(self, members)?;
        self.state = VolumeState::Writable;
        self.decision = None;
        Ok(())
    }
}

fn is_member(config: &VolumeConfig, server: ServerId) -> bool {
    config.members.iter().any(|member| member.server == server)
}

/// Whether nothing is left without outcome: it was decided, or the volume was never writable.
fn is_resolved(config: &VolumeConfig) -> bool {
    config.decision.is_some() || config.last_writable.is_none()
}

fn has_copy(config: &VolumeConfig, server: ServerId) -> bool {
    let was_writable = config.last_writable.iter().flat_map(|last| &last.members);
    is_member(config, server)
        || was_writable.into_iter().any(|(member, _)| *member == server)
        || config.state == VolumeState::Repairing { target: server }
}

/// Whoever stays keeps its slot, whoever joins gets one that nobody has.
fn set_members(
    config: &mut VolumeConfig,
    members: &[(ServerId, Incarnation)],
) -> Result<(), Refusal> {
    if members.is_empty() {
        return Err(Refusal::NoMembers);
    }
    let mut seen = BTreeSet::new();
    if let Some((server, _)) = members.iter().find(|(server, _)| !seen.insert(*server)) {
        return Err(Refusal::MemberTwice { id: config.id, server: *server });
    }
    let mut joined = Vec::with_capacity(members.len());
    let (staying, joining): (Vec<ServerId>, Vec<ServerId>) =
        members.iter().map(|(server, _)| *server).partition(|server| is_member(config, *server));
    joined.extend(config.members.iter().filter(|member| staying.contains(&member.server)));
    for server in joining {
        let slot = free_slot(config, &joined)?;
        config.next_slot = slot.wrapping_add(1);
        joined.push(Member { server, slot });
    }
    config.members = joined;
    config.sealed_with = members.to_vec();
    Ok(())
}

/// The next slot of a counter that runs round and skips those in use, now or by `joined`.
fn free_slot(config: &VolumeConfig, joined: &[Member]) -> Result<u8, Refusal> {
    let is_used = |slot| config.members.iter().chain(joined).any(|member| member.slot == slot);
    (0..=u8::MAX)
        .map(|steps| config.next_slot.wrapping_add(steps))
        .find(|slot| !is_used(*slot))
        .ok_or(Refusal::OutOfSlots { id: config.id })
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        id::{Collection, NeedleKey, ReplicaPlacement, Ts, Ttl},
        wire::{DiskType, WriteId},
    };

    use super::*;
    use crate::cluster_state::Command;

    const A: (ServerId, Incarnation) = (server(1), Incarnation(1));
    const B: (ServerId, Incarnation) = (server(2), Incarnation(1));
    const C: (ServerId, Incarnation) = (server(3), Incarnation(7));

    const fn server(number: u128) -> ServerId {
        ServerId::from_u128(number)
    }

    fn id() -> VolumeId {
        VolumeId::new(1).unwrap()
    }

    fn two_copies() -> ClusterState {
        let mut state = ClusterState::default();
        state.apply(&Command::CreateVolumes {
            collection: Collection::default(),
            placement: "001".parse::<ReplicaPlacement>().unwrap(),
            ttl: Ttl::NONE,
            disk: DiskType::default(),
            members: vec![vec![A, B]],
        });
        state
    }

    fn config(state: &ClusterState) -> &VolumeConfig {
        &state.volumes[&id()]
    }

    fn seal(state: &mut ClusterState, epoch: u64, members: &[(ServerId, Incarnation)]) -> Outcome {
        let seal = Seal { id: id(), epoch: Epoch(epoch), members: members.to_vec() };
        state.apply(&Command::SealVolumes { volumes: vec![seal] })
    }

    fn decide(state: &mut ClusterState, epoch: u64) -> Outcome {
        let write = WriteId { key: NeedleKey::new(1).unwrap(), ts: Ts(5) };
        let decision = Decision { commit: vec![write], abort: Vec::new() };
        state.apply(&Command::DecideVolume { id: id(), epoch: Epoch(epoch), decision })
    }

    fn open(state: &mut ClusterState, epoch: u64, members: &[(ServerId, Incarnation)]) -> Outcome {
        let members = members.to_vec();
        state.apply(&Command::OpenVolume { id: id(), epoch: Epoch(epoch), members })
    }

    fn is_refused(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Refused { .. })
    }

    #[test]
    fn a_volume_goes_from_sealed_to_decided_to_repaired_to_writable() {
        let mut state = two_copies();
        seal(&mut state, 1, &[A]);
        assert_eq!(config(&state).epoch, Epoch(2));
        assert_eq!(config(&state).sealed_with, [A]);
        decide(&mut state, 2);
        let repair = Command::RepairVolume { id: id(), epoch: Epoch(3), target: C.0 };
        state.apply(&repair);
        assert_eq!(config(&state).state, VolumeState::Repairing { target: C.0 });
        assert!(config(&state).decision.is_some(), "kept until it is writable");
        open(&mut state, 4, &[A, C]);
        let opened = config(&state);
        assert_eq!((opened.epoch, opened.state), (Epoch(5), VolumeState::Writable));
        assert_eq!(opened.decision, None);
        let last = LastWritable { epoch: Epoch(5), members: vec![A, C] };
        assert_eq!(opened.last_writable, Some(last));
        let slots: Vec<u8> = opened.members.iter().map(|member| member.slot).collect();
        assert_eq!(slots, [0, 1], "the lost server's slot is free again");
    }

    #[test]
    fn a_change_planned_for_another_epoch_changes_nothing() {
        let mut state = two_copies();
        let before = state.clone();
        assert_eq!(seal(&mut state, 2, &[A]), Outcome::Volumes { configs: Vec::new() });
        assert!(is_refused(&decide(&mut state, 2)));
        assert_eq!(state, before);
    }

    #[test]
    fn a_decision_is_made_once_and_outlives_another_seal() {
        let mut state = two_copies();
        assert!(is_refused(&decide(&mut state, 1)), "a writable volume has nothing to decide");
        seal(&mut state, 1, &[A, B]);
        decide(&mut state, 2);
        assert!(is_refused(&decide(&mut state, 3)));
        seal(&mut state, 3, &[B]);
        assert!(config(&state).decision.is_some());
        assert!(is_refused(&decide(&mut state, 4)));
    }

    #[test]
    fn nobody_without_a_copy_becomes_a_member_and_somebody_always_is() {
        let mut state = two_copies();
        seal(&mut state, 1, &[]);
        seal(&mut state, 1, &[A, C]);
        assert_eq!(config(&state).epoch, Epoch(1));
        seal(&mut state, 1, &[A]);
        assert!(is_refused(&open(&mut state, 2, &[A])), "nothing was decided");
        decide(&mut state, 2);
        assert!(is_refused(&open(&mut state, 3, &[A, C])));
        assert!(!is_refused(&open(&mut state, 3, &[A, B])), "one that comes back has a copy");
    }

    #[test]
    fn a_server_is_never_a_member_twice() {
        let mut state = two_copies();
        seal(&mut state, 1, &[A, A]);
        assert_eq!(config(&state).epoch, Epoch(1));
        seal(&mut state, 1, &[A]);
        decide(&mut state, 2);
        for twice in [[A, A], [B, B], [(A.0, Incarnation(2)), A]] {
            assert!(is_refused(&open(&mut state, 3, &twice)), "{twice:?}");
        }
        assert_eq!(config(&state).epoch, Epoch(3));
    }

    #[test]
    fn slots_run_round_and_pass_over_those_in_use() {
        let mut state = two_copies();
        let mut full = config(&state).clone();
        full.next_slot = 255;
        full.members.push(Member { server: server(9), slot: 255 });
        assert_eq!(free_slot(&full, &[]), Ok(2));
        full.members = (0..=255).map(|slot| Member { server: A.0, slot }).collect();
        assert_eq!(free_slot(&full, &[]), Err(Refusal::OutOfSlots { id: id() }));
        seal(&mut state, 1, &[B]);
        assert_eq!(config(&state).members, [Member { server: B.0, slot: 1 }]);
    }
}
