//! What happened, found by holding what is against what was a moment ago.
//!
//! Pure. Each master derives its events by itself from what it applied and heard, so they tell what
//! that master saw, in that order. What it cannot have seen happen is no event: volumes that were
//! there when it started or that it reads from its log again (until it knows a leader and has caught
//! up), a volume that was full when its server was first heard, the absence of a server that it never
//! heard. A server that is there when the master starts joins, once.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    id::{ServerId, VolumeId},
    wire::{ClusterEvent, EventKind, Incarnation, VolumeConfig, VolumeState},
};

use crate::{
    cluster_state::ClusterState,
    raft::Leadership,
    topology::{Loss, Topology, VolumeServer},
    volume_layout::{LayoutKey, Layouts, Standing},
};

/// An event before it has a number and a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Happening {
    kind: EventKind,
    server: Option<String>,
    volume: Option<VolumeId>,
    text: String,
}

/// What was known when somebody last looked.
#[derive(Default, Debug)]
pub(crate) struct Observer {
    /// Whether what was agreed on is known as it is, so that a difference is a change.
    is_settled: bool,
    version: u64,
    volumes: BTreeMap<VolumeId, SeenVolume>,
    servers: BTreeMap<ServerId, SeenServer>,
    leader: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SeenVolume {
    is_writable: bool,
    /// None until a server was heard that says so.
    is_full: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct SeenServer {
    incarnation: Incarnation,
    is_there: bool,
}

impl Happening {
    fn of_server(kind: EventKind, server: &VolumeServer, what: &str) -> Self {
        let text = format!("volume server {} {what}", server.url);
        Self { kind, server: Some(server.url.clone()), volume: None, text }
    }

    fn of_volume(kind: EventKind, id: VolumeId, what: impl AsRef<str>) -> Self {
        let text = format!("volume {id} {}", what.as_ref());
        Self { kind, server: None, volume: Some(id), text }
    }

    /// The event that it is.
    pub(crate) fn at(self, number: u64, at_ms: u64) -> ClusterEvent {
        let Self { kind, server, volume, text } = self;
        ClusterEvent { number, at_ms, kind, server, volume, text }
    }
}

impl Observer {
    /// What happened since the last look.
    pub(crate) fn look(
        &mut self,
        state: &ClusterState,
        topology: &Topology,
        layouts: &Layouts,
    ) -> Vec<Happening> {
        let mut happenings = self.look_at_servers(topology);
        if self.is_settled {
            happenings.extend(self.look_at_volumes(state));
        } else {
            self.take_volumes(state);
        }
        happenings.extend(self.look_at_fullness(layouts));
        happenings
    }

    /// What happened to the leadership. Once a leader is known and nothing more is read from the log
    /// that was agreed on before, changes of volumes are events.
    pub(crate) fn look_at_leader(
        &mut self,
        leadership: &Leadership,
        version: u64,
    ) -> Option<Happening> {
        let leader = leadership.leader.as_ref()?.public();
        self.is_settled |= leadership.is_leader || version == self.version;
        if self.leader.as_ref() == Some(&leader) {
            return None;
        }
        let text = format!("master {leader} leads, in term {}", leadership.term);
        self.leader = Some(leader.clone());
        Some(Happening { kind: EventKind::LeaderChanged, server: Some(leader), volume: None, text })
    }

    fn look_at_servers(&mut self, topology: &Topology) -> Vec<Happening> {
        let mut happenings = Vec::new();
        self.servers.retain(|id, _| topology.server(*id).is_some());
        for server in topology.servers() {
            let is_there = server.takes_writes();
            let is_gone = !is_there && (server.stopping || server.loss.is_some());
            if !is_there && !is_gone {
                continue; // Its first full report is on its way.
            }
            let now = SeenServer { incarnation: server.incarnation, is_there };
            let before = self.servers.insert(server.id, now.clone());
            happenings.extend(server_happening(before.as_ref(), &now, server));
        }
        happenings
    }

    fn take_volumes(&mut self, state: &ClusterState) {
        self.version = state.changes.version();
        self.volumes.retain(|id, _| state.volumes.contains_key(id));
        for config in state.volumes.values() {
            let is_full = self.volumes.get(&config.id).and_then(|seen| seen.is_full);
            let seen = SeenVolume { is_writable: is_writable(config), is_full };
            self.volumes.insert(config.id, seen);
        }
    }

    fn look_at_volumes(&mut self, state: &ClusterState) -> Vec<Happening> {
        let changes = &state.changes;
        if changes.version() == self.version {
            return Vec::new();
        }
        let (changed, deleted): (BTreeSet<VolumeId>, BTreeSet<VolumeId>) =
            if changes.can_tell_since(self.version) {
                let since = self.version;
                (changes.changed_since(since).collect(), changes.deleted_since(since).collect())
            } else {
                let is_gone = |id: &&VolumeId| !state.volumes.contains_key(id);
                let gone = self.volumes.keys().filter(is_gone).copied().collect();
                (state.volumes.keys().copied().collect(), gone)
            };
        self.version = changes.version();
        let configs: Vec<_> = changed.iter().filter_map(|id| state.volume(*id)).collect();
        let is_new = |config: &&&VolumeConfig| !self.volumes.contains_key(&config.id);
        let mut happenings = growths(configs.iter().filter(is_new).copied());
        for config in configs {
            let now = SeenVolume {
                is_writable: is_writable(config),
                // Of a volume that is made now it is known.
                is_full: self.volumes.get(&config.id).map_or(Some(false), |seen| seen.is_full),
            };
            let before = self.volumes.insert(config.id, now);
            happenings.extend(volume_happening(before, now, config));
        }
        for id in deleted {
            if self.volumes.remove(&id).is_some() {
                happenings.push(Happening::of_volume(EventKind::VolumeDeleted, id, "was deleted"));
            }
        }
        happenings
    }

    fn look_at_fullness(&mut self, layouts: &Layouts) -> Vec<Happening> {
        let mut happenings = Vec::new();
        for (id, volume) in &layouts.volumes {
            let is_full = match volume.standing {
                Standing::Full => true,
                Standing::Writable | Standing::Closed => false,
                // Something graver hides it.
                _ => continue,
            };
            let Some(seen) = self.volumes.get_mut(id) else { continue };
            if seen.is_full.replace(is_full) == Some(false) && is_full {
                let what = "is full: it gets no new needles";
                happenings.push(Happening::of_volume(EventKind::VolumeFull, *id, what));
            }
        }
        happenings.sort_by_key(|happening| happening.volume);
        happenings
    }
}

fn is_writable(config: &VolumeConfig) -> bool {
    config.state == VolumeState::Writable
}

fn server_happening(
    before: Option<&SeenServer>,
    now: &SeenServer,
    server: &VolumeServer,
) -> Option<Happening> {
    let was_there = before.map(|before| before.is_there);
    let is_same_run = before.is_some_and(|before| before.incarnation == now.incarnation);
    let (kind, what) = match (was_there, now.is_there) {
        (None, true) => {
            let place = format!("joined: {}, {}", server.data_center, server.rack);
            return Some(Happening::of_server(EventKind::Joined, server, &place));
        }
        (Some(false), true) if is_same_run => (EventKind::Returned, "is heard again"),
        (Some(false), true) => (EventKind::Returned, "is back: it was started again"),
        (Some(true), true) if !is_same_run => (EventKind::Restarted, "was started again"),
        (Some(true), false) => (EventKind::Left, absence(server)),
        _ => return None,
    };
    Some(Happening::of_server(kind, server, what))
}

fn absence(server: &VolumeServer) -> &'static str {
    match server.loss {
        _ if server.stopping => "left: it stops",
        Some(Loss::Died) => {
            "left: its process is gone; its volumes are out of use until it returns"
        }
        _ => "left: it is silent; its volumes are out of use until it returns",
    }
}

fn volume_happening(
    before: Option<SeenVolume>,
    now: SeenVolume,
    config: &VolumeConfig,
) -> Option<Happening> {
    let (kind, what) = match before.map(|before| before.is_writable) {
        None if config.closed => {
            let what = "was admitted: it is readable and gets no new needles";
            (EventKind::VolumeAdmitted, what.to_owned())
        }
        None => (EventKind::VolumeCreated, format!("was created in {}", collection_of(config))),
        Some(true) if !now.is_writable => (EventKind::VolumeSealed, "is read-only".to_owned()),
        Some(false) if now.is_writable => (EventKind::VolumeOpened, "is writable again".to_owned()),
        Some(_) => return None,
    };
    Some(Happening::of_volume(kind, config.id, what))
}

fn collection_of(config: &VolumeConfig) -> String {
    match config.collection.is_default() {
        true => "the default collection".to_owned(),
        false => format!("collection {}", config.collection),
    }
}

/// One for each layout that got volumes.
fn growths<'a>(new: impl Iterator<Item = &'a VolumeConfig>) -> Vec<Happening> {
    let mut layouts: BTreeMap<LayoutKey, (usize, String)> = BTreeMap::new();
    for config in new.filter(|config| !config.closed) {
        let grown = layouts.entry(LayoutKey::of(config));
        grown.or_insert_with(|| (0, collection_of(config))).0 += 1;
    }
    let happening = |(key, (count, collection)): (LayoutKey, (usize, String))| {
        let noun = if count == 1 { "volume" } else { "volumes" };
        let mut text =
            format!("{collection} grows by {count} {noun}, replication {}", key.placement);
        if !key.ttl.is_none() {
            text.push_str(&format!(", ttl {}", key.ttl));
        }
        Happening { kind: EventKind::Grown, server: None, volume: None, text }
    };
    layouts.into_iter().map(happening).collect()
}

#[cfg(test)]
mod tests {
    use dulse_shared::{
        clock::BootTime,
        wire::{Epoch, Heartbeat, LocalState, VolumeReport},
    };

    use super::*;
    use crate::{
        cluster_state::{Command, Deletion, Seal},
        testing::{LIMIT, heartbeat, plain_layout, report, server, volume},
        topology::SILENCE_LIMIT,
    };

    /// A master's view, and what it has seen happen.
    #[derive(Default)]
    struct Master {
        state: ClusterState,
        topology: Topology,
        observer: Observer,
        millis: u64,
    }

    impl Master {
        fn leading() -> Self {
            let mut master = Self::default();
            assert!(master.observer.look_at_leader(&leadership("a:1", true), 0).is_some());
            master
        }

        fn now(&self) -> BootTime {
            BootTime::default().plus(std::time::Duration::from_millis(self.millis))
        }

        fn hear(&mut self, heartbeat: Heartbeat) {
            let now = self.now();
            self.topology.receive(heartbeat, now).unwrap();
        }

        fn create(&mut self, count: usize) {
            let layout = plain_layout();
            self.state.apply(&Command::CreateVolumes {
                collection: layout.collection,
                placement: layout.placement,
                ttl: layout.ttl,
                disk: layout.disk,
                members: vec![vec![(server(1), Incarnation(1))]; count],
            });
        }

        fn look(&mut self) -> Vec<EventKind> {
            let layouts = Layouts::build(&self.state, &self.topology, LIMIT);
            let happenings = self.observer.look(&self.state, &self.topology, &layouts);
            happenings.into_iter().map(|happening| happening.kind).collect()
        }
    }

    fn leadership(leader: &str, is_leader: bool) -> Leadership {
        Leadership { is_leader, term: 3, leader: Some(leader.parse().unwrap()) }
    }

    fn next(seq: u64, volumes: Vec<VolumeReport>) -> Heartbeat {
        Heartbeat { seq, since: seq - 1, ..heartbeat(1, volumes) }
    }

    fn full(n: u32) -> VolumeReport {
        VolumeReport { local: LocalState::Full, ..report(n) }
    }

    #[test]
    fn a_server_joins_once_leaves_and_returns() {
        use EventKind::{Joined, Left, Restarted, Returned};
        let mut master = Master::leading();
        master.hear(heartbeat(1, Vec::new()));
        assert_eq!(master.look(), [Joined]);
        master.hear(next(2, Vec::new()));
        assert_eq!(master.look(), []);
        master.millis += u64::try_from(SILENCE_LIMIT.as_millis()).unwrap();
        master.topology.expire(master.now());
        assert_eq!((master.look(), master.look()), (vec![Left], vec![]));
        master.hear(next(3, Vec::new()));
        assert_eq!(master.look(), [Returned]);
        master.hear(Heartbeat { incarnation: Incarnation(2), ..heartbeat(1, Vec::new()) });
        assert_eq!(master.look(), [Restarted]);
        let run = Incarnation(2);
        master.hear(Heartbeat { incarnation: run, stopping: true, ..next(2, Vec::new()) });
        assert_eq!(master.look(), [Left]);
        master.topology.declare_dead(server(1), run);
        assert_eq!(master.look(), [], "it had left");
        master.hear(Heartbeat { incarnation: Incarnation(3), ..heartbeat(1, Vec::new()) });
        assert_eq!(master.look(), [Returned]);
    }

    #[test]
    fn volumes_are_created_sealed_opened_filled_and_deleted() {
        use EventKind::{Grown, VolumeCreated, VolumeDeleted, VolumeFull, VolumeSealed};
        let mut master = Master::leading();
        master.hear(heartbeat(1, Vec::new()));
        master.look();
        master.create(2);
        assert_eq!(master.look(), [Grown, VolumeCreated, VolumeCreated]);
        master.hear(next(2, vec![report(1), report(2)]));
        assert_eq!(master.look(), []);
        master.hear(next(3, vec![full(2)]));
        assert_eq!((master.look(), master.look()), (vec![VolumeFull], vec![]));
        master.topology.declare_dead(server(1), Incarnation(1));
        assert_eq!(master.look(), [EventKind::Left]);
        master.hear(next(4, Vec::new()));
        assert_eq!(master.look(), [EventKind::Returned], "it was full before");
        master.hear(next(5, vec![report(2)]));
        master.look();
        master.hear(next(6, vec![full(2)]));
        assert_eq!(master.look(), [VolumeFull], "it was vacuumed and filled again");
        let seal =
            Seal { id: volume(1), epoch: Epoch(1), members: vec![(server(1), Incarnation(1))] };
        master.state.apply(&Command::SealVolumes { volumes: vec![seal] });
        assert_eq!(master.look(), [VolumeSealed]);
        let volumes = vec![Deletion { id: volume(1), epoch: Epoch(2) }];
        master.state.apply(&Command::DeleteVolumes { volumes });
        assert_eq!(master.look(), [VolumeDeleted]);
    }

    #[test]
    fn what_was_there_before_the_master_is_no_event() {
        let mut master = Master::default();
        master.create(1);
        assert_eq!(master.look(), [], "from a snapshot");
        master.create(1);
        let (other, version) = (leadership("b:1", false), master.state.changes.version());
        assert!(master.observer.look_at_leader(&other, version).is_some());
        assert_eq!(master.look(), [], "read from the log again");
        assert!(master.observer.look_at_leader(&other, version).is_none());
        master.hear(heartbeat(1, vec![full(1), report(2)]));
        assert_eq!(master.look(), [EventKind::Joined], "that volume 1 was full is no news");
        master.create(1);
        assert_eq!(master.look(), [EventKind::Grown, EventKind::VolumeCreated]);
        assert!(master.observer.look_at_leader(&leadership("c:1", false), 9).is_some());
    }
}
