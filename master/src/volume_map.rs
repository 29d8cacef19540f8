//! The volume map that clients keep: which servers hold each volume, and where those are.
//!
//! Pure. It has two halves. What was agreed on (volumes, members, epochs) has a version that is the
//! same at every master, so whoever goes on at another master is told what changed since. Where
//! servers are and whether they live is what this master heard: that half has a count which means
//! something to this run of this master only, and whoever comes from another one is given all
//! servers, of which there are few. A cursor names a place in both: `VERSION.CLUSTER.RUN.COUNT`, or
//! `VERSION` alone. It never yields a wrong difference: what it does not fit is answered in full. So is
//! one of another cluster, whose masters were here before: their versions were of other changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use dulse_shared::{
    id::{ClusterId, ServerId},
    wire::{MappedServer, MappedState, MappedVolume, VolumeConfig, VolumeMap, VolumeState},
};

use crate::{
    cluster_state::ClusterState,
    topology::{Topology, VolumeServer},
};

/// How far somebody's map is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cursor {
    /// The version of what was agreed on.
    pub(crate) version: u64,
    /// Which cluster's masters agreed on it; none if that is not known.
    pub(crate) cluster: Option<ClusterTag>,
    /// What was heard of servers; none if that is not known.
    pub(crate) heard: Option<Heard>,
}

/// What tells the masters of one cluster from those that were founded anew in their place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ClusterTag(u32);

impl From<ClusterId> for ClusterTag {
    fn from(cluster: ClusterId) -> Self {
        // The id is random: any part of it is as good as another.
        Self(u32::try_from(cluster.as_u128() & u128::from(u32::MAX)).unwrap_or_default())
    }
}

/// A place in what one run of one master heard of servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Heard {
    /// The run.
    pub(crate) run: u64,
    /// Changes until then.
    pub(crate) count: u64,
}

/// A text that is no cursor.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no place in the map: pass the cursor of the last answer, or nothing")]
pub(crate) struct ParseCursorError(String);

/// The servers that this run of the master has heard, and when each changed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MapServers {
    heard: Heard,
    servers: BTreeMap<ServerId, (u64, MappedServer)>,
}

impl Cursor {
    /// Whether somebody who is there has something to be told by a map that is at `head`. Who does
    /// not say what it heard of servers does not wait for it.
    pub(crate) fn is_behind(&self, head: &Self) -> bool {
        if self.is_foreign(head.cluster) {
            return true;
        }
        // One that comes from a master that has applied more waits until this one has, too.
        if self.version > head.version {
            return false;
        }
        self.version != head.version || (self.heard.is_some() && self.heard != head.heard)
    }

    /// Whether it is a place in another cluster's map. One that names no cluster is believed.
    fn is_foreign(&self, ours: Option<ClusterTag>) -> bool {
        // Masters without a cluster may yet turn out to be of this one.
        ours.is_some() && self.cluster.is_some() && self.cluster != ours
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)?;
        if let Some(ClusterTag(tag)) = self.cluster {
            write!(f, ".{tag:08x}")?;
        }
        self.heard.map_or(Ok(()), |Heard { run, count }| write!(f, ".{run:x}.{count}"))
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseCursorError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let (version, cluster, heard) = match *parts.as_slice() {
        [version] => (version, None, None),
        // No cluster is founded yet.
        [version, run, count] => (version, None, Some((run, count))),
        [version, cluster, run, count] => (version, Some(cluster), Some((run, count))),
        _ => return None,
    };
    let heard = match heard {
        Some((run, count)) => {
            let run = u64::from_str_radix(run, 16).ok()?;
            Some(Heard { run, count: count.parse().ok()? })
        }
        None => None,
    };
    let cluster = match cluster {
        Some(tag) => Some(ClusterTag(u32::from_str_radix(tag, 16).ok()?)),
        None => None,
    };
    Some(Cursor { version: version.parse().ok()?, cluster, heard })
}

impl MapServers {
    /// None yet; `run` is a random number.
    pub(crate) fn new(run: u64) -> Self {
        Self { heard: Heard { run, count: 0 }, servers: BTreeMap::new() }
    }

    /// Where a map that was made now would be.
    pub(crate) fn head(&self, version: u64, cluster: Option<ClusterId>) -> Cursor {
        Cursor { version, cluster: cluster.map(ClusterTag::from), heard: Some(self.heard) }
    }

    /// Takes over what is heard now. A server that the topology has forgotten was dead for a day:
    /// that it is dead was told then.
    pub(crate) fn update(&mut self, topology: &Topology) {
        let present: BTreeMap<ServerId, MappedServer> = topology
            .servers()
            .filter(|server| !server.url.is_empty())
            .map(|server| (server.id, mapped_server(server)))
            .collect();
        self.servers.retain(|id, _| present.contains_key(id));
        let next = self.heard.count + 1;
        for (id, server) in present {
            if self.servers.get(&id).is_none_or(|(_, known)| *known != server) {
                self.servers.insert(id, (next, server));
                self.heard.count = next;
            }
        }
    }

    /// Those that changed after `since`, or all, and `others`.
    fn list(&self, since: Option<Heard>, others: &BTreeSet<ServerId>) -> Vec<MappedServer> {
        let since = since.filter(|since| since.run == self.heard.run && *since <= self.heard);
        let is_told = |id: &ServerId, changed: u64| {
            since.is_none_or(|since| changed > since.count) || others.contains(id)
        };
        let told = self.servers.iter().filter(|(id, (changed, _))| is_told(id, *changed));
        told.map(|(_, (_, server))| server.clone()).collect()
    }
}

impl PartialOrd for Heard {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.run == other.run).then(|| self.count.cmp(&other.count))
    }
}

/// What somebody whose map is at `since` has to be told.
pub(crate) fn map_since(
    state: &ClusterState,
    servers: &MapServers,
    since: Option<Cursor>,
) -> VolumeMap {
    let changes = &state.changes;
    // Version 0 alone is what somebody says who has no map.
    let since = since.filter(|since| since.heard.is_some() || since.version > 0);
    let since = since.filter(|since| changes.can_tell_since(since.version));
    let head = servers.head(changes.version(), state.cluster);
    let since = since.filter(|since| !since.is_foreign(head.cluster));
    let (mut volumes, deleted): (Vec<MappedVolume>, Vec<_>) = match since {
        Some(Cursor { version, .. }) => {
            let changed = changes.changed_since(version).filter_map(|id| state.volume(id));
            (changed.map(mapped_volume).collect(), changes.deleted_since(version).collect())
        }
        None => (state.configs().map(mapped_volume).collect(), Vec::new()),
    };
    volumes.sort_unstable_by_key(|volume| volume.id);
    let holders = volumes.iter().flat_map(|volume| volume.members.iter().copied()).collect();
    VolumeMap {
        cursor: head.to_string(),
        version: changes.version(),
        is_full: since.is_none(),
        servers: servers.list(since.and_then(|since| since.heard), &holders),
        volumes,
        deleted,
    }
}

fn mapped_volume(config: &VolumeConfig) -> MappedVolume {
    let state = match config.state {
        VolumeState::Writable if config.closed => MappedState::Closed,
        VolumeState::Writable => MappedState::Writable,
        VolumeState::ReadOnly { .. } => MappedState::ReadOnly,
        VolumeState::Repairing { .. } => MappedState::Repairing,
    };
    MappedVolume {
        id: config.id,
        collection: config.collection.clone(),
        epoch: config.epoch,
        state,
        members: config.members.iter().map(|member| member.server).collect(),
    }
}

fn mapped_server(server: &VolumeServer) -> MappedServer {
    MappedServer {
        id: server.id,
        url: server.url.clone(),
        public_url: server.public_url.clone(),
        is_alive: server.is_alive,
    }
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        clock::BootTime,
        id::VolumeId,
        wire::{Epoch, Incarnation},
    };

    use super::*;
    use crate::{
        cluster_state::{Command, Deletion},
        testing::{heartbeat, plain_layout, server, volume},
        topology::SILENCE_LIMIT,
    };

    /// One master's view of the agreed state: what it heard, and as which run.
    struct Master {
        topology: Topology,
        servers: MapServers,
    }

    impl Master {
        fn new(run: u64, heard: &[u128]) -> Self {
            let (topology, servers) = (Topology::default(), MapServers::new(run));
            let mut master = Self { topology, servers };
            for n in heard {
                master.topology.receive(heartbeat(*n, Vec::new()), BootTime::default()).unwrap();
            }
            master.servers.update(&master.topology);
            master
        }

        fn silence(&mut self) {
            self.topology.expire(BootTime::default().plus(SILENCE_LIMIT));
            self.servers.update(&self.topology);
        }

        fn since(&self, state: &ClusterState, cursor: Option<&str>) -> VolumeMap {
            let cursor = cursor.map(|cursor| cursor.parse().unwrap());
            map_since(state, &self.servers, cursor)
        }
    }

    fn create(state: &mut ClusterState, holders: &[u128]) {
        let layout = plain_layout();
        let members = holders.iter().map(|n| vec![(server(*n), Incarnation(1))]).collect();
        state.apply(&Command::CreateVolumes {
            collection: layout.collection,
            placement: layout.placement,
            ttl: layout.ttl,
            disk: layout.disk,
            members,
        });
    }

    fn delete(state: &mut ClusterState, id: u32) {
        let volumes = vec![Deletion { id: volume(id), epoch: Epoch(1) }];
        state.apply(&Command::DeleteVolumes { volumes });
    }

    fn ids(map: &VolumeMap) -> Vec<VolumeId> {
        map.volumes.iter().map(|volume| volume.id).collect()
    }

    fn heard(map: &VolumeMap) -> Vec<ServerId> {
        map.servers.iter().map(|server| server.id).collect()
    }

    #[test]
    fn a_cursor_is_read_back_as_printed_and_anything_else_refused() {
        for text in ["0", "17", "17.9f3ac01d22e07b44.3", "17.0000f00d.9f3ac01d22e07b44.3"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for bad in
            ["", "x", "1.2", "1.g.3", "1.2.3.4.5", "1.x.3.4", "1.100000000.3.4", "-1", "1..2"]
        {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_changed_after_a_version_is_told_with_the_servers_that_hold_it() {
        let mut state = ClusterState::default();
        let master = Master::new(1, &[1, 2]);
        create(&mut state, &[1, 1]);
        let first = master.since(&state, None);
        assert!(first.is_full);
        assert_eq!(ids(&first), [volume(1), volume(2)]);
        assert_eq!(heard(&first), [server(1), server(2)]);
        create(&mut state, &[2]);
        delete(&mut state, 1);
        let second = master.since(&state, Some(&first.cursor));
        assert!(!second.is_full);
        assert_eq!((ids(&second), second.deleted.clone()), (vec![volume(3)], vec![volume(1)]));
        assert_eq!(heard(&second), [server(2)]);
        assert_eq!(second.version, 3);
        let third = master.since(&state, Some(&second.cursor));
        let nothing = VolumeMap {
            volumes: Vec::new(),
            deleted: Vec::new(),
            servers: Vec::new(),
            ..second.clone()
        };
        assert_eq!(third, nothing);
    }

    #[test]
    fn another_master_tells_the_same_changes_and_all_servers() {
        let mut state = ClusterState::default();
        let (one, other) = (Master::new(1, &[1, 2]), Master::new(2, &[2, 3]));
        create(&mut state, &[1]);
        let first = one.since(&state, None);
        create(&mut state, &[2]);
        let moved = other.since(&state, Some(&first.cursor));
        assert!(!moved.is_full);
        assert_eq!(ids(&moved), [volume(2)]);
        assert_eq!(heard(&moved), [server(2), server(3)], "its count means nothing here");
        assert_eq!(moved.version, one.since(&state, None).version);
    }

    #[test]
    fn a_snapshot_brings_the_versions_along() {
        let mut state = ClusterState::default();
        create(&mut state, &[1]);
        create(&mut state, &[1]);
        delete(&mut state, 1);
        let json = serde_json::to_string(&state).unwrap();
        let restored: ClusterState = serde_json::from_str(&json).unwrap();
        let restarted = Master::new(7, &[1]);
        let map = restarted.since(&restored, Some("1.5.9"));
        assert!(!map.is_full);
        assert_eq!((ids(&map), map.deleted), (vec![volume(2)], vec![volume(1)]));
    }

    #[test]
    fn what_cannot_be_told_apart_is_told_in_full() {
        let mut state = ClusterState::default();
        let master = Master::new(1, &[1]);
        create(&mut state, &[1]);
        for cursor in [None, Some("0"), Some("2"), Some("2.1.1")] {
            assert!(master.since(&state, cursor).is_full, "{cursor:?}");
        }
        // A count that this run has not come to yet.
        assert_eq!(heard(&master.since(&state, Some("1.1.9"))), [server(1)]);
    }

    #[test]
    fn the_map_of_another_cluster_is_replaced_at_once_whatever_its_version() {
        let found = |state: &mut ClusterState, n: u128| {
            state.apply(&Command::FoundCluster { cluster: ClusterId::from(n) });
        };
        let master = Master::new(1, &[1]);
        let (mut lost, mut anew) = (ClusterState::default(), ClusterState::default());
        found(&mut lost, 1);
        found(&mut anew, 2);
        for state in [&mut lost, &mut anew] {
            create(state, &[1]);
            create(state, &[1]);
        }
        let cursor = master.since(&lost, None).cursor;
        create(&mut anew, &[1]);
        let map = master.since(&anew, Some(&cursor));
        assert!(map.is_full && ids(&map).len() == 3, "{map:?}");
        let head: Cursor = map.cursor.parse().unwrap();
        // Of a longer history, too, which would otherwise be waited for.
        for version in [1, 3, 9] {
            let cursor = Cursor { version, ..cursor.parse().unwrap() };
            assert!(cursor.is_behind(&head), "{version}");
        }
        assert!(!head.is_behind(&head));
        assert!(!master.since(&anew, Some(&map.cursor)).is_full);
    }

    #[test]
    fn a_server_that_dies_or_moves_is_told_and_one_that_stays_is_not() {
        let state = ClusterState::default();
        let mut master = Master::new(1, &[1, 2]);
        let cursor = master.since(&state, None).cursor;
        let mut moved = heartbeat(1, Vec::new());
        (moved.seq, moved.since, moved.public_url) = (2, 1, "elsewhere:80".to_owned());
        master.topology.receive(moved, BootTime::default()).unwrap();
        master.servers.update(&master.topology);
        let map = master.since(&state, Some(&cursor));
        assert_eq!(map.servers.len(), 1);
        assert_eq!(map.servers[0].public_url, "elsewhere:80");
        master.silence();
        let map = master.since(&state, Some(&map.cursor));
        assert_eq!(map.servers.iter().filter(|server| !server.is_alive).count(), 2);
        assert!(master.since(&state, Some(&map.cursor)).servers.is_empty());
    }
}
