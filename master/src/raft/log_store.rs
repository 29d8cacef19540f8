//! The log as Raft reads and writes it: a mirror in memory before the storage thread.
//!
//! The mirror holds every entry that is not purged (some thousands, see the snapshot policy), so
//! that reading never touches the disk and an entry can be read as soon as it is appended. It
//! runs ahead of the disk only by entries that nobody was told are durable; votes and truncations
//! enter it once they are.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    database::Contents,
    storage_thread::Storage,
    type_config::{Entry, LogId, TypeConfig, Vote},
};

/// The log; clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    mirror: Arc<RwLock<Mirror>>,
    storage: Storage,
}

struct Mirror {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    log: BTreeMap<u64, Entry>,
}

impl LogStore {
    /// The log that a database held when it was opened, and the thread that now owns it.
    pub(super) fn new(contents: Contents, storage: Storage) -> Self {
        let mirror = Mirror {
            vote: contents.vote,
            committed: contents.committed,
            purged: contents.purged,
            log: contents.log,
        };
        Self { mirror: Arc::new(RwLock::new(mirror)), storage }
    }

    fn read(&self) -> RwLockReadGuard<'_, Mirror> {
        self.mirror.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Mirror> {
        self.mirror.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    fn last(&self) -> Option<LogId> {
        let last = self.log.last_key_value();
        last.map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// The entries of `range`; an error if one in the middle is missing.
    fn entries(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let entries: Vec<Entry> = self.log.range(range).map(|(_, entry)| entry.clone()).collect();
        let has_hole = entries.windows(2).any(
            |pair| matches!(pair, [a, b] if a.log_id.index.checked_add(1) != Some(b.log_id.index)),
        );
        if has_hole {
            return Err(io::Error::other("the log has a hole"));
        }
        Ok(entries)
    }
}

/// Whether no index can lie in `range`; a map panics when asked for a range that runs backwards.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read().entries(range)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.read().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let mirror = self.read();
        Ok(LogState { last_purged_log_id: mirror.purged, last_log_id: mirror.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.storage.save_vote(*vote).await?;
        self.write().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.write().committed = committed;
        self.storage.note_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.read().committed)
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
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mirrored = entries.iter().map(|entry| (entry.log_id.index, entry.clone()));
        self.write().log.extend(mirrored);
        self.storage.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let last = last_log_id.map(|log_id| log_id.index);
        self.storage.truncate(last).await?;
        let mut mirror = self.write();
        match last.map(|last| last.checked_add(1)) {
            None => mirror.log.clear(),
            Some(Some(first_removed)) => drop(mirror.log.split_off(&first_removed)),
            Some(None) => {}
        }
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut mirror = self.write();
            mirror.log = match log_id.index.checked_add(1) {
                Some(first_kept) => mirror.log.split_off(&first_kept),
                None => BTreeMap::new(),
            };
            mirror.purged = Some(log_id);
        }
        self.storage.purge(log_id).await
    }
}
