//! Applies committed entries to the cluster's state, and takes and installs snapshots of it.
//!
//! The state lives in memory and is made anew at start from the last snapshot and the log after
//! it. Entries are applied one by one in log order, each before its proposer hears of it.
//! Readers hold the lock only as long as they look.

use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, alias,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    format::SnapshotJson,
    storage_thread::Storage,
    type_config::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::cluster_state::{ClusterState, Outcome};

type Snapshot = alias::SnapshotOf<TypeConfig, ClusterState>;

/// The state and how far it is; clones share it.
#[derive(Clone)]
pub(super) struct Applied {
    inner: Arc<RwLock<Inner>>,
    /// The index of the last applied entry, 0 before the first.
    index: watch::Sender<u64>,
    /// Whether the cluster has a name: asked with every assign, without the lock.
    is_named: Arc<AtomicBool>,
}

#[derive(Default)]
struct Inner {
    state: ClusterState,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Applied {
    /// The state as of `snapshot`, or the empty one.
    pub(super) fn new(snapshot: Option<(SnapshotMeta, ClusterState)>) -> Self {
        let inner = snapshot.map_or_else(Inner::default, |(meta, state)| Inner::of(&meta, state));
        let (index, _) = watch::channel(inner.index());
        let is_named = Arc::new(AtomicBool::new(inner.state.cluster.is_some()));
        Self { inner: Arc::new(RwLock::new(inner)), index, is_named }
    }

    /// Looks at the state.
    pub(super) fn read<R>(&self, read: impl FnOnce(&ClusterState) -> R) -> R {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        read(&inner.state)
    }

    /// Whether the cluster has a name.
    pub(super) fn is_named(&self) -> bool {
        self.is_named.load(Ordering::Acquire)
    }

    /// The index of the last applied entry.
    pub(super) fn index(&self) -> u64 {
        *self.index.borrow()
    }

    /// Follows the index.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inner);
        let index = inner.index();
        self.is_named.store(inner.state.cluster.is_some(), Ordering::Release);
        drop(inner);
        self.index.send_replace(index);
        result
    }

    fn snapshot(&self) -> (SnapshotMeta, ClusterState) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let meta =
            SnapshotMeta { last_log_id: inner.last, last_membership: inner.membership.clone() };
        (meta, inner.state.clone())
    }
}

impl Inner {
    fn of(meta: &SnapshotMeta, state: ClusterState) -> Self {
        Self { state, last: meta.last_log_id, membership: meta.last_membership.clone() }
    }

    fn index(&self) -> u64 {
        self.last.map_or(0, |log_id| log_id.index)
    }

    fn apply(&mut self, entry: Entry) -> Option<Outcome> {
        self.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(command) => Some(self.state.apply(&command)),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        }
    }
}

/// What Raft applies entries to.
pub(super) struct StateMachine {
    applied: Applied,
    storage: Storage,
}

impl StateMachine {
    /// Applies to `applied`; snapshots go to `storage`.
    pub(super) fn new(applied: Applied, storage: Storage) -> Self {
        Self { applied, storage }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = ClusterState;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let inner = self.applied.inner.read().unwrap_or_else(PoisonError::into_inner);
        Ok((inner.last, inner.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.applied.change(|inner| inner.apply(entry));
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder { applied: self.applied.clone(), storage: self.storage.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: ClusterState,
    ) -> Result<(), io::Error> {
        let stored = SnapshotJson::new(meta, snapshot.clone());
        self.storage.save_snapshot(stored).await?;
        self.applied.change(|inner| *inner = Inner::of(meta, snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let stored = self.storage.snapshot().await?;
        Ok(stored.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Takes a snapshot of the state as it is when asked.
pub(super) struct SnapshotBuilder {
    applied: Applied,
    storage: Storage,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = ClusterState;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, snapshot) = self.applied.snapshot();
        let stored = SnapshotJson::new(&meta, snapshot.clone());
        self.storage.save_snapshot(stored).await?;
        Ok(Snapshot { meta, snapshot })
    }
}
