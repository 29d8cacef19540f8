//! One step of a replica: an event comes in, actions go out.
//!
//! The rules, in short:
//! - A write is stored by every member before it is committed; its coordinator, the member that a
//!   client sent it to, commits or aborts it and tells the others. With no other member it is
//!   committed as soon as it is synced.
//! - A member stores only what was sent in the epoch of its fence, and of a key only what is newer
//!   than all it knows. It answers no read of a key while a newer version is pending.
//! - A higher epoch ends everything that was under way. What has no outcome then gets it from the
//!   decision, which comes with a configuration, and from nowhere else.
//! - A replica that was restarted or left out is not read, not written and not asked until a
//!   decision counted it in by name and run, or it took over the state of one that was.
//!
//! What may be read is answered by [`State::read`]; what a sealed replica holds by
//! [`State::sealed`], [`State::holding`] and [`State::key_states`]. None of them changes anything.
//! Waiting, clocks and deadlines are the shell's: every time limit arrives as an event.

use dulse_shared::wire::Standing;

use super::{
    event::{Action, Event, Message},
    record::Versions,
    state::State,
};

/// Takes one event and appends to `actions` what is to be done about it, in order.
pub fn step<V: Versions>(state: &mut State<V>, event: Event, actions: &mut Vec<Action>) {
    match event {
        Event::Write { client, write, now_ns, has_lease } => {
            state.write(client, &write, now_ns, has_lease, actions);
        }
        Event::Flush => state.flush(actions),
        Event::Synced => state.synced(actions),
        Event::DiskFailed => state.fail(actions),
        Event::Saw(ts) => state.saw(ts),
        Event::Received { from, message, has_room } => match message {
            Message::Batch(batch) => state.store(from, batch, has_room, actions),
            Message::Answer(answer) => state.stored(from, &answer, actions),
            Message::Ask { epoch, id } => state.asked(from, epoch, id, actions),
        },
        Event::Unanswered { by } => state.unanswered(by, actions),
        Event::Retry(key) => state.retry(key, actions),
        Event::Tell => state.tell(actions),
        Event::Configured(config) => state.configure(&config, actions),
        Event::Adopt { epoch, states } => state.adopt(epoch, &states, actions),
        Event::Swapping(next) => state.swapping(next, actions),
        Event::Swapped { file, dropped } => state.swapped(file, dropped, actions),
        Event::Checkpoint => actions.push(Action::WriteSidecar(state.durable())),
    }
}

impl<V: Versions> State<V> {
    /// The end of a replica whose disk failed: its writes have no outcome that it could know.
    fn fail(&mut self, actions: &mut Vec<Action>) {
        self.standing = Standing::Failed;
        self.abandon(actions);
        actions.push(Action::Report(self.server));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dulse_shared::{
        id::{
            BatchPlace, Collection, Cookie, Digest, NeedleKey, ReplicaPlacement, ServerId, Ts, Ttl,
            VolumeId,
        },
        wire::{
            DiskType, Epoch, Incarnation, LastWritable, Member, VolumeConfig, VolumeState, WriteId,
        },
    };

    use super::*;
    use crate::{
        format::Offset,
        replica::{
            Answer, Batch, BatchAnswer, Client, Durable, FileFacts, Files, Identity, Kind,
            NewRecord, Placed, Read, Record, Rules, Stored, Units, recover,
        },
    };

    #[derive(Debug, Default)]
    struct Table(BTreeMap<NeedleKey, Record>);

    impl Versions for Table {
        fn newest(&self, key: NeedleKey) -> Option<Record> {
            self.0.get(&key).copied()
        }
        fn publish(&mut self, placed: &Placed) {
            self.0.insert(placed.record.key, placed.record);
        }
    }

    fn server(number: u128) -> ServerId {
        ServerId::from_u128(number)
    }

    fn config(members: &[u128], epoch: u64) -> VolumeConfig {
        let runs = members.iter().map(|number| (server(*number), Incarnation(1)));
        let slots = members.iter().zip(0..);
        VolumeConfig {
            id: VolumeId::new(1).unwrap(),
            collection: Collection::default(),
            placement: ReplicaPlacement::default(),
            ttl: Ttl::NONE,
            disk: DiskType::default(),
            closed: false,
            epoch: Epoch(epoch),
            members: slots.map(|(m, slot)| Member { server: server(*m), slot }).collect(),
            state: VolumeState::Writable,
            last_writable: Some(LastWritable { epoch: Epoch(epoch), members: runs.collect() }),
            sealed_with: Vec::new(),
            decision: None,
            next_slot: 0,
        }
    }

    /// Server 1's replica of a new volume.
    fn replica(members: &[u128]) -> State<Table> {
        let mut before = config(&[], 0);
        before.last_writable = None;
        let file = FileFacts { generation: 0, resolved: Offset::ZERO, aborted: Vec::new() };
        let durable =
            Durable { fence: Epoch(0), is_stale: false, reconciled: Vec::new(), file, next: None };
        let files = Files {
            durable: &durable,
            config: &before,
            generation: 0,
            digest: Digest::EMPTY,
            highest: Ts(0),
        };
        let identity = Identity { server: server(1), incarnation: Incarnation(1) };
        let mut state = recover(Rules::all(), identity, files, [], Table::default());
        stepped(&mut state, Event::Configured(Box::new(config(members, 1))));
        state
    }

    fn stepped(state: &mut State<Table>, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        step(state, event, &mut actions);
        actions
    }

    fn key() -> NeedleKey {
        NeedleKey::new(1).unwrap()
    }

    fn write(kind: Kind) -> Event {
        let write = NewRecord { key: key(), cookie: Cookie(7), kind, len: Units(5), content: 3 };
        Event::Write { client: Client(9), write, now_ns: 1000, has_lease: true }
    }

    fn record(ts: u64) -> Record {
        let (cookie, kind, len) = (Cookie(7), Kind::Needle, Units(5));
        Record { key: key(), ts: Ts(ts), cookie, kind, len, content: 3 }
    }

    fn batch(records: Vec<Record>, commit: Vec<WriteId>) -> Event {
        let (epoch, highest, abort) = (Epoch(1), Ts(0), Vec::new());
        let message = Message::Batch(Batch { epoch, highest, commit, abort, records });
        Event::Received { from: server(2), message, has_room: true }
    }

    fn answer(actions: &[Action]) -> BatchAnswer {
        match actions {
            [.., Action::Send { message: Message::Answer(answer), .. }] => answer.clone(),
            other => panic!("no answer in {other:?}"),
        }
    }

    #[test]
    fn with_one_member_a_write_is_append_sync_commit_answer() {
        let mut state = replica(&[1]);
        let ts = Ts::next(1000, Ts(0), 0, BatchPlace::First);
        let placed = Placed { record: record(ts.0), at: Offset::ZERO };
        assert_eq!(stepped(&mut state, write(Kind::Needle)), [Action::Append(placed)]);
        assert_eq!(
            state.read(key(), true),
            Read::Wait { id: placed.record.id(), coordinator: None }
        );
        assert_eq!(stepped(&mut state, Event::Flush), [Action::Sync]);
        let done = Action::Answer { client: Client(9), answer: Answer::Done(placed.record.id()) };
        assert_eq!(stepped(&mut state, Event::Synced), [Action::Resolved(key()), done]);
        assert_eq!(state.read(key(), true), Read::Version(placed.record));
        assert_eq!(state.digest(), placed.record.part());
        assert_eq!(state.durable().file.resolved, placed.end());
    }

    #[test]
    fn a_read_without_lease_and_a_delete_of_nothing_say_nothing() {
        let mut state = replica(&[1]);
        assert_eq!(state.read(key(), false), Read::Unavailable);
        assert_eq!(state.read(key(), true), Read::Nothing);
        let nothing = Action::Answer { client: Client(9), answer: Answer::NothingToDelete };
        assert_eq!(stepped(&mut state, write(Kind::Tombstone)), [nothing]);
    }

    #[test]
    fn a_member_refuses_what_is_older_and_waits_with_what_is_newer_than_the_pending_one() {
        let mut state = replica(&[1, 2]);
        let appended = stepped(&mut state, batch(vec![record(512)], Vec::new()));
        assert!(matches!(appended[..], [Action::Append(_), Action::Sync]));
        assert_eq!(answer(&stepped(&mut state, Event::Synced)).stored[0].1, Stored::Synced);
        let older = answer(&stepped(&mut state, batch(vec![record(256)], Vec::new())));
        assert_eq!(older.stored[0].1, Stored::Refused(Ts(512)), "with what it lost to");
        let newer = answer(&stepped(&mut state, batch(vec![record(768)], Vec::new())));
        assert_eq!(newer.stored[0].1, Stored::Busy);
        let commit = vec![record(512).id()];
        let both = stepped(&mut state, batch(vec![record(768)], commit));
        assert!(both.contains(&Action::Resolved(key())) && both.contains(&Action::Sync));
    }

    #[test]
    fn a_cookie_that_differs_is_refused_everywhere() {
        let mut state = replica(&[1, 2]);
        stepped(&mut state, batch(vec![record(512)], Vec::new()));
        stepped(&mut state, Event::Synced);
        stepped(&mut state, batch(Vec::new(), vec![record(512).id()]));
        let other = Record { cookie: Cookie(8), ..record(768) };
        let refused = answer(&stepped(&mut state, batch(vec![other], Vec::new())));
        assert_eq!(refused.stored[0].1, Stored::Refused(Ts(512)));
    }

    #[test]
    fn a_full_member_refuses_records_and_hears_outcomes() {
        let mut state = replica(&[1, 2]);
        let message = |event| match event {
            Event::Received { from, message, .. } => {
                Event::Received { from, message, has_room: false }
            }
            other => other,
        };
        let refused = stepped(&mut state, message(batch(vec![record(512)], Vec::new())));
        assert!(answer(&refused).is_refused);
        let heard = stepped(&mut state, message(batch(Vec::new(), vec![record(512).id()])));
        assert!(!answer(&heard).is_refused);
    }

    #[test]
    fn a_failed_disk_ends_everything_and_says_so() {
        let mut state = replica(&[1]);
        stepped(&mut state, write(Kind::Needle));
        let unknown = Action::Answer { client: Client(9), answer: Answer::Unknown };
        let actions = stepped(&mut state, Event::DiskFailed);
        assert_eq!(actions, [unknown, Action::Report(server(1))]);
        assert_eq!(state.read(key(), true), Read::Unavailable);
    }

    #[test]
    fn a_coordinator_that_was_not_restarted_knows_what_it_aborted() {
        let mut state = replica(&[1, 2]);
        let ask = |id| {
            let message = Message::Ask { epoch: Epoch(1), id };
            Event::Received { from: server(2), message, has_room: true }
        };
        stepped(&mut state, write(Kind::Needle));
        let id = record(Ts::next(1000, Ts(0), 0, BatchPlace::First).0).id();
        assert_eq!(stepped(&mut state, ask(id)), [], "under way");
        stepped(&mut state, Event::Flush);
        stepped(&mut state, Event::Synced);
        stepped(&mut state, Event::Unanswered { by: server(2) });
        let told = stepped(&mut state, ask(id));
        let [Action::Send { message: Message::Batch(batch), .. }] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((&batch.commit, &batch.abort), (&vec![], &vec![id]));
    }
}
