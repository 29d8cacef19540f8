//! What becomes of a sealed volume: which of its writes without outcome took effect, and when it
//! may be written again.
//!
//! A write that every survivor stored may have been acknowledged and is committed; one that is
//! missing anywhere cannot have been and is aborted. A commit takes effect, and a writable epoch
//! begins, only when no server excluded since the last writable epoch can answer a read any more.
//! Replicas that should be equal and are not are for a human: nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{Digest, NeedleKey, ServerId, Ts},
    wire::{
        Decision, Held, Holding, Incarnation, Sealed, Standing, Unresolved, VolumeState, WriteId,
    },
};

use super::{
    rules::{Rule, Rules},
    seal::{VolumeView, kept_running},
};
use crate::cluster_state::Command;

/// The next step of a sealed volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing yet.
    Wait(Waiting),
    /// Ask every member what it holds of these writes.
    Ask(Vec<WriteId>),
    /// Propose this.
    Propose(Command),
    /// Members that should be equal are not: nothing is applied, an operator picks a copy.
    Diverged,
}

/// What a sealed volume waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Waiting {
    /// Answers of members.
    Answers,
    /// Another seal: a member was restarted, or cannot be used.
    Seal,
    /// The end of leases.
    Leases,
    /// The decision.
    Decision,
    /// More copies: a member that comes back, or a repair.
    Copies,
    /// It is writable.
    Nothing,
}

/// What to decide about the writes that have no outcome.
pub fn plan_decision(view: &VolumeView, rules: Rules) -> Step {
    let config = &view.config;
    if config.decision.is_some() || config.state == VolumeState::Writable {
        return Step::Wait(Waiting::Nothing);
    }
    if config.sealed_with.is_empty() {
        // Admitted without all its copies: it was never written here, so nothing is undecided.
        return Step::Wait(Waiting::Seal);
    }
    let Some(answers) = answers(view) else {
        return Step::Wait(Waiting::Answers);
    };
    let kept = config
        .sealed_with
        .iter()
        .filter(|(server, run)| kept_running(config, *server, *run, rules))
        .count();
    let ignores_runs = !rules.keep(Rule::ReturnedDoNotDecide);
    let is_mixed = kept > 0 && kept < answers.len() && !ignores_runs;
    let is_unusable = |(_, answer): &(ServerId, &Sealed)| {
        matches!(answer.standing, Standing::Stale | Standing::Failed)
    };
    if is_mixed || answers.iter().any(is_unusable) {
        return Step::Wait(Waiting::Seal);
    }
    let listed = listed(&answers);
    let Some(holdings) = holdings(view, &listed) else {
        return Step::Ask(listed.into_keys().collect());
    };
    let decision = decide(&listed, &holdings, rules);
    if !decision.commit.is_empty() && !leases_are_over(view, rules) {
        return Step::Wait(Waiting::Leases);
    }
    if kept == 0 && !ignores_runs && !would_be_equal(&answers, &holdings, &listed, &decision) {
        return Step::Diverged;
    }
    Step::Propose(Command::DecideVolume { id: config.id, epoch: config.epoch, decision })
}

/// Whether a resolved volume can be written again, and by whom.
pub fn plan_opening(view: &VolumeView, rules: Rules) -> Step {
    let config = &view.config;
    if config.state == VolumeState::Writable {
        return Step::Wait(Waiting::Nothing);
    }
    if config.decision.is_none() && config.last_writable.is_some() {
        return Step::Wait(Waiting::Decision);
    }
    let Some(answers) = answers(view) else {
        return Step::Wait(Waiting::Answers);
    };
    let is_resolved =
        |answer: &Sealed| answer.standing == Standing::Running && answer.unresolved.is_empty();
    let Some((_, first)) = answers.first() else {
        return Step::Wait(Waiting::Answers);
    };
    if !answers.iter().all(|(_, answer)| is_resolved(answer)) {
        return Step::Wait(Waiting::Answers);
    }
    if answers.iter().any(|(_, answer)| answer.digest != first.digest) {
        return Step::Diverged;
    }
    let mut members = config.sealed_with.clone();
    let room = config.placement.copies().saturating_sub(members.len());
    members.extend(joining(view, first.digest, rules).into_iter().take(room));
    if members.len() < config.placement.copies() {
        return Step::Wait(Waiting::Copies);
    }
    if !leases_are_over(view, rules) {
        return Step::Wait(Waiting::Leases);
    }
    Step::Propose(Command::OpenVolume { id: config.id, epoch: config.epoch, members })
}

/// Every member's answer to the present epoch, given by the run that was sealed with.
fn answers(view: &VolumeView) -> Option<Vec<(ServerId, &Sealed)>> {
    let answer = |(server, run): &(ServerId, Incarnation)| {
        let answer = view.servers.get(server)?.answer(view.config.epoch)?;
        (answer.incarnation == *run).then_some((*server, answer))
    };
    view.config.sealed_with.iter().map(answer).collect()
}

/// All writes that some member listed, each once.
fn listed(answers: &[(ServerId, &Sealed)]) -> BTreeMap<WriteId, Unresolved> {
    let all = answers.iter().flat_map(|(_, answer)| &answer.unresolved);
    all.map(|unresolved| (unresolved.id, *unresolved)).collect()
}

/// What each member holds of the listed writes; none while somebody was not asked.
fn holdings<'a>(
    view: &'a VolumeView,
    listed: &BTreeMap<WriteId, Unresolved>,
) -> Option<Vec<Vec<&'a Holding>>> {
    let of = |(server, _): &(ServerId, Incarnation)| {
        let known = &view.servers.get(server)?.holdings;
        let of_write = |id: &WriteId| known.iter().find(|holding| holding.id == *id);
        listed.keys().map(of_write).collect::<Option<Vec<&Holding>>>()
    };
    view.config.sealed_with.iter().map(of).collect()
}

fn decide(
    listed: &BTreeMap<WriteId, Unresolved>,
    holdings: &[Vec<&Holding>],
    rules: Rules,
) -> Decision {
    let mut decision = Decision::default();
    for (at, unresolved) in listed.values().enumerate() {
        let mut held = holdings.iter().filter_map(|of_member| of_member.get(at));
        let is_stored_on_all = held.all(|holding| is_stored(holding.held, unresolved, rules));
        if is_stored_on_all && rules.keep(Rule::StoredOnAllIsCommitted) {
            decision.commit.push(unresolved.id);
        } else {
            decision.abort.push(unresolved.id);
        }
    }
    decision
}

fn is_stored(held: Held, unresolved: &Unresolved, rules: Rules) -> bool {
    match held {
        Held::Pending | Held::Committed => true,
        Held::Traceless => unresolved.is_tombstone && rules.keep(Rule::VacuumedTombstoneIsStored),
        Held::Aborted | Held::Missing => false,
    }
}

/// Whether the members would be equal once they applied the decision.
fn would_be_equal(
    answers: &[(ServerId, &Sealed)],
    holdings: &[Vec<&Holding>],
    listed: &BTreeMap<WriteId, Unresolved>,
    decision: &Decision,
) -> bool {
    let after = |(answer, holdings): (&(ServerId, &Sealed), &Vec<&Holding>)| {
        digest_after(answer.1.digest, holdings, listed, decision)
    };
    let mut digests = answers.iter().zip(holdings).map(after);
    let first = digests.next();
    digests.all(|digest| Some(digest) == first)
}

fn digest_after(
    before: Digest,
    holdings: &[&Holding],
    listed: &BTreeMap<WriteId, Unresolved>,
    decision: &Decision,
) -> Digest {
    let mut newest: BTreeMap<NeedleKey, (Ts, Digest)> = BTreeMap::new();
    let mut digest = before;
    for holding in holdings {
        let version = holding.newest.unwrap_or_default();
        if newest.insert(holding.id.key, version).is_none() {
            digest = digest.minus(version.1);
        }
    }
    for holding in holdings {
        let is_stored = matches!(holding.held, Held::Pending | Held::Committed);
        let (Some(version), Some(write)) =
            (newest.get_mut(&holding.id.key), listed.get(&holding.id))
        else {
            continue;
        };
        if is_stored && decision.commit.contains(&holding.id) && holding.id.ts > version.0 {
            *version = (holding.id.ts, write.part);
        }
    }
    newest.values().fold(digest, |digest, (_, part)| digest.plus(*part))
}

/// Servers that are no members but whose copy equals the members': one that came back and adopted,
/// or the target of a repair.
fn joining(view: &VolumeView, digest: Digest, rules: Rules) -> Vec<(ServerId, Incarnation)> {
    let config = &view.config;
    let returned = config.last_writable.iter().flat_map(|last| &last.members);
    let mut joining: Vec<ServerId> = returned.map(|(server, _)| *server).collect();
    if let VolumeState::Repairing { target } = config.state {
        joining.push(target);
    }
    joining.retain(|server| !config.sealed_with.iter().any(|(member, _)| member == server));
    // The target may be one that comes back.
    let mut seen = BTreeSet::new();
    joining.retain(|server| seen.insert(*server));
    let joins = |server: ServerId| {
        let known = view.servers.get(&server).filter(|known| known.is_present)?;
        let answer = known.answer(config.epoch)?;
        let is_equal = answer.digest == digest || !rules.keep(Rule::DigestTellsStale);
        let is_whole = answer.standing == Standing::Returned
            && answer.has_adopted
            && answer.unresolved.is_empty();
        (is_whole && is_equal).then_some((server, known.incarnation))
    };
    joining.into_iter().filter_map(joins).collect()
}

/// Whether no server excluded since the volume was last writable can answer a read: its lease is
/// over, or it made the configuration durable that excludes it.
fn leases_are_over(view: &VolumeView, rules: Rules) -> bool {
    let config = &view.config;
    let is_member = |server: ServerId| config.members.iter().any(|m| m.server == server);
    let last = config.last_writable.iter().flat_map(|last| &last.members);
    let mut excluded: Vec<ServerId> =
        last.map(|(server, _)| *server).filter(|server| !is_member(*server)).collect();
    if !rules.keep(Rule::LeasesAreWaitedFor) {
        excluded.clear();
    }
    if !rules.keep(Rule::AllExcludedAreWaitedFor) {
        excluded = excluded.last().copied().into_iter().collect();
    }
    excluded.iter().all(|server| {
        view.servers
            .get(server)
            .is_some_and(|known| !known.may_have_lease || known.answer(config.epoch).is_some())
    })
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        id::{Collection, Ttl, VolumeId},
        wire::{DiskType, Epoch, VolumeConfig},
    };

    use super::*;
    use crate::{
        cluster_state::ClusterState,
        plan::seal::{Cause, ServerView, plan_seal},
    };

    const RULES: Rules = Rules::all();

    fn server(number: u128) -> ServerId {
        ServerId::from_u128(number)
    }

    fn id() -> VolumeId {
        VolumeId::new(1).unwrap()
    }

    /// A volume on servers 1 and 2, both in run 1 when it became writable.
    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        state.apply(&Command::CreateVolumes {
            collection: Collection::default(),
            placement: "001".parse().unwrap(),
            ttl: Ttl::NONE,
            disk: DiskType::default(),
            members: vec![vec![(server(1), Incarnation(1)), (server(2), Incarnation(1))]],
        });
        state
    }

    fn known(run: u64) -> ServerView {
        ServerView {
            incarnation: Incarnation(run),
            is_present: true,
            may_have_lease: true,
            sealed: None,
            holdings: Vec::new(),
        }
    }

    fn view(config: &VolumeConfig, runs: [u64; 2]) -> VolumeView {
        let servers = [(server(1), known(runs[0])), (server(2), known(runs[1]))];
        VolumeView { config: config.clone(), servers: servers.into() }
    }

    /// Seals the volume with those of the two that the plan picks, in these runs.
    fn sealed(runs: [u64; 2], is_present: [bool; 2]) -> VolumeView {
        let mut state = state();
        let mut before = view(&state.volumes[&id()], runs);
        for (known, present) in before.servers.values_mut().zip(is_present) {
            known.is_present = present;
        }
        let seal = plan_seal(&before, Cause::Asked, RULES).unwrap();
        state.apply(&Command::SealVolumes { volumes: vec![seal] });
        VolumeView { config: state.volume(id()).unwrap().clone(), ..before }
    }

    fn digest(sum: u128) -> Digest {
        Digest { live_needles: 1, live_bytes: 40, sum }
    }

    /// The member answers with this digest and, perhaps, one write of a needle without outcome.
    fn answers(view: &mut VolumeView, number: u128, sum: u128, held: Option<Held>) {
        let epoch = view.config.epoch;
        let known = view.servers.get_mut(&server(number)).unwrap();
        let id = WriteId { key: NeedleKey::new(7).unwrap(), ts: Ts(512) };
        let unresolved = Unresolved { id, is_tombstone: false, part: digest(9) };
        let is_listed = held.is_some_and(|held| held == Held::Pending);
        known.sealed = Some(Sealed {
            epoch,
            incarnation: known.incarnation,
            standing: Standing::Running,
            has_adopted: false,
            unresolved: is_listed.then_some(unresolved).into_iter().collect(),
            digest: digest(sum),
        });
        let holding = |held| Holding { id, held, newest: Some((Ts(256), digest(sum))) };
        known.holdings = held.map(holding).into_iter().collect();
    }

    fn decision(step: &Step) -> &Decision {
        match step {
            Step::Propose(Command::DecideVolume { decision, .. }) => decision,
            other => panic!("no decision: {other:?}"),
        }
    }

    #[test]
    fn what_all_survivors_stored_is_committed_and_anything_else_is_not() {
        let mut both = sealed([1, 1], [true, true]);
        answers(&mut both, 1, 3, Some(Held::Pending));
        assert_eq!(plan_decision(&both, RULES), Step::Wait(Waiting::Answers));
        answers(&mut both, 2, 3, None);
        assert!(matches!(plan_decision(&both, RULES), Step::Ask(ids) if ids.len() == 1));
        for (held, commits) in [(Held::Committed, 1), (Held::Missing, 0), (Held::Aborted, 0)] {
            answers(&mut both, 2, 3, Some(held));
            let step = plan_decision(&both, RULES);
            assert_eq!(decision(&step).commit.len(), commits, "{held:?}");
        }
    }

    #[test]
    fn a_commit_waits_for_the_lease_of_who_is_excluded_and_an_abort_does_not() {
        let mut alone = sealed([1, 1], [true, false]);
        answers(&mut alone, 1, 3, Some(Held::Pending));
        assert_eq!(plan_decision(&alone, RULES), Step::Wait(Waiting::Leases));
        let mut heard = alone.clone();
        answers(&mut heard, 2, 3, None);
        assert_eq!(decision(&plan_decision(&heard, RULES)).commit.len(), 1);
        alone.servers.get_mut(&server(2)).unwrap().may_have_lease = false;
        assert_eq!(decision(&plan_decision(&alone, RULES)).commit.len(), 1);
        answers(&mut alone, 1, 3, None);
        alone.servers.get_mut(&server(2)).unwrap().may_have_lease = true;
        assert_eq!(decision(&plan_decision(&alone, RULES)), &Decision::default());
    }

    #[test]
    fn who_was_restarted_decides_only_when_all_were_and_only_if_all_would_be_equal() {
        let mixed = sealed([2, 1], [true, true]);
        assert_eq!(mixed.config.sealed_with, [(server(2), Incarnation(1))]);
        let mut restarted = sealed([2, 2], [true, true]);
        assert_eq!(restarted.config.sealed_with.len(), 2);
        answers(&mut restarted, 1, 3, Some(Held::Pending));
        answers(&mut restarted, 2, 4, Some(Held::Committed));
        let both_hold_the_write = plan_decision(&restarted, RULES);
        assert_eq!(decision(&both_hold_the_write).commit.len(), 1, "it overwrites what differs");
        answers(&mut restarted, 2, 4, Some(Held::Missing));
        assert_eq!(plan_decision(&restarted, RULES), Step::Diverged);
    }

    #[test]
    fn a_volume_is_opened_when_it_has_its_copies_and_they_are_equal() {
        let mut state = state();
        let alone = sealed([1, 1], [true, false]);
        state.volumes.insert(id(), alone.config.clone().into());
        let epoch = alone.config.epoch;
        let decision = Decision::default();
        state.apply(&Command::DecideVolume { id: id(), epoch, decision });
        let mut decided = view(&state.volumes[&id()], [1, 1]);
        answers(&mut decided, 1, 3, None);
        assert_eq!(plan_opening(&decided, RULES), Step::Wait(Waiting::Copies));
        answers(&mut decided, 2, 3, None);
        let returned = decided.servers.get_mut(&server(2)).and_then(|known| known.sealed.as_mut());
        let returned = returned.unwrap();
        returned.standing = Standing::Returned;
        assert_eq!(plan_opening(&decided, RULES), Step::Wait(Waiting::Copies), "not adopted");
        let known = decided.servers.get_mut(&server(2)).and_then(|known| known.sealed.as_mut());
        known.unwrap().has_adopted = true;
        let step = plan_opening(&decided, RULES);
        assert!(
            matches!(step, Step::Propose(Command::OpenVolume { members, .. }) if members.len() == 2)
        );
        let known = decided.servers.get_mut(&server(2)).and_then(|known| known.sealed.as_mut());
        known.unwrap().digest = digest(4);
        assert_eq!(plan_opening(&decided, RULES), Step::Wait(Waiting::Copies), "stale");
        assert_eq!(decided.config.epoch, Epoch(3));
    }

    #[test]
    fn who_comes_back_and_is_the_target_of_a_repair_is_one_copy() {
        let mut config = sealed([1, 1], [true, false]).config;
        config.placement = "002".parse().unwrap();
        config.decision = Some(Decision::default());
        let last = config.last_writable.as_mut().unwrap();
        last.members.push((server(3), Incarnation(1)));
        config.state = VolumeState::Repairing { target: server(2) };
        let mut repairing = view(&config, [1, 1]);
        repairing.servers.insert(server(3), known(1));
        for number in [1, 2, 3] {
            answers(&mut repairing, number, 3, None);
        }
        for number in [2, 3] {
            let known = repairing.servers.get_mut(&server(number)).unwrap();
            let answer = known.sealed.as_mut().unwrap();
            (answer.standing, answer.has_adopted) = (Standing::Returned, number == 2);
        }
        assert_eq!(plan_opening(&repairing, RULES), Step::Wait(Waiting::Copies));
    }
}
