//! The coordinator's part of a write: stamp it, send it, count who stored it, commit or abort, and
//! say so until every member has heard.

use dulse_shared::{
    id::{BatchPlace, NeedleKey, ServerId, Ts},
    wire::{Epoch, Standing, WriteId},
};

use super::{
    event::{Action, Answer, Batch, BatchAnswer, Client, Message, NewRecord, Stored},
    record::{Kind, Record, Versions},
    rules::Rule,
    state::{Fate, Origin, Own, Peers, State, Untold},
};

impl<V: Versions> State<V> {
    /// Stamps and appends a client's write, or refuses it before anything is stored.
    pub(super) fn write(
        &mut self,
        client: Client,
        write: &NewRecord,
        now_ns: u64,
        has_lease: bool,
        actions: &mut Vec<Action>,
    ) {
        let slot = match self.admit(write, has_lease) {
            Ok(slot) => slot,
            Err(answer) => return actions.push(Action::Answer { client, answer }),
        };
        let NewRecord { key, cookie, kind, len, content } = *write;
        let known = self.versions.newest(key).map_or(Ts(0), |newest| newest.ts);
        let floor = self.last_ts.max(known).max(self.ts_floor);
        let place = if self.unsynced.is_empty() { BatchPlace::First } else { BatchPlace::Later };
        let ts = Ts::next(now_ns, floor, slot, place);
        let record = Record { key, ts, cookie, kind, len, content };
        let placed = self.append(record, actions);
        let missing = self.view.all_peers();
        let own = Own { client, is_synced: false, missing, busy: Peers::NONE };
        self.pend(placed, Origin::Own(own));
        self.unsynced.push(key);
        if !missing.is_empty() {
            self.unsent.push(record);
        }
    }

    /// The slot to stamp with, if the write can be taken.
    fn admit(&self, write: &NewRecord, has_lease: bool) -> Result<u8, Answer> {
        let slot = self.view.slot.filter(|_| self.is_writable()).ok_or(Answer::ReadOnly)?;
        if self.pending_of(write.key).is_some() {
            return Err(Answer::Pending);
        }
        let newest = self.versions.newest(write.key);
        let is_live = newest.is_some_and(|newest| !newest.is_tombstone());
        if write.kind == Kind::Tombstone && !is_live {
            let is_known = has_lease || !self.rules.keep(Rule::ReadsNeedLease);
            return Err(if is_known { Answer::NothingToDelete } else { Answer::ReadOnly });
        }
        match newest {
            Some(newest) if newest.cookie != write.cookie => Err(Answer::WrongCookie),
            _ => Ok(slot),
        }
    }

    /// Sends what was appended to every other member, and syncs it meanwhile.
    pub(super) fn flush(&mut self, actions: &mut Vec<Action>) {
        if !self.unsent.is_empty() {
            let records = std::mem::take(&mut self.unsent);
            for to in self.view.peers.clone() {
                let batch = self.batch_to(to, records.clone());
                actions.push(Action::Send { to, message: Message::Batch(batch) });
            }
        }
        if !self.unsynced.is_empty() {
            actions.push(Action::Sync);
        }
    }

    fn batch_to(&self, to: ServerId, records: Vec<Record>) -> Batch {
        let to = self.view.peer(to);
        let untold = |is_commit| {
            let of_kind = self.untold.iter().filter(move |untold| untold.is_commit == is_commit);
            of_kind.filter(|untold| untold.to.has(to)).map(|untold| untold.id).collect()
        };
        Batch {
            epoch: self.view.epoch,
            highest: self.last_ts,
            commit: untold(true),
            abort: untold(false),
            records,
        }
    }

    /// What was appended is durable: own writes may be complete, peers' can be answered.
    pub(super) fn synced(&mut self, actions: &mut Vec<Action>) {
        let mut unsynced = std::mem::take(&mut self.unsynced);
        for key in unsynced.drain(..) {
            if let Some(Origin::Own(own)) = self.pending_mut(key).map(|found| &mut found.origin) {
                own.is_synced = true;
                self.commit_if_complete(key, actions);
            }
        }
        self.unsynced = unsynced;
        let replies = self.replies.drain(..);
        actions.extend(
            replies.map(|(to, answer)| Action::Send { to, message: Message::Answer(answer) }),
        );
    }

    fn commit_if_complete(&mut self, key: NeedleKey, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending_of(key) else { return };
        let Origin::Own(own) = pending.origin else { return };
        if !own.is_synced || !self.view.are_enough(own.missing, self.rules) {
            return;
        }
        let placed = pending.placed;
        let id = placed.record.id();
        self.resolve(&placed, Fate::Committed, actions);
        self.untold(id, true);
        actions.push(Action::Answer { client: own.client, answer: Answer::Done(id) });
    }

    fn abort(&mut self, key: NeedleKey, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending_of(key) else { return };
        let Origin::Own(own) = pending.origin else { return };
        let placed = pending.placed;
        self.resolve(&placed, Fate::Aborted, actions);
        self.untold(placed.record.id(), false);
        actions.push(Action::Answer { client: own.client, answer: Answer::Unknown });
    }

    fn untold(&mut self, id: WriteId, is_commit: bool) {
        let to = self.view.all_peers();
        if !to.is_empty() {
            self.untold.push(Untold { id, is_commit, to });
        }
    }

    /// A member's answer to a batch.
    pub(super) fn stored(
        &mut self,
        from: ServerId,
        answer: &BatchAnswer,
        actions: &mut Vec<Action>,
    ) {
        self.saw(answer.highest);
        let is_ours = answer.epoch == self.view.epoch
            || !self.rules.keep(Rule::FenceStopsResolving)
            || !self.rules.keep(Rule::EpochIsChecked);
        if !is_ours {
            return;
        }
        if answer.is_refused {
            return self.unanswered(from, actions);
        }
        let peer = self.view.peer(from);
        for untold in self.untold.iter_mut().filter(|told| answer.told.contains(&told.id)) {
            untold.to = untold.to.without(peer);
        }
        self.untold.retain(|untold| !untold.to.is_empty());
        for (id, stored) in &answer.stored {
            self.count(peer, *id, *stored, actions);
        }
    }

    fn count(&mut self, peer: Peers, id: WriteId, stored: Stored, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending_mut(id.key) else { return };
        let is_same = pending.placed.record.ts == id.ts;
        let Origin::Own(own) = &mut pending.origin else { return };
        if !is_same {
            return;
        }
        match stored {
            Stored::Synced => {
                own.missing = own.missing.without(peer);
                own.busy = own.busy.without(peer);
                self.commit_if_complete(id.key, actions);
            }
            Stored::Busy => own.busy = own.busy.with(peer),
            Stored::Refused(lost_to) => {
                self.saw(lost_to);
                self.abort(id.key, actions);
            }
        }
    }

    /// A member did not store in time what waits for it: all of that is aborted and the leader
    /// hears of it.
    pub(super) fn unanswered(&mut self, by: ServerId, actions: &mut Vec<Action>) {
        let peer = self.view.peer(by);
        let waits = |origin: &Origin| matches!(origin, Origin::Own(own) if own.missing.has(peer));
        let waiting = self.pending.iter().filter(|pending| waits(&pending.origin));
        let keys: Vec<NeedleKey> = waiting.map(|pending| pending.placed.record.key).collect();
        for key in &keys {
            self.abort(*key, actions);
        }
        if !keys.is_empty() {
            actions.push(Action::Report(by));
        }
    }

    /// Sends a record again to the members that were busy with an older one.
    pub(super) fn retry(&mut self, key: NeedleKey, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending_mut(key) else { return };
        let record = pending.placed.record;
        let Origin::Own(own) = &mut pending.origin else { return };
        let busy = std::mem::take(&mut own.busy);
        for to in self.view.peers.clone() {
            if busy.has(self.view.peer(to)) {
                let message = Message::Batch(self.batch_to(to, vec![record]));
                actions.push(Action::Send { to, message });
            }
        }
    }

    /// Tells every member the outcomes that it has not confirmed.
    pub(super) fn tell(&self, actions: &mut Vec<Action>) {
        for to in &self.view.peers {
            let batch = self.batch_to(*to, Vec::new());
            if !batch.commit.is_empty() || !batch.abort.is_empty() {
                actions.push(Action::Send { to: *to, message: Message::Batch(batch) });
            }
        }
    }

    /// A member asks for the outcome of a write that this replica coordinated. One that has run
    /// since the epoch began knows it: what is neither under way nor in effect was aborted. One
    /// that was restarted does not, and says nothing.
    pub(super) fn asked(
        &mut self,
        from: ServerId,
        epoch: Epoch,
        id: WriteId,
        actions: &mut Vec<Action>,
    ) {
        let is_under_way =
            self.pending_of(id.key).is_some_and(|pending| pending.placed.record.ts == id.ts);
        if epoch != self.view.epoch || self.standing != Standing::Running || is_under_way {
            return;
        }
        if !self.view.is_writable {
            return;
        }
        let is_commit = self.versions.newest(id.key).is_some_and(|newest| newest.ts == id.ts);
        let told = self.untold.iter().find(|untold| untold.id == id);
        let is_commit = told.map_or(is_commit, |untold| untold.is_commit);
        let (commit, abort) = if is_commit { (vec![id], vec![]) } else { (vec![], vec![id]) };
        let (epoch, highest) = (self.view.epoch, self.last_ts);
        let batch = Batch { epoch, highest, commit, abort, records: Vec::new() };
        actions.push(Action::Send { to: from, message: Message::Batch(batch) });
    }

    /// Stops waiting for anything: outcomes are for a decision now, and clients are told so.
    pub(super) fn abandon(&mut self, actions: &mut Vec<Action>) {
        let stops = self.rules.keep(Rule::FenceStopsResolving);
        for pending in &mut self.pending {
            if let Origin::Own(Own { client, .. }) = pending.origin {
                if !stops {
                    continue;
                }
                actions.push(Action::Answer { client, answer: Answer::Unknown });
            }
            pending.origin = Origin::Sealed;
        }
        self.unsent.clear();
        self.unsynced.clear();
        self.replies.clear();
        self.untold.clear();
    }
}
