//! The volume map as this master tells it: where it stands, and the answers that were written for
//! others a moment ago.
//!
//! When something changes, thousands of clients ask from the same place for the same difference.
//! It is computed and written once, and kept until the next change. Lock order: answers, agreed state,
//! servers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dulse_shared::id::ClusterId;
use tokio::sync::watch;

use crate::{
    cluster::Cluster,
    cluster_state::ClusterState,
    topology::Topology,
    volume_map::{Cursor, MapServers, map_since},
};

/// Answers that are kept: clients stand at few places, but for those that were away.
const MAX_ANSWERS: usize = 8;

/// Where the map stands, and who waits for it.
pub(crate) struct MapBoard {
    servers: Mutex<MapServers>,
    head: watch::Sender<Cursor>,
    answers: Mutex<Answers>,
}

/// What was written of the map as it is at `head`, by the place it was asked from.
#[derive(Default)]
struct Answers {
    head: Option<Cursor>,
    written: Vec<(Option<Cursor>, Bytes)>,
}

impl MapBoard {
    /// An empty map; `run` is a random number.
    pub(crate) fn new(run: u64) -> Self {
        let servers = MapServers::new(run);
        let head = watch::Sender::new(servers.head(0, None));
        Self { servers: Mutex::new(servers), head, answers: Mutex::default() }
    }

    /// Takes over what is known now, and wakes who waits if that is news.
    pub(crate) fn publish(&self, version: u64, cluster: Option<ClusterId>, topology: &Topology) {
        let mut servers = self.servers();
        servers.update(topology);
        let head = servers.head(version, cluster);
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
    }

    /// Where the map stands, and word of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    /// Where the map stands.
    pub(crate) fn head(&self) -> Cursor {
        *self.head.borrow()
    }

    fn servers(&self) -> MutexGuard<'_, MapServers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn find(&self, head: Cursor, since: Option<Cursor>) -> Option<Bytes> {
        let is_present = self.head == Some(head);
        let (_, written) = self.written.iter().find(|(asked, _)| is_present && *asked == since)?;
        Some(written.clone())
    }

    fn keep(&mut self, head: Cursor, since: Option<Cursor>, written: Bytes) {
        if self.head != Some(head) {
            self.written.clear();
            self.head = Some(head);
        }
        self.written.truncate(MAX_ANSWERS - 1);
        self.written.insert(0, (since, written));
    }
}

impl Cluster {
    /// What somebody whose map is at `since` has to be told, as JSON.
    pub(crate) fn map_since(&self, since: Option<Cursor>) -> serde_json::Result<Bytes> {
        let mut answers = self.map.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let head = |state: &ClusterState, servers: &MapServers| {
            servers.head(state.changes.version(), state.cluster)
        };
        let known = self.log.read(|state| head(state, &self.map.servers()));
        if let Some(written) = answers.find(known, since) {
            return Ok(written);
        }
        let (head, map) = self.log.read(|state| {
            let servers = self.map.servers();
            (head(state, &servers), map_since(state, &servers, since))
        });
        let written = Bytes::from(serde_json::to_vec(&map)?);
        answers.keep(head, since, written.clone());
        Ok(written)
    }
}
