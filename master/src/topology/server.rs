//! One volume server as its heartbeats describe it.
//!
//! Reports are numbered and state absolute facts, so applying one twice changes nothing. What
//! this server was told to create and answered with a report is known at once, and stays known
//! when a heartbeat that was written before the creation arrives after it.

use std::collections::{BTreeMap, BTreeSet};

use dulse_shared::{
    clock::BootTime,
    id::{ServerId, VolumeId},
    wire::{
        DirReport, DiskType, ForeignVolume, Heartbeat, Incarnation, MAX_UNSERVED, UnservedVolume,
        VolumeReport, bounded_sentence,
    },
};

/// The data center of a server that names none.
const DEFAULT_DATA_CENTER: &str = "DefaultDataCenter";
/// The rack of a server that names none.
const DEFAULT_RACK: &str = "DefaultRack";

/// How much of the picture a report changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Sizes and counts of volumes, and the room of directories.
    Sizes,
    /// Who holds what, where it is reached, or whether it takes writes.
    Layout,
}

/// Why a server is taken for dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// Its process is not there any more.
    Died,
    /// Nothing was heard of it.
    Silent,
}

/// A volume server that has reported at least once.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct VolumeServer {
    /// Who it is, whatever its address.
    pub(crate) id: ServerId,
    /// Its present run.
    pub(crate) incarnation: Incarnation,
    /// The program's version.
    pub(crate) version: String,
    /// `host:port` of its public listener, for the cluster.
    pub(crate) url: String,
    /// The same for clients outside.
    pub(crate) public_url: String,
    /// `host:port` of its cluster listener.
    pub(crate) cluster_url: String,
    /// Its data center, never empty.
    pub(crate) data_center: String,
    /// Its rack, never empty.
    pub(crate) rack: String,
    /// The last report taken in; 0 when a full one is awaited.
    pub(crate) seq: u64,
    /// Its data directories.
    pub(crate) dirs: Vec<DirReport>,
    /// Its volumes.
    pub(crate) volumes: BTreeMap<VolumeId, VolumeReport>,
    /// Volume files of no cluster.
    pub(crate) foreign: Vec<ForeignVolume>,
    /// Volumes that have files there and cannot be served.
    pub(crate) unserved: Vec<UnservedVolume>,
    /// It is about to stop.
    pub(crate) stopping: bool,
    /// When it was last heard.
    pub(crate) heard: BootTime,
    /// It was heard lately, and not only about to be given up.
    pub(crate) is_alive: bool,
    /// Why it is not alive, once it was.
    pub(crate) loss: Option<Loss>,
    /// Volumes known from the answer to their creation that no heartbeat has mentioned yet.
    unmentioned: BTreeMap<VolumeId, BootTime>,
    /// Volumes that this run of the server had and has no more.
    withdrawn: BTreeSet<VolumeId>,
}

impl VolumeServer {
    /// A server with nothing, that the first report is then applied to.
    pub(super) fn new(heartbeat: &Heartbeat, now: BootTime) -> Self {
        Self {
            id: heartbeat.server,
            incarnation: heartbeat.incarnation,
            version: String::new(),
            url: String::new(),
            public_url: String::new(),
            cluster_url: String::new(),
            data_center: String::new(),
            rack: String::new(),
            seq: 0,
            dirs: Vec::new(),
            volumes: BTreeMap::new(),
            foreign: Vec::new(),
            unserved: Vec::new(),
            stopping: false,
            heard: now,
            is_alive: false,
            loss: None,
            unmentioned: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
        }
    }

    /// Takes in a report whose number and base were found to fit.
    pub(super) fn apply(&mut self, heartbeat: Heartbeat, now: BootTime) -> Change {
        let about_server = self.describe(&heartbeat);
        let Heartbeat { seq, since, dirs, volumes, gone, foreign, unserved, .. } = heartbeat;
        let about_foreign = if self.foreign == foreign { Change::None } else { Change::Layout };
        let about_room = if self.dirs == dirs { Change::None } else { Change::Sizes };
        self.dirs = dirs;
        self.foreign = foreign;
        self.unserved = bounded(unserved);
        self.seq = seq;
        let about_volumes = if since == 0 {
            self.replace_volumes(volumes, now)
        } else {
            self.update_volumes(volumes, &gone).max(self.forget_unmentioned(now))
        };
        about_server.max(about_foreign).max(about_room).max(about_volumes)
    }

    /// Name, addresses and place.
    fn describe(&mut self, heartbeat: &Heartbeat) -> Change {
        let before = self.clone_identity();
        self.version.clone_from(&heartbeat.version);
        self.url.clone_from(&heartbeat.url);
        self.public_url.clone_from(&heartbeat.public_url);
        if self.public_url.is_empty() {
            self.public_url.clone_from(&heartbeat.url);
        }
        self.cluster_url.clone_from(&heartbeat.cluster_url);
        self.data_center = or_default(&heartbeat.data_center, DEFAULT_DATA_CENTER);
        self.rack = or_default(&heartbeat.rack, DEFAULT_RACK);
        self.stopping = heartbeat.stopping;
        if before == self.clone_identity() { Change::None } else { Change::Layout }
    }

    fn clone_identity(&self) -> ([String; 5], bool) {
        let texts = [
            self.url.clone(),
            self.public_url.clone(),
            self.cluster_url.clone(),
            self.data_center.clone(),
            self.rack.clone(),
        ];
        (texts, self.stopping)
    }

    /// A full report lists everything, but for what was created while it was under way.
    fn replace_volumes(&mut self, volumes: Vec<VolumeReport>, now: BootTime) -> Change {
        if self.volumes.is_empty() && !volumes.is_empty() {
            // Made in one go the map is packed; one by one, half of its room would stay empty.
            self.volumes = volumes.into_iter().map(|report| (report.id, report)).collect();
            return Change::Layout;
        }
        let listed: BTreeSet<VolumeId> = volumes.iter().map(|v| v.id).collect();
        let vanished: Vec<VolumeId> = self
            .volumes
            .keys()
            .filter(|id| !listed.contains(id) && !self.is_trusted_unmentioned(**id, now))
            .copied()
            .collect();
        self.update_volumes(volumes, &vanished)
    }

    /// What was created and is in no report by now was lost before it could be reported: no later
    /// report would say that it is gone.
    fn forget_unmentioned(&mut self, now: BootTime) -> Change {
        let ids: Vec<VolumeId> = self.unmentioned.keys().copied().collect();
        let lost: Vec<VolumeId> =
            ids.into_iter().filter(|id| !self.is_trusted_unmentioned(*id, now)).collect();
        self.update_volumes(Vec::new(), &lost)
    }

    fn update_volumes(&mut self, volumes: Vec<VolumeReport>, gone: &[VolumeId]) -> Change {
        let mut change = Change::None;
        for id in gone {
            self.unmentioned.remove(id);
            if self.volumes.remove(id).is_some() {
                self.withdrawn.insert(*id);
                change = Change::Layout;
            }
        }
        for report in volumes {
            self.unmentioned.remove(&report.id);
            change = change.max(self.put_report(report));
        }
        change
    }

    fn put_report(&mut self, report: VolumeReport) -> Change {
        let change = match self.volumes.get(&report.id) {
            Some(old) if *old == report => Change::None,
            Some(old) if old.epoch == report.epoch && old.local == report.local => Change::Sizes,
            _ => Change::Layout,
        };
        if change > Change::None {
            self.volumes.insert(report.id, report);
        }
        change
    }

    /// Takes in the answer to a creation, so that the volume is used before the next heartbeat.
    pub(super) fn fold_creation(&mut self, report: VolumeReport, now: BootTime) -> Change {
        if self.volumes.contains_key(&report.id) {
            return Change::None;
        }
        self.unmentioned.insert(report.id, now);
        self.put_report(report)
    }

    /// A report on its way for longer than the silence after which a server is given up does not
    /// exist: what is unmentioned after that is not there.
    fn is_trusted_unmentioned(&self, id: VolumeId, now: BootTime) -> bool {
        self.unmentioned.get(&id).is_some_and(|since| now.since(*since) < super::SILENCE_LIMIT)
    }

    /// Whether the slots that its directories report include this volume's.
    pub(crate) fn counts_in_slots(&self, id: VolumeId) -> bool {
        self.volumes.contains_key(&id) && !self.unmentioned.contains_key(&id)
    }

    /// Whether this run of the server has, or had, the volume.
    pub(crate) fn ever_had(&self, id: VolumeId) -> bool {
        self.volumes.contains_key(&id) || self.withdrawn.contains(&id)
    }

    /// Why it does not serve a volume that it has files of, if so.
    pub(crate) fn unserved_reason(&self, id: VolumeId) -> Option<&str> {
        let volume = self.unserved.iter().find(|volume| volume.id == id)?;
        Some(&volume.reason)
    }

    /// Whether new volumes and writes may be sent there.
    pub(crate) fn takes_writes(&self) -> bool {
        self.is_alive && !self.stopping
    }

    /// Volumes it may hold, over all directories.
    pub(crate) fn max_volumes(&self) -> u64 {
        self.dirs.iter().map(|dir| u64::from(dir.max_volumes)).sum()
    }

    /// Volume slots that are empty in directories of this kind which have room, or of any kind.
    pub(crate) fn empty_slots(&self, disk: Option<&DiskType>) -> u64 {
        self.roomy_dirs(disk)
            .map(|dir| u64::from(dir.max_volumes.saturating_sub(dir.volumes)))
            .sum()
    }

    /// Free bytes in directories of this kind which have room.
    pub(crate) fn free_bytes(&self, disk: &DiskType) -> u64 {
        self.roomy_dirs(Some(disk)).map(|dir| dir.free_bytes).sum()
    }

    fn roomy_dirs<'a>(&'a self, disk: Option<&'a DiskType>) -> impl Iterator<Item = &'a DirReport> {
        self.dirs.iter().filter(move |dir| !dir.is_low && disk.is_none_or(|disk| dir.disk == *disk))
    }
}

/// A server that says too much cannot fill the memory.
fn bounded(unserved: Vec<UnservedVolume>) -> Vec<UnservedVolume> {
    let short = |volume: UnservedVolume| UnservedVolume {
        reason: bounded_sentence(&volume.reason),
        ..volume
    };
    unserved.into_iter().take(MAX_UNSERVED).map(short).collect()
}

fn or_default(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}
