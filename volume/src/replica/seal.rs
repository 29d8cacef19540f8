//! Accepting a configuration: the fence, and what it ends and allows.
//!
//! Fence → refuse → report: once the fence is on the disk nothing of a lower epoch is taken, and
//! only then is the leader told what is here. Outcomes come with the decision. A replica counts
//! as running when a configuration names it with the run it is in: as a member of a writable
//! epoch, or as one of those that decided.

use dulse_shared::{
    id::{NeedleKey, Ts},
    wire::{
        Decision, Epoch, Held, Holding, Sealed, Standing, Unresolved, VolumeConfig, VolumeState,
        WriteId,
    },
};

use super::{
    event::{Action, KeyState},
    record::{Placed, Versions},
    rules::Rule,
    state::{Fate, State, View},
};

impl<V: Versions> State<V> {
    /// A configuration of the leader. One that was accepted before is answered again.
    pub(super) fn configure(&mut self, config: &VolumeConfig, actions: &mut Vec<Action>) {
        if config.epoch > self.view.epoch && self.standing != Standing::Failed {
            self.accept(config, actions);
        }
        if config.epoch == self.view.epoch {
            self.go_on_alone();
            actions.push(Action::Fenced(self.sealed()));
        }
    }

    /// The only member of a writable volume goes on at its epoch once that is known to be the
    /// present one.
    fn go_on_alone(&mut self) {
        let is_alone =
            self.view.is_writable && self.view.slot.is_some() && self.view.peers.is_empty();
        if is_alone && self.standing == Standing::Returned && self.tail.is_empty() {
            self.standing = Standing::Running;
        }
    }

    fn accept(&mut self, config: &VolumeConfig, actions: &mut Vec<Action>) {
        let fence_before = self.view.epoch;
        self.abandon(actions);
        self.view = View::new(config, self.server);
        let is_writable = config.state == VolumeState::Writable;
        if self.standing != Standing::Stale {
            self.standing = self.standing_in(config, fence_before);
        }
        self.has_adopted &= !is_writable;
        if self.standing == Standing::Running && self.view.slot.is_some() {
            if let Some(decision) = &config.decision {
                self.apply(decision, actions);
            }
            // A decision names everything that is without outcome on the disks of those that it
            // counts on. Should one not, this copy cannot be judged here: it has to adopt.
            let is_resolved_elsewhere = config.decision.is_some() || is_writable;
            if is_resolved_elsewhere && !self.tail.is_empty() {
                self.standing = Standing::Returned;
            }
        }
        if is_writable {
            self.reconciled.clear();
        }
        actions.push(Action::Sync);
        if self.rules.keep(Rule::FenceIsDurable) {
            actions.push(Action::WriteSidecar(self.durable()));
        }
    }

    /// What the replica is from now on.
    fn standing_in(&self, config: &VolumeConfig, fence_before: Epoch) -> Standing {
        let own_run = (self.server, self.incarnation);
        let counts = match (&config.state, &config.last_writable) {
            (VolumeState::Writable, Some(last)) => last.members.contains(&own_run),
            _ => config.decision.is_some() && config.sealed_with.contains(&own_run),
        };
        let is_member = self.view.slot.is_some();
        if counts {
            return Standing::Running;
        }
        if !is_member && self.was_left_behind(config, fence_before) {
            return Standing::Stale;
        }
        // A writable epoch that names another run of this server speaks of one that is gone.
        let goes_on = self.standing == Standing::Running && is_member && !self.view.is_writable;
        if goes_on { Standing::Running } else { Standing::Returned }
    }

    /// Whether the volume was writable without this copy. One that made the epoch before the last
    /// writable one durable and is a member of that was equal to the others when it began, and
    /// nothing can have been committed in it that is not here.
    fn was_left_behind(&self, config: &VolumeConfig, fence_before: Epoch) -> bool {
        let Some(last) = &config.last_writable else { return false };
        let was_member = last.members.iter().any(|(member, _)| *member == self.server);
        !was_member || fence_before.0.saturating_add(1) < last.epoch.0
    }

    /// Gives every record that the decision names its outcome.
    fn apply(&mut self, decision: &Decision, actions: &mut Vec<Action>) {
        for placed in self.without_outcome() {
            if decision.commit.contains(&placed.record.id()) {
                self.resolve(&placed, Fate::Committed, actions);
            } else if decision.abort.contains(&placed.record.id()) {
                self.resolve(&placed, Fate::Aborted, actions);
            }
        }
        self.reconciled = decision.commit.iter().chain(&decision.abort).copied().collect();
    }

    pub(super) fn without_outcome(&self) -> Vec<Placed> {
        let pending = self.tail.iter().filter(|entry| entry.fate == Fate::Pending);
        pending.map(|entry| entry.placed).collect()
    }

    /// The answer to the configuration: what is here, and what has no outcome on this disk.
    pub fn sealed(&self) -> Sealed {
        Sealed {
            epoch: self.view.epoch,
            incarnation: self.incarnation,
            standing: self.standing,
            has_adopted: self.has_adopted,
            unresolved: self.unresolved(),
            digest: self.digest,
        }
    }

    fn unresolved(&self) -> Vec<Unresolved> {
        self.tail.iter().map(|entry| entry.placed.record.unresolved()).collect()
    }

    /// What is held of writes that some replica listed.
    pub fn holding(&self, ids: &[WriteId]) -> Vec<Holding> {
        let holding = |id: &WriteId| {
            let newest = self.versions.newest(id.key);
            let newest = newest.map(|newest| (newest.ts, newest.part()));
            Holding { id: *id, held: self.held(*id, newest.map(|(ts, _)| ts)), newest }
        };
        ids.iter().map(holding).collect()
    }

    fn held(&self, id: WriteId, newest: Option<Ts>) -> Held {
        let mut of_key = self.tail.iter().filter(|entry| entry.placed.record.key == id.key);
        if let Some(entry) = of_key.clone().find(|entry| entry.placed.record.ts == id.ts) {
            return match entry.fate {
                Fate::Pending => Held::Pending,
                Fate::Committed => Held::Committed,
                Fate::Aborted if self.rules.keep(Rule::AbortedIsMissing) => Held::Aborted,
                Fate::Aborted => Held::Pending,
            };
        }
        if newest == Some(id.ts) {
            return Held::Committed;
        }
        let is_older_pending =
            of_key.any(|entry| entry.fate == Fate::Pending && entry.placed.record.ts < id.ts);
        let is_older_here = newest.is_some_and(|newest| newest < id.ts) || is_older_pending;
        let are_bytes_here = !self.aborted.is_empty() && !self.rules.keep(Rule::AbortedIsMissing);
        match (are_bytes_here, is_older_here) {
            (true, _) => Held::Pending,
            (false, true) => Held::Missing,
            (false, false) => Held::Traceless,
        }
    }

    /// The keys whose state a replica that comes back has to take over, as far as it knows.
    pub fn unresolved_keys(&self) -> Vec<NeedleKey> {
        let mut keys: Vec<NeedleKey> =
            self.tail.iter().map(|entry| entry.placed.record.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The present state of `asked` keys and of those that the decision resolved, for a replica
    /// that comes back; none while this one is not fit to say.
    pub fn key_states(&self, asked: &[NeedleKey]) -> Option<Vec<KeyState>> {
        let is_fit = self.standing == Standing::Running && self.without_outcome().is_empty();
        let decided = self.reconciled.iter().map(|id| id.key);
        let mut keys: Vec<NeedleKey> = asked.iter().copied().chain(decided).collect();
        keys.sort_unstable();
        keys.dedup();
        let state = |key: NeedleKey| KeyState { key, newest: self.versions.newest(key) };
        is_fit.then(|| keys.into_iter().map(state).collect())
    }
}
