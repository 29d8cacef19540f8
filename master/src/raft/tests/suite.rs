//! The consensus library's own tests of a storage.

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use crate::raft::{
    database::Database,
    log_store::LogStore,
    state_machine::{Applied, StateMachine},
    storage_thread::Storage,
    type_config::TypeConfig,
};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let contents = database.load().unwrap();
        let storage = Storage::spawn(database).unwrap();
        let log_store = LogStore::new(contents, storage.clone());
        let state_machine = StateMachine::new(Applied::new(None), storage);
        Ok((dir, log_store, state_machine))
    }
}

#[tokio::test]
async fn the_storage_passes_the_librarys_suite() {
    Suite::test_all(Builder).await.unwrap();
}
