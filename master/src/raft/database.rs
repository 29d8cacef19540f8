//! The redb database `raft.redb`: what a node must not forget.
//!
//! Invariants: a change is durable when [`Database::commit`] returns; changes of one call are
//! made all or not at all; the log has no holes. After a failed commit nothing is written any
//! more, because what reached the disk is then unknown: the next start reads what did. That these
//! hold over power cuts and failing disks with redb as it is, whose commit is one sync, is tested
//! on a simulated one. Who calls when is the storage thread's business.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use dulse_shared::disk::create_dir;
use openraft::EntryPayload;
use redb::{
    ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableHandle,
    WriteTransaction, backends::FileBackend,
};

use super::{
    database_file::{empty_if_unfinished, open_file},
    error::RaftStartError,
    format::{
        EntryJson, FormatError, HeaderJson, LogIdJson, PositionJson, SnapshotJson, Version,
        VoteJson, decode, encode,
    },
    type_config::{Entry, LogId, NodeId, SnapshotMeta, Vote},
};
use crate::cluster_state::ClusterState;

/// The database's name in the master's directory.
pub(super) const DATABASE_FILE: &str = "raft.redb";
/// redb's page cache. The log is kept in memory as well, so reads hardly ever need it.
const CACHE_BYTES: usize = 8 << 20;

/// Index to [`EntryJson`].
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Everything of which there is one.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const HEADER: &str = "header";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT: &str = "snapshot";

/// An open database; while it is, no other process can open it.
pub(super) struct Database {
    path: PathBuf,
    redb: redb::Database,
    node: NodeId,
    failed: bool,
    /// How far the stored snapshot is.
    snapshot: Option<LogIdJson>,
}

/// A change to the database.
pub(super) enum Change {
    /// Adds entries at the end of the log.
    Append(Vec<Entry>),
    /// Removes the entries after this index; all without one.
    Truncate(Option<u64>),
    /// Removes the entries up to and including this one.
    Purge(LogId),
    /// Sets the vote.
    Vote(Vote),
    /// Sets how far entries are known to be committed.
    Committed(Option<LogId>),
    /// Replaces the snapshot.
    Snapshot(Box<SnapshotJson>),
}

/// What a database held when it was opened.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) log: BTreeMap<u64, Entry>,
    pub(super) snapshot: Option<(SnapshotMeta, ClusterState)>,
}

impl Contents {
    /// How many masters have a vote, as far as this one had heard.
    pub(super) fn voters(&self) -> usize {
        let of_entry = |entry: &Entry| match &entry.payload {
            EntryPayload::Membership(membership) => Some(membership.voter_ids().count()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        };
        let in_log = self.log.values().rev().find_map(of_entry);
        let in_snapshot = || {
            let (meta, _) = self.snapshot.as_ref()?;
            Some(meta.last_membership.membership().voter_ids().count())
        };
        in_log.or_else(in_snapshot).unwrap_or(0)
    }
}

/// Why the database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// redb says so.
    #[error(transparent)]
    Redb(#[from] redb::Error),
    /// It holds something else than it should.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// An earlier commit failed.
    #[error("an earlier write failed")]
    Failed,
}

impl Database {
    /// Opens the database in `dir`, or makes directory and database. A new one gets a new node.
    pub(super) fn open(dir: &Path) -> Result<Self, RaftStartError> {
        let unwritable =
            |path: &Path, source| RaftStartError::Unwritable { path: path.into(), source };
        create_dir(dir).map_err(|source| unwritable(dir, source))?;
        let path = dir.join(DATABASE_FILE);
        let file = open_file(&path).map_err(|source| unwritable(&path, source))?;
        let backend = FileBackend::new(file).map_err(|error| refused(&path, error))?;
        Self::open_on(backend, path)
    }

    /// Opens the database on a file, or makes it if that is empty. `path` is where it lies.
    pub(super) fn open_on(
        file: impl StorageBackend,
        path: PathBuf,
    ) -> Result<Self, RaftStartError> {
        empty_if_unfinished(&file)
            .map_err(|source| RaftStartError::Unwritable { path: path.clone(), source })?;
        let redb = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)
            .map_err(|error| refused(&path, error))?;
        let not_ours = |reason: String| RaftStartError::NotOurs { path: path.clone(), reason };
        let node = match read_header(&redb).map_err(not_ours)? {
            Some(header) => header.node,
            None => make_tables(&redb).map_err(|error| RaftStartError::Failed {
                path: path.clone(),
                reason: error.to_string(),
            })?,
        };
        Ok(Self { path, redb, node, failed: false, snapshot: None })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Reads everything; the first thing to do with an open database.
    pub(super) fn load(&mut self) -> Result<Contents, RaftStartError> {
        let loaded = self.load_contents();
        let contents = loaded.map_err(|error| RaftStartError::NotOurs {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        let snapshot = contents.snapshot.as_ref();
        let at = snapshot.and_then(|(meta, _)| meta.last_log_id.as_ref());
        self.snapshot = at.map(LogIdJson::from);
        Ok(contents)
    }

    fn load_contents(&self) -> Result<Contents, DatabaseError> {
        let read = self.redb.begin_read().map_err(redb::Error::from)?;
        let meta = read.open_table(META).map_err(redb::Error::from)?;
        let log = read.open_table(LOG).map_err(redb::Error::from)?;
        let mut contents = Contents {
            vote: read_value::<VoteJson>(&meta, VOTE)?.map(Vote::from),
            committed: read_value::<PositionJson>(&meta, COMMITTED)?.and_then(Into::into),
            purged: read_value::<PositionJson>(&meta, PURGED)?.and_then(Into::into),
            log: BTreeMap::new(),
            snapshot: read_value::<SnapshotJson>(&meta, SNAPSHOT)?
                .map(SnapshotJson::into_parts)
                .transpose()?,
        };
        for item in log.iter().map_err(redb::Error::from)? {
            let (index, bytes) = item.map_err(redb::Error::from)?;
            let entry: EntryJson = decode("a log entry", bytes.value())?;
            contents.log.insert(index.value(), entry.into_entry()?);
        }
        Ok(contents)
    }

    /// Reads the snapshot, if there is one.
    pub(super) fn snapshot(&self) -> Result<Option<(SnapshotMeta, ClusterState)>, DatabaseError> {
        let read = self.redb.begin_read().map_err(redb::Error::from)?;
        let meta = read.open_table(META).map_err(redb::Error::from)?;
        let snapshot = read_value::<SnapshotJson>(&meta, SNAPSHOT)?;
        Ok(snapshot.map(SnapshotJson::into_parts).transpose()?)
    }

    /// Makes the changes in their order, durably. After an error every further call fails.
    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<(), DatabaseError> {
        if self.failed {
            return Err(DatabaseError::Failed);
        }
        let committed = self.try_commit(changes);
        self.failed = committed.is_err();
        committed
    }

    fn try_commit(&mut self, changes: &[Change]) -> Result<(), DatabaseError> {
        let write = self.redb.begin_write().map_err(redb::Error::from)?;
        for change in changes {
            if let Change::Snapshot(snapshot) = change {
                // One that was being built while a later one was installed comes too late: the
                // entries after it may be purged already.
                if snapshot.last_applied < self.snapshot {
                    continue;
                }
                self.snapshot = snapshot.last_applied;
            }
            apply(&write, change)?;
        }
        write.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}

/// Why redb would not open the file.
fn refused(path: &Path, error: redb::DatabaseError) -> RaftStartError {
    let path = path.to_owned();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            RaftStartError::InUse { path }
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData =>
        {
            RaftStartError::Unwritable { path, source }
        }
        other => RaftStartError::NotOurs { path, reason: other.to_string() },
    }
}

/// The header; none in a database without tables, which is one whose maker was interrupted.
fn read_header(redb: &redb::Database) -> Result<Option<HeaderJson>, String> {
    let read = redb.begin_read().map_err(|error| error.to_string())?;
    let tables = read.list_tables().map_err(|error| error.to_string())?;
    let names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    if !names.iter().any(|name| name == META.name()) {
        return Err(format!("it holds the tables {}", names.join(", ")));
    }
    let meta = read.open_table(META).map_err(|error| error.to_string())?;
    let header = read_value::<HeaderJson>(&meta, HEADER).map_err(|error| error.to_string())?;
    header.map(Some).ok_or_else(|| "it has no header".to_owned())
}

fn make_tables(redb: &redb::Database) -> Result<NodeId, DatabaseError> {
    let header = HeaderJson { version: Version, node: NodeId::random() };
    let write = redb.begin_write().map_err(redb::Error::from)?;
    write.open_table(LOG).map_err(redb::Error::from)?;
    put(&write, HEADER, &header)?;
    write.commit().map_err(redb::Error::from)?;
    Ok(header.node)
}

fn read_value<T: serde::de::DeserializeOwned>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<Option<T>, DatabaseError> {
    let bytes = meta.get(key).map_err(redb::Error::from)?;
    let value = bytes.map(|bytes| decode(key, bytes.value()));
    Ok(value.transpose()?)
}

fn put<T: serde::Serialize>(
    write: &WriteTransaction,
    key: &'static str,
    value: &T,
) -> Result<(), DatabaseError> {
    let bytes = encode(value)?;
    let mut meta = write.open_table(META).map_err(redb::Error::from)?;
    meta.insert(key, bytes.as_slice()).map_err(redb::Error::from)?;
    Ok(())
}

fn apply(write: &WriteTransaction, change: &Change) -> Result<(), DatabaseError> {
    match change {
        Change::Append(entries) => append(write, entries),
        Change::Truncate(None) => remove(write, 0..=u64::MAX),
        Change::Truncate(Some(u64::MAX)) => Ok(()),
        Change::Truncate(Some(last)) => remove(write, last.saturating_add(1)..=u64::MAX),
        Change::Purge(log_id) => {
            remove(write, 0..=log_id.index)?;
            put(write, PURGED, &PositionJson::from(Some(log_id)))
        }
        Change::Vote(vote) => put(write, VOTE, &VoteJson::from(vote)),
        Change::Committed(log_id) => put(write, COMMITTED, &PositionJson::from(log_id.as_ref())),
        Change::Snapshot(snapshot) => put(write, SNAPSHOT, snapshot),
    }
}

fn append(write: &WriteTransaction, entries: &[Entry]) -> Result<(), DatabaseError> {
    let mut log = write.open_table(LOG).map_err(redb::Error::from)?;
    for entry in entries {
        let bytes = encode(&EntryJson::from(entry))?;
        log.insert(entry.log_id.index, bytes.as_slice()).map_err(redb::Error::from)?;
    }
    Ok(())
}

fn remove(
    write: &WriteTransaction,
    indexes: std::ops::RangeInclusive<u64>,
) -> Result<(), DatabaseError> {
    let mut log = write.open_table(LOG).map_err(redb::Error::from)?;
    log.retain_in(indexes, |_, _| false).map_err(redb::Error::from)?;
    Ok(())
}
