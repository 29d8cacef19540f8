//! What the storage thread acknowledged survives power cuts, whoever waited for it and in which batch.
//!
//! Changes are sent as Raft sends them, several at a time. How the thread makes batches of them is
//! a matter of timing, so a seed here need not replay; that a batch is kept whole is tested on
//! the database alone. After a cut the database has to hold the changes in the order in which they
//! were sent, up to some point: the last acknowledged one or a later one. How far entries are
//! committed travels apart, with any of the writes after it.

use std::io;

use futures_util::{FutureExt, future::BoxFuture};
use openraft::{
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    power_cuts::open,
    simulated_file::{Operation, SimulatedFile},
    storage_model::{Changes, Kept},
};
use crate::raft::{
    database::Change,
    log_store::LogStore,
    storage_thread::Storage,
    type_config::{LogId, TypeConfig},
};

const SEEDS: u64 = 80;
const STARTS: usize = 8;

/// Whether a change was acknowledged; `None` if nobody is told.
type Answer = Option<io::Result<()>>;

/// Sends `change` when it is first polled.
fn send(change: Change, store: &LogStore, storage: &Storage) -> BoxFuture<'static, Answer> {
    let (mut store, storage) = (store.clone(), storage.clone());
    let answer = async move {
        match change {
            Change::Append(entries) => {
                let (flushed, is_flushed) = TypeConfig::oneshot();
                let sent = store.append(entries, IOFlushed::signal(flushed)).await;
                Some(match sent {
                    Ok(()) => is_flushed.await.unwrap_or_else(|_| Err(io::Error::other("gone"))),
                    Err(error) => Err(error),
                })
            }
            Change::Truncate(last) => {
                let last = last.map(|index| LogId::new_term_index(0, index));
                Some(store.truncate_after(last).await)
            }
            Change::Vote(vote) => Some(store.save_vote(&vote).await),
            Change::Snapshot(snapshot) => Some(storage.save_snapshot(*snapshot).await),
            Change::Purge(upto) => store.purge(upto).await.err().map(Err),
            Change::Committed(at) => store.save_committed(at).await.err().map(Err),
        }
    };
    answer.boxed()
}

struct Life {
    seed: u64,
    random: SmallRng,
    file: SimulatedFile,
    changes: Changes,
    /// What was there after the last acknowledged change, and after each that was sent since.
    possible: Vec<Kept>,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: SmallRng::seed_from_u64(seed),
            file: SimulatedFile::new(!seed),
            changes: Changes::new(seed.rotate_left(32)),
            possible: vec![Kept::default()],
        }
    }

    async fn live(&mut self) {
        for _ in 0..STARTS {
            let (store, storage) = self.open();
            let nth = self.random.random_range(0..80);
            match self.random.random_range(0..6) {
                0 => self.file.fail(Operation::Sync, nth / 6),
                1 => self.file.fail(Operation::Write, nth),
                _ => self.file.cut_after(nth),
            }
            let failed = self.send_until_it_fails(&store, &storage).await;
            self.end(failed, storage).await;
        }
        drop(self.open());
    }

    /// Opens the database and compares it.
    fn open(&mut self) -> (LogStore, Storage) {
        let mut database = open(&self.file).unwrap();
        let contents = database.load().unwrap();
        let found = Kept::from(contents.clone());
        let seed = self.seed;
        assert!(!found.has_hole(), "seed {seed}: a hole in {found:?}");
        let possible = &self.possible;
        let is_noted = possible.iter().any(|kept| kept.committed == found.committed);
        assert!(is_noted, "seed {seed}: committed up to {:?}", found.committed);
        let is_same = |kept: &Kept| Kept { committed: found.committed, ..kept.clone() } == found;
        assert!(possible.iter().any(is_same), "seed {seed}: {found:?} is none of {possible:?}");
        self.possible = vec![found];
        let storage = Storage::spawn(database).unwrap();
        (LogStore::new(contents, storage.clone()), storage)
    }

    /// Sends changes until one fails; whether one did.
    async fn send_until_it_fails(&mut self, store: &LogStore, storage: &Storage) -> bool {
        for _ in 0..12 {
            let latest = self.possible.last().unwrap();
            let (changes, _) = self.changes.some(latest);
            let first = self.possible.len();
            for change in &changes {
                let mut after = self.possible.last().unwrap().clone();
                after.apply(change);
                self.possible.push(after);
            }
            let sent = changes.into_iter().map(|change| send(change, store, storage));
            let answers = futures_util::future::join_all(sent).await;
            if self.learn(first, &answers) {
                return true;
            }
        }
        false
    }

    /// Forgets what cannot be any more; whether a change failed.
    fn learn(&mut self, first: usize, answers: &[Answer]) -> bool {
        let failed = answers.iter().position(|answer| matches!(answer, Some(Err(_))));
        let acknowledged = answers.iter().rposition(|answer| matches!(answer, Some(Ok(()))));
        if let (Some(failed), Some(acknowledged)) = (failed, acknowledged) {
            assert!(acknowledged < failed, "seed {}: acknowledged after a failure", self.seed);
        }
        if let Some(acknowledged) = acknowledged {
            self.possible.drain(..first + acknowledged);
        }
        failed.is_some()
    }

    async fn end(&mut self, failed: bool, storage: Storage) {
        if failed {
            let refused = storage.save_vote(Changes::new(0).vote()).await;
            assert!(refused.is_err(), "seed {}: acknowledged after a failure", self.seed);
        } else if self.random.random_bool(0.3) {
            self.close(&storage).await;
        }
        self.file.power_cut();
    }

    /// Closes in an orderly way, after which everything that was sent is durable, unless a change
    /// failed of which nobody is told.
    async fn close(&mut self, storage: &Storage) {
        self.file.disarm();
        let vote = self.changes.vote();
        let is_whole = storage.save_vote(vote).await.is_ok();
        storage.close().await;
        if is_whole {
            let mut last = self.possible.pop().unwrap();
            last.apply(&Change::Vote(vote));
            self.possible = vec![last];
        }
    }
}

#[tokio::test]
async fn what_the_storage_thread_acknowledged_survives_power_cuts() {
    for seed in 0..SEEDS {
        Life::new(seed).live().await;
    }
}
