//! A member's part of another's write: hear outcomes, store what is new, answer once it is synced.

use dulse_shared::{
    id::{ServerId, Ts},
    wire::{Standing, WriteId},
};

use super::{
    event::{Action, Batch, BatchAnswer, Message, Stored},
    record::{Record, Versions},
    rules::Rule,
    state::{Fate, Origin, State},
};

impl<V: Versions> State<V> {
    /// A batch of another member: refused as a whole unless it is of this epoch, which is writable.
    pub(super) fn store(
        &mut self,
        from: ServerId,
        batch: Batch,
        has_room: bool,
        actions: &mut Vec<Action>,
    ) {
        self.saw(batch.highest);
        if batch.epoch == self.view.epoch || self.is_unchecked() {
            self.hear(&batch, actions);
        }
        let is_of_this_epoch = batch.epoch == self.view.epoch && self.is_writable();
        let is_unchecked =
            self.standing == Standing::Running && !self.rules.keep(Rule::EpochIsChecked);
        let is_refused = !(is_of_this_epoch || is_unchecked) || (!has_room && has_records(&batch));
        let mut answer = BatchAnswer {
            epoch: batch.epoch,
            highest: self.last_ts,
            stored: Vec::new(),
            told: Vec::new(),
            is_refused,
        };
        if !is_refused {
            let appended = self.store_all(from, &batch.records, &mut answer, actions);
            answer.told = [batch.commit, batch.abort].concat();
            if appended {
                self.replies.push((from, answer));
                return actions.push(Action::Sync);
            }
        }
        actions.push(Action::Send { to: from, message: Message::Answer(answer) });
    }

    fn is_unchecked(&self) -> bool {
        !self.rules.keep(Rule::EpochIsChecked) || !self.rules.keep(Rule::FenceStopsResolving)
    }

    fn hear(&mut self, batch: &Batch, actions: &mut Vec<Action>) {
        if self.standing != Standing::Running {
            return;
        }
        for id in &batch.commit {
            self.hear_outcome(*id, Fate::Committed, actions);
        }
        for id in &batch.abort {
            self.hear_outcome(*id, Fate::Aborted, actions);
        }
    }

    /// An outcome counts for a record that is pending here; for any other it is known or void.
    fn hear_outcome(&mut self, id: WriteId, fate: Fate, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending_of(id.key) else { return };
        let is_settled_elsewhere = matches!(pending.origin, Origin::Peer(_)) || self.is_unchecked();
        if pending.placed.record.ts == id.ts && is_settled_elsewhere {
            let placed = pending.placed;
            self.resolve(&placed, fate, actions);
        }
    }

    /// Appends what can be stored; whether anything was.
    fn store_all(
        &mut self,
        from: ServerId,
        records: &[Record],
        answer: &mut BatchAnswer,
        actions: &mut Vec<Action>,
    ) -> bool {
        let mut appended = false;
        for record in records {
            let stored = self.judge(record);
            if stored == Stored::Synced {
                let placed = self.append(*record, actions);
                self.pend(placed, Origin::Peer(from));
                appended = true;
            }
            answer.stored.push((record.id(), stored));
        }
        answer.highest = self.last_ts;
        appended
    }

    /// Whether a record can be stored. A refusal by cookie names the stamp of what is stored.
    fn judge(&self, record: &Record) -> Stored {
        let pending = self.pending_of(record.key).map(|pending| pending.placed.record.ts);
        let newest = self.versions.newest(record.key);
        let committed = newest.map(|newest| newest.ts);
        let floor = if self.rules.keep(Rule::FloorIsKept) { self.ts_floor } else { Ts(0) };
        let known = pending.max(committed).unwrap_or(Ts(0));
        let is_other_cookie = newest.is_some_and(|newest| newest.cookie != record.cookie);
        if known >= record.ts || floor >= record.ts || is_other_cookie {
            return Stored::Refused(known.max(floor));
        }
        if pending.is_some() { Stored::Busy } else { Stored::Synced }
    }
}

const fn has_records(batch: &Batch) -> bool {
    !batch.records.is_empty()
}
