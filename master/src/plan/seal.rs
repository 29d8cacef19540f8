//! Who is sealed out of a volume, and with whom it goes on.
//!
//! A member goes when it cannot be reached or was restarted. Those that kept running since the
//! volume was last writable stay, because only they are known to have everything that was
//! acknowledged; if none is left, those that were restarted do together. Once the outcomes of the
//! last writable epoch were decided, only servers that hold the decision can stay. When nobody
//! can, nothing changes and the volume waits.

use std::collections::BTreeMap;

use dulse_shared::{
    id::ServerId,
    wire::{Epoch, Holding, Incarnation, Sealed, Standing, VolumeConfig, VolumeState},
};

use super::rules::{Rule, Rules};
use crate::cluster_state::Seal;

/// What the leader knows about a volume: what was agreed, and what it heard since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeView {
    /// The configuration.
    pub config: VolumeConfig,
    /// Every server that it heard from.
    pub servers: BTreeMap<ServerId, ServerView>,
}

/// What the leader knows about one server and its replica of the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerView {
    /// This run of it.
    pub incarnation: Incarnation,
    /// Whether it can be reached.
    pub is_present: bool,
    /// Whether it may still hold a lease.
    pub may_have_lease: bool,
    /// What it answered last to a sealed configuration.
    pub sealed: Option<Sealed>,
    /// What it holds of the writes that it was asked about in that epoch.
    pub holdings: Vec<Holding>,
}

impl ServerView {
    /// Its answer to the configuration of `epoch`, if it was given by the run that goes on.
    pub fn answer(&self, epoch: Epoch) -> Option<&Sealed> {
        let answer = self.sealed.as_ref()?;
        (answer.epoch == epoch && answer.incarnation == self.incarnation).then_some(answer)
    }
}

/// Why a volume might be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// A server was lost or restarted; perhaps it is none of the volume's members.
    Lost,
    /// A write was not answered or an operator asks: although all members are there, what was
    /// being written is to be resolved.
    Asked,
}

/// The seal that is due, if one is.
pub fn plan_seal(view: &VolumeView, cause: Cause, rules: Rules) -> Option<Seal> {
    let config = &view.config;
    let members = survivors(view, rules);
    let known_as = match (&config.state, &config.last_writable) {
        (VolumeState::Writable, Some(last)) => &last.members,
        _ => &config.sealed_with,
    };
    let is_unchanged = is_same_set(&members, known_as) || is_alone(config, &members);
    let is_asked = cause == Cause::Asked && config.state == VolumeState::Writable;
    let is_due = !members.is_empty() && (!is_unchanged || is_asked);
    is_due.then_some(Seal { id: config.id, epoch: config.epoch, members })
}

/// Those the volume goes on with; nobody if all that could are away.
fn survivors(view: &VolumeView, rules: Rules) -> Vec<(ServerId, Incarnation)> {
    if view.config.decision.is_some() && rules.keep(Rule::DecisionIsFinal) {
        return holders(view);
    }
    let candidates: Vec<(ServerId, Incarnation)> =
        candidates(&view.config).iter().filter_map(|(server, _)| present(view, *server)).collect();
    if !rules.keep(Rule::ReturnedDoNotDecide) {
        return candidates;
    }
    let kept = |(server, incarnation): &&(ServerId, Incarnation)| {
        kept_running(&view.config, *server, *incarnation, rules)
    };
    let is_member = |(server, _): &&(ServerId, Incarnation)| {
        view.config.members.iter().any(|member| member.server == *server)
    };
    let kept: Vec<_> = candidates.iter().filter(kept).copied().collect();
    let members: Vec<_> = kept.iter().filter(is_member).copied().collect();
    [members, kept, candidates].into_iter().find(|some| !some.is_empty()).unwrap_or_default()
}

/// After a decision: those that took part in it, else those that adopted it, else those that took
/// part and were restarted since, whose disks hold what it speaks of.
fn holders(view: &VolumeView) -> Vec<(ServerId, Incarnation)> {
    let config = &view.config;
    let restarted: Vec<_> =
        config.sealed_with.iter().filter_map(|(server, _)| present(view, *server)).collect();
    let kept: Vec<_> =
        restarted.iter().filter(|member| config.sealed_with.contains(member)).copied().collect();
    let adopted: Vec<_> = candidates(config)
        .iter()
        .filter_map(|(server, _)| present(view, *server))
        .filter(|(server, _)| has_adopted(view, *server))
        .collect();
    [kept, adopted, restarted].into_iter().find(|some| !some.is_empty()).unwrap_or_default()
}

/// The members of the last writable epoch; of a volume that never was writable, its members.
fn candidates(config: &VolumeConfig) -> &[(ServerId, Incarnation)] {
    match &config.last_writable {
        Some(last) => &last.members,
        None => &config.sealed_with,
    }
}

fn present(view: &VolumeView, server: ServerId) -> Option<(ServerId, Incarnation)> {
    let known = view.servers.get(&server)?;
    let standing = known.sealed.as_ref().map(|answer| answer.standing);
    let is_usable = !matches!(standing, Some(Standing::Stale | Standing::Failed));
    (known.is_present && is_usable).then_some((server, known.incarnation))
}

fn has_adopted(view: &VolumeView, server: ServerId) -> bool {
    let config = &view.config;
    let answer = view.servers.get(&server).and_then(|known| known.answer(config.epoch));
    answer.is_some_and(|answer| answer.has_adopted && answer.unresolved.is_empty())
}

/// Whether a server runs as it did when the last writable epoch began.
pub(super) fn kept_running(
    config: &VolumeConfig,
    server: ServerId,
    incarnation: Incarnation,
    rules: Rules,
) -> bool {
    let last = config.last_writable.iter().flat_map(|last| &last.members);
    let mut last = last.filter(|(member, _)| *member == server);
    last.any(|(_, then)| *then == incarnation || !rules.keep(Rule::RestartedDoNotDecide))
}

/// The only member of a writable volume goes on at its epoch when it is restarted: nobody can have
/// written without it.
fn is_alone(config: &VolumeConfig, members: &[(ServerId, Incarnation)]) -> bool {
    let is_only = matches!(members, [(server, _)]
        if matches!(config.members.as_slice(), [only] if only.server == *server));
    config.state == VolumeState::Writable && is_only
}

fn is_same_set(a: &[(ServerId, Incarnation)], b: &[(ServerId, Incarnation)]) -> bool {
    a.len() == b.len() && a.iter().all(|member| b.contains(member))
}
