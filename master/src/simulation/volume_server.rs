//! A simulated volume server: what it has, what it says, and to whom it said what.

use std::collections::BTreeMap;

use dulse_shared::{
    id::{ServerId, VolumeId},
    wire::{DirReport, ForeignVolume, Heartbeat, Incarnation, VolumeConfig, VolumeReport},
};

use crate::testing::{dir, heartbeat, report_of, server};

/// What a report lists.
pub(super) type View = BTreeMap<VolumeId, VolumeReport>;

/// A server.
#[derive(Clone)]
pub(super) struct SimServer {
    pub(super) number: u128,
    pub(super) id: ServerId,
    pub(super) incarnation: Incarnation,
    pub(super) is_up: bool,
    pub(super) is_stopping: bool,
    pub(super) data_center: String,
    pub(super) rack: String,
    pub(super) host: u32,
    pub(super) dirs: Vec<SimDir>,
    /// Its volumes and the directory of each.
    pub(super) volumes: BTreeMap<VolumeId, (VolumeReport, usize)>,
    pub(super) foreign: Vec<ForeignVolume>,
    /// What it says instead of the truth, or beside it.
    pub(super) lies: View,
    /// For each master.
    links: Vec<Link>,
}

/// A data directory.
#[derive(Clone)]
pub(super) struct SimDir {
    pub(super) slots: u32,
    pub(super) is_low: bool,
    /// Unmounted: nothing in it is there.
    pub(super) is_lost: bool,
}

#[derive(Clone, Default)]
struct Link {
    seq: u64,
    acknowledged: u64,
    sent: BTreeMap<u64, View>,
}

impl SimServer {
    pub(super) fn new(number: u128, masters: usize) -> Self {
        Self {
            number,
            id: server(number),
            incarnation: Incarnation(1),
            is_up: true,
            is_stopping: false,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            host: 0,
            dirs: Vec::new(),
            volumes: BTreeMap::new(),
            foreign: Vec::new(),
            lies: View::new(),
            links: vec![Link::default(); masters],
        }
    }

    /// Another run, with everything that is on its disks.
    pub(super) fn restart(&mut self) {
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        (self.is_up, self.is_stopping) = (true, false);
        self.lies.clear();
        self.links.fill(Link::default());
    }

    /// What it reports now, lies included.
    pub(super) fn view(&self) -> View {
        let there = self.volumes.values().filter(|(_, dir)| !self.dirs[*dir].is_lost);
        let mut view: View = there.map(|(report, _)| (report.id, report.clone())).collect();
        view.extend(self.lies.iter().map(|(id, lie)| (*id, lie.clone())));
        view
    }

    /// The next report to a master: what changed since the last one that it acknowledged.
    pub(super) fn beat(&mut self, master: usize) -> Heartbeat {
        let view = self.view();
        let link = &mut self.links[master];
        link.seq += 1;
        let base = link.sent.get(&link.acknowledged);
        let is_new = |report: &&VolumeReport| base.and_then(|b| b.get(&report.id)) != Some(report);
        let volumes: Vec<VolumeReport> = view.values().filter(is_new).cloned().collect();
        let gone = base.into_iter().flat_map(View::keys).filter(|id| !view.contains_key(id));
        let gone = gone.copied().collect();
        let (seq, since) = (link.seq, if base.is_some() { link.acknowledged } else { 0 });
        link.sent.insert(seq, view);
        Heartbeat {
            incarnation: self.incarnation,
            url: format!("host{}:{}", self.host, 8080 + self.number),
            data_center: self.data_center.clone(),
            rack: self.rack.clone(),
            seq,
            since,
            dirs: self.dir_reports(),
            gone,
            foreign: self.foreign.clone(),
            stopping: self.is_stopping,
            ..heartbeat(self.number, volumes)
        }
    }

    /// A master's answer arrived.
    pub(super) fn acknowledge(&mut self, master: usize, acknowledged: u64) {
        let link = &mut self.links[master];
        link.acknowledged = acknowledged;
        link.sent.retain(|seq, _| *seq >= acknowledged);
    }

    fn dir_reports(&self) -> Vec<DirReport> {
        let report = |(index, dir_state): (usize, &SimDir)| DirReport {
            is_low: dir_state.is_low || dir_state.is_lost,
            free_bytes: u64::from(dir_state.slots) << 30,
            min_free_bytes: 0,
            ..dir(dir_state.slots, self.held(index))
        };
        self.dirs.iter().enumerate().map(report).collect()
    }

    /// Volumes in a directory, foreign ones included.
    fn held(&self, index: usize) -> u32 {
        let own = self.volumes.values().filter(|(_, dir)| *dir == index).count();
        let foreign = if index == 0 { self.foreign.len() } else { 0 };
        u32::try_from(own + foreign).unwrap()
    }

    /// A directory that can take a volume.
    fn roomy_dir(&self) -> Option<usize> {
        (0..self.dirs.len()).find(|index| {
            let dir = &self.dirs[*index];
            !dir.is_low && !dir.is_lost && self.held(*index) < dir.slots
        })
    }

    /// Makes a volume, if the run that was asked is this one and there is room.
    pub(super) fn create(
        &mut self,
        config: &VolumeConfig,
        run: Incarnation,
    ) -> Option<VolumeReport> {
        if !self.is_up || run != self.incarnation {
            return None;
        }
        if let Some((report, dir)) = self.volumes.get(&config.id) {
            // It remembers what was in a directory that it lost.
            return (!self.dirs[*dir].is_lost).then(|| report.clone());
        }
        let dir = self.roomy_dir()?;
        let report = report_of(config);
        self.volumes.insert(config.id, (report.clone(), dir));
        Some(report)
    }

    /// Takes over a configuration: of a foreign file, that it is no longer one.
    pub(super) fn take_over(&mut self, config: &VolumeConfig) {
        if let Some(at) = self.foreign.iter().position(|foreign| foreign.id == config.id) {
            self.foreign.remove(at);
            self.volumes.insert(config.id, (report_of(config), 0));
        }
        if let Some((report, _)) = self.volumes.get_mut(&config.id) {
            report.epoch = report.epoch.max(config.epoch);
        }
    }
}
