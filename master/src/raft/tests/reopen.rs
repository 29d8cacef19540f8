//! What was acknowledged is there when the database is opened again, whatever was done to it.

use std::collections::BTreeMap;

use openraft::{
    RaftLogReader,
    entry::RaftEntry,
    storage::{RaftLogStorage, RaftLogStorageExt},
};
use proptest::prelude::*;

use super::grant;
use crate::raft::{
    database::Database,
    format::SnapshotJson,
    log_store::LogStore,
    storage_thread::Storage,
    type_config::{Entry, LeaderId, LogId, NodeId, Payload, SnapshotMeta, Vote},
};

#[derive(Clone, Debug)]
enum Operation {
    /// So many entries, in a new term or not.
    Append(u8, bool),
    /// Keep so much of what there is, in 256ths.
    Truncate(u8),
    /// Purge so much of what there is, in 256ths.
    Purge(u8),
    Vote(bool),
    Committed,
    Snapshot,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (1..6_u8, any::<bool>()).prop_map(|(n, new)| Operation::Append(n, new)),
        2 => any::<u8>().prop_map(Operation::Truncate),
        2 => any::<u8>().prop_map(Operation::Purge),
        2 => any::<bool>().prop_map(Operation::Vote),
        1 => Just(Operation::Committed),
        1 => Just(Operation::Snapshot),
        1 => Just(Operation::Reopen),
    ]
}

/// What the store must say.
#[derive(Default)]
struct Model {
    term: u64,
    vote: Option<Vote>,
    purged: Option<LogId>,
    snapshot: Option<LogId>,
    log: BTreeMap<u64, Entry>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        let last = self.log.last_key_value();
        last.map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// The entry that lies `part` 256ths into the log.
    fn pick(&self, part: u8) -> Option<LogId> {
        let nth = self.log.len() * usize::from(part) / 256;
        self.log.values().nth(nth).map(|entry| entry.log_id)
    }

    fn entries(&mut self, count: u8, new_term: bool) -> Vec<Entry> {
        self.term += u64::from(new_term);
        let first = self.last().map_or(0, |last| last.index + 1);
        let entry = |n: u8| {
            let index = first + u64::from(n);
            let log_id = LogId::new_term_index(self.term, index);
            Entry::new(log_id, Payload::Normal(grant(index)))
        };
        (0..count).map(entry).collect()
    }
}

async fn perform(
    operation: &Operation,
    store: &mut LogStore,
    storage: &Storage,
    model: &mut Model,
) {
    match operation {
        Operation::Append(count, new_term) => {
            let entries = model.entries(*count, *new_term);
            store.blocking_append(entries.clone()).await.unwrap();
            let appended = entries.into_iter().map(|entry| (entry.log_id.index, entry));
            model.log.extend(appended);
        }
        Operation::Truncate(part) => {
            let last = model.pick(*part).or(model.purged);
            store.truncate_after(last).await.unwrap();
            model.log.retain(|index, _| last.is_some_and(|last| *index <= last.index));
        }
        Operation::Purge(part) => {
            let Some(upto) = model.pick(*part) else {
                return;
            };
            store.purge(upto).await.unwrap();
            model.log.retain(|index, _| *index > upto.index);
            model.purged = Some(upto);
        }
        Operation::Vote(committed) => {
            model.term += 1;
            let leader_id = LeaderId { term: model.term, voted_for: NodeId::from(model.term * 31) };
            let vote = Vote { leader_id, committed: *committed };
            store.save_vote(&vote).await.unwrap();
            model.vote = Some(vote);
        }
        Operation::Committed => store.save_committed(model.last()).await.unwrap(),
        Operation::Snapshot => {
            let meta = SnapshotMeta { last_log_id: model.last(), ..SnapshotMeta::default() };
            let snapshot = SnapshotJson::new(&meta, Default::default());
            storage.save_snapshot(snapshot).await.unwrap();
            // An older one does not take the place of a newer one.
            model.snapshot = model.snapshot.max(model.last());
        }
        Operation::Reopen => {}
    }
}

async fn check(store: &mut LogStore, storage: &Storage, model: &Model) {
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, model.purged);
    assert_eq!(state.last_log_id, model.last());
    assert_eq!(store.read_vote().await.unwrap(), model.vote);
    let entries = store.try_get_log_entries(..).await.unwrap();
    let expected: Vec<Entry> = model.log.values().cloned().collect();
    assert_eq!(entries, expected);
    let snapshot = storage.snapshot().await.unwrap();
    let at = snapshot.and_then(|(meta, _)| meta.last_log_id);
    assert_eq!(at, model.snapshot);
}

fn open(dir: &std::path::Path) -> (LogStore, Storage) {
    let mut database = Database::open(dir).unwrap();
    let contents = database.load().unwrap();
    let storage = Storage::spawn(database).unwrap();
    (LogStore::new(contents, storage.clone()), storage)
}

async fn run(operations: &[Operation]) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut storage) = open(dir.path());
    let mut model = Model::default();
    for operation in operations.iter().chain([&Operation::Reopen]) {
        perform(operation, &mut store, &storage, &mut model).await;
        if matches!(operation, Operation::Reopen) {
            let committed = store.read_committed().await.unwrap();
            storage.close().await;
            (store, storage) = open(dir.path());
            assert_eq!(store.read_committed().await.unwrap(), committed);
        }
        check(&mut store, &storage, &model).await;
    }
    storage.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_is_there_after_reopening(
        operations in prop::collection::vec(operation(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(&operations));
    }
}

#[tokio::test]
async fn the_node_of_a_database_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let node = Database::open(dir.path()).unwrap().node();
    assert_eq!(Database::open(dir.path()).unwrap().node(), node);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(Database::open(other.path()).unwrap().node(), node);
}
