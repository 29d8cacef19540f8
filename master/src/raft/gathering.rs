//! What a master knows as long as it is in no cluster: which clusters its volume servers are of, which
//! one somebody asked to recover, and what keeps the masters from coming together.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    id::ClusterId,
};

use super::{
    hello::{HeardCluster, Introduction, Standing},
    node::Raft,
};
use crate::{cluster_state::Recovery, config::VolumesBeside};

/// They report twice a second: one that fell silent was stopped, or has found its own masters.
const REMEMBER_HEARD: Duration = Duration::from_secs(10);
/// Volume servers of other clusters that are remembered: one would do, and all are named.
const MAX_HEARD: usize = 32;

/// A recovery that is not ended by then was given up.
const RECOVERY_LIMIT: Duration = Duration::from_secs(300);

/// What one master knows.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The volumes in the same process.
    beside: Option<VolumesBeside>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Volume servers that are of a cluster, in the order of their addresses.
    heard: Vec<(HeardCluster, BootTime)>,
    /// What is to be recovered, and since when that is under way.
    recovery: Option<(Recovery, BootTime)>,
    obstacle: Option<String>,
}

impl From<&VolumesBeside> for HeardCluster {
    fn from(beside: &VolumesBeside) -> Self {
        Self { server: beside.server.clone(), cluster: beside.cluster }
    }
}

impl Gathering {
    /// Of a master beside these volumes.
    pub(super) fn new(beside: Option<VolumesBeside>) -> Self {
        Self { beside, known: Mutex::default() }
    }

    pub(super) fn beside(&self) -> Option<&VolumesBeside> {
        self.beside.as_ref()
    }

    /// Volume servers that are of a cluster.
    pub(super) fn heard_clusters(&self) -> Vec<HeardCluster> {
        let now = Clock::default().boot();
        let known = self.known();
        let lately = known.heard.iter().filter(|(_, when)| now.since(*when) < REMEMBER_HEARD);
        let beside = self.beside.as_ref().map(HeardCluster::from);
        beside.into_iter().chain(lately.map(|(heard, _)| heard.clone())).collect()
    }

    fn hear_cluster(&self, server: &str, cluster: ClusterId) {
        let now = Clock::default().boot();
        let heard = &mut self.known().heard;
        heard.retain(|(other, when)| other.server != server && now.since(*when) < REMEMBER_HEARD);
        if heard.len() < MAX_HEARD {
            heard.push((HeardCluster { server: server.to_owned(), cluster }, now));
        }
        heard.sort_by(|(one, _), (other, _)| one.server.cmp(&other.server));
    }

    /// The cluster that is to be recovered.
    pub(super) fn recovery(&self) -> Option<Recovery> {
        self.known().recovery.map(|(recovery, _)| recovery)
    }

    /// Takes note of a cluster that is to be recovered.
    fn recover(&self, recovery: Recovery) {
        let known = &mut self.known().recovery;
        let joined = known.map_or(recovery, |(known, _)| known.joined_with(recovery));
        *known = Some((joined, Clock::default().boot()));
    }

    /// Takes note of what keeps the masters from coming together, if something does; whether that is
    /// news.
    pub(super) fn note_obstacle(&self, obstacle: Option<String>) -> bool {
        let known = &mut self.known().obstacle;
        let is_news = *known != obstacle;
        *known = obstacle;
        is_news
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Raft {
    /// A volume server reported, which is of `cluster`: as long as this master is in no cluster,
    /// none is founded but that one.
    pub fn hear_cluster(&self, server: &str, cluster: ClusterId) {
        self.gathering().hear_cluster(server, cluster);
    }

    /// Has the masters found their cluster anew as the one that is to be recovered, all of them, as
    /// soon as they have come together. Until [`Raft::end_recovery`], or for a while, this one takes in
    /// no volume but those that are recovered.
    pub(crate) fn recover(&self, recovery: Recovery) {
        self.gathering().recover(recovery);
    }

    /// The same if another master says so, which was given the same masters. It has no effect on one
    /// that is in a cluster.
    pub(super) fn recover_with(&self, other: &Introduction) {
        if let Standing::New { recovery: Some(recovery), .. } = other.standing
            && other.peers == self.peers_as_said()
            && self.read(|state| state.cluster.is_none())
            && self.gathering().recovery() != Some(recovery)
        {
            self.recover(recovery);
        }
    }

    /// Whether volumes are being recovered: others may not take their numbers.
    pub(crate) fn is_recovering(&self) -> bool {
        let since = self.gathering().known().recovery.map(|(_, since)| since);
        since.is_some_and(|since| Clock::default().since(since) < RECOVERY_LIMIT)
    }

    /// All volumes are recovered that could be.
    pub(crate) fn end_recovery(&self) {
        self.gathering().known().recovery = None;
    }

    /// What keeps the masters from coming together, as far as this one knows.
    pub(crate) fn obstacle(&self) -> Option<String> {
        self.gathering().known().obstacle.clone()
    }
}
