//! The consensus library's own tests of a storage: as it is, and with a power cut after each change.

use std::{
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{Arc, Mutex},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageError,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;

use super::{power_cuts, simulated_file::SimulatedFile};
use crate::raft::{
    database::Database,
    log_store::LogStore,
    state_machine::{Applied, StateMachine},
    storage_thread::Storage,
    type_config::{Entry, LogId, TypeConfig, Vote},
};

fn spawn(mut database: Database) -> (LogStore, Storage) {
    let contents = database.load().unwrap();
    let storage = Storage::spawn(database).unwrap();
    (LogStore::new(contents, storage.clone()), storage)
}

struct Real;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Real {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log_store, storage) = spawn(Database::open(dir.path()).unwrap());
        let state_machine = StateMachine::new(Applied::new(None), storage);
        Ok((dir, log_store, state_machine))
    }
}

#[tokio::test]
async fn the_storage_passes_the_librarys_suite() {
    Suite::test_all(Real).await.unwrap();
}

/// A log whose power fails after each change, as soon as that is acknowledged. Clones are the
/// same one.
#[derive(Clone)]
struct Interrupted {
    file: SimulatedFile,
    open: Arc<Mutex<(LogStore, Storage)>>,
}

impl Interrupted {
    fn new() -> Self {
        let file = SimulatedFile::new(1);
        let open = spawn(power_cuts::open(&file).unwrap());
        Self { file, open: Arc::new(Mutex::new(open)) }
    }

    fn log(&self) -> LogStore {
        self.open.lock().unwrap().0.clone()
    }

    fn cut_power(&self) {
        self.file.power_cut();
        let opened = spawn(power_cuts::open(&self.file).unwrap());
        *self.open.lock().unwrap() = opened;
    }

    /// The same after changes of which nobody is told when they are durable.
    async fn close_and_cut_power(&self) {
        let (_, storage) = self.open.lock().unwrap().clone();
        storage.close().await;
        self.cut_power();
    }
}

impl RaftLogReader<TypeConfig> for Interrupted {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log().try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log().read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for Interrupted {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.log().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log().save_vote(vote).await?;
        self.cut_power();
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log().save_committed(committed).await?;
        self.close_and_cut_power().await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log().read_committed().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (flushed, is_flushed) = TypeConfig::oneshot();
        self.log().append(entries, IOFlushed::signal(flushed)).await?;
        let answer = is_flushed.await.unwrap();
        self.cut_power();
        callback.io_completed(answer);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log().truncate_after(last).await?;
        self.cut_power();
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.log().purge(upto).await?;
        self.close_and_cut_power().await;
        Ok(())
    }
}

struct Simulated;

impl StoreBuilder<TypeConfig, Interrupted, StateMachine> for Simulated {
    /// The state is made anew from the log at a start, which the suite does not do: its storage
    /// is one by itself.
    async fn build(&self) -> Result<((), Interrupted, StateMachine), StorageError<TypeConfig>> {
        let (_, snapshots) = spawn(power_cuts::open(&SimulatedFile::new(2)).unwrap());
        let state_machine = StateMachine::new(Applied::new(None), snapshots);
        Ok(((), Interrupted::new(), state_machine))
    }
}

#[tokio::test]
async fn the_storage_passes_the_librarys_suite_over_power_cuts() {
    Suite::test_all(Simulated).await.unwrap();
}
