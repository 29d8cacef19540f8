//! What becomes of a sealed volume: which of its writes without outcome took effect, and when it
//! may be written again.
//!
//! A write that every survivor stored may have been acknowledged and is committed; one that is
//! missing anywhere cannot have been and is aborted. A commit takes effect, and a writable epoch
//! begins, only when no server excluded since the last writable epoch can answer a read any more.
//! Replicas that should be equal and are not are for a human: nothing is guessed.

use std::collections::BTreeMap;

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
    joining.dedup();
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
