//! Coming back: taking over the state of every key that was unresolved here or there.
//!
//! By key and not by record: the replica it comes from may have gone on, or may have lost a
//! tombstone to a vacuum. What is on this disk and is not that state is aborted or overwritten.
//! Also here: a vacuum's swap, which likewise replaces what the file says.

use dulse_shared::{
    id::Ts,
    wire::{Epoch, Standing},
};

use super::{
    event::{Action, KeyState},
    record::{Kind, Record, Units, Versions},
    rules::Rule,
    state::{Fate, FileFacts, State},
};

/// Length of a tombstone: header, checksum, stamp, padding.
const TOMBSTONE_UNITS: Units = Units(4);

impl<V: Versions> State<V> {
    /// Takes over the state of keys from a replica that holds the decision of the same epoch.
    pub(super) fn adopt(&mut self, epoch: Epoch, states: &[KeyState], actions: &mut Vec<Action>) {
        if epoch != self.view.epoch || self.standing != Standing::Returned {
            return;
        }
        let newest_of = |record: &Record| {
            states.iter().find(|state| state.key == record.key).map(|state| state.newest)
        };
        for placed in self.without_outcome() {
            let Some(newest) = newest_of(&placed.record) else { continue };
            let is_newest = newest.is_some_and(|newest| newest.ts == placed.record.ts);
            let fate = if is_newest { Fate::Committed } else { Fate::Aborted };
            self.resolve(&placed, fate, actions);
        }
        if self.rules.keep(Rule::AdoptionIsByKey) {
            for state in states {
                self.take_over(state, actions);
            }
        }
        self.has_adopted = self.tail.is_empty();
        self.reconciled.clear();
        actions.push(Action::Sync);
        actions.push(Action::WriteSidecar(self.durable()));
        actions.push(Action::Fenced(self.sealed()));
    }

    /// The needle, or a tombstone where there is none. A tombstone takes the stamp of what it
    /// deletes: of two records with one stamp the later in the file counts.
    fn take_over(&mut self, state: &KeyState, actions: &mut Vec<Action>) {
        let here = self.versions.newest(state.key);
        let record = match (state.newest, here) {
            (Some(there), Some(here)) if there.ts <= here.ts => return,
            (Some(there), _) => there,
            (None, Some(here)) if !here.is_tombstone() => {
                Record { kind: Kind::Tombstone, len: TOMBSTONE_UNITS, content: 0, ..here }
            }
            (None, _) => return,
        };
        let placed = self.append(record, actions);
        self.resolve(&placed, Fate::Committed, actions);
    }

    /// Whether a compacted file may take the place of the present one now.
    pub fn can_swap(&self) -> bool {
        self.tail.is_empty() && self.unsynced.is_empty()
    }

    /// The sidecar speaks of both files before the names change.
    pub(super) fn swapping(&self, next: FileFacts, actions: &mut Vec<Action>) {
        let mut durable = self.durable();
        durable.next = Some(next);
        actions.push(Action::WriteSidecar(durable));
    }

    /// The names changed. Records not above the highest dropped tombstone are late from now on.
    pub(super) fn swapped(&mut self, file: FileFacts, dropped: Ts, actions: &mut Vec<Action>) {
        self.ts_floor = self.ts_floor.max(dropped);
        self.generation = file.generation;
        self.end = file.resolved;
        self.aborted = file.aborted;
        actions.push(Action::WriteSidecar(self.durable()));
    }
}
