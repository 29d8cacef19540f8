//! A simulated cluster: volume servers, a network that loses, delays and repeats, two masters'
//! topologies and three state machines.

use std::{collections::BTreeSet, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::{ServerId, VolumeId},
    wire::Heartbeat,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    flaw::Flaw,
    invariants::{self, Checked},
    volume_server::{SimDir, SimServer},
};
use crate::{
    cluster_state::{ClusterState, Command, Outcome},
    heartbeat::{deleted_volumes, newer_configs},
    testing::LIMIT,
    topology::Topology,
    volume_layout::{LayoutKey, Layouts, Place},
};

/// The master that leads, and one that follows and hears the servers in its own way.
pub(super) const MASTERS: usize = 2;
pub(super) const LEADER: usize = 0;

/// How large a cluster is drawn.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) servers: u128,
    pub(super) slots: u32,
    pub(super) steps: usize,
}

pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) flaw: Option<Flaw>,
    pub(super) size: Size,
    pub(super) now: BootTime,
    pub(super) servers: Vec<SimServer>,
    pub(super) topologies: Vec<Topology>,
    /// Hears everything that the leader hears twice.
    pub(super) echo: Topology,
    /// Reports on their way for longer.
    pub(super) late: Vec<(usize, Heartbeat)>,
    /// State machines; the second is a snapshot now and then.
    pub(super) machines: Vec<ClusterState>,
    pub(super) layouts: Layouts,
    pub(super) keys: Vec<LayoutKey>,
    pub(super) used_ids: BTreeSet<VolumeId>,
    pub(super) granted: Vec<(u64, u64)>,
}

impl World {
    pub(super) fn new(seed: u64, size: Size, flaw: Option<Flaw>) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            flaw,
            size,
            now: BootTime::default().plus(Duration::from_secs(60)),
            servers: Vec::new(),
            topologies: vec![Topology::default(); MASTERS],
            echo: Topology::default(),
            late: Vec::new(),
            machines: vec![ClusterState::default(); 3],
            layouts: Layouts::default(),
            keys: Vec::new(),
            used_ids: BTreeSet::new(),
            granted: Vec::new(),
        };
        for _ in 0..size.servers {
            world.join();
        }
        for _ in 0..3 {
            let key = world.drawn_layout();
            world.keys.push(key);
        }
        world
    }

    fn drawn_layout(&mut self) -> LayoutKey {
        const PLACEMENTS: [&str; 8] = ["000", "000", "001", "010", "100", "002", "011", "110"];
        let key = crate::testing::plain_layout();
        LayoutKey {
            collection: ["", "pics"][self.rng.random_range(0..2)].parse().unwrap(),
            placement: PLACEMENTS[self.rng.random_range(0..PLACEMENTS.len())].parse().unwrap(),
            ttl: ["", "1m"][self.rng.random_range(0..2)].parse().unwrap(),
            ..key
        }
    }

    pub(super) fn flawed(&mut self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw) && self.rng.random_bool(0.5)
    }

    pub(super) fn state(&self) -> &ClusterState {
        &self.machines[0]
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis));
    }

    /// A new server; a machine has one rack and sometimes runs two of them.
    pub(super) fn join(&mut self) {
        let number = self.servers.len() as u128 + 1;
        let machines = u32::try_from(self.size.servers).unwrap();
        let dirs = self.rng.random_range(1..3);
        let slots = self.size.slots;
        let drawn = (0..dirs).map(|_| self.rng.random_range(slots / 2..=slots)).collect::<Vec<_>>();
        let host = self.rng.random_range(0..machines);
        let mut server = SimServer::new(number, MASTERS);
        server.dirs = drawn
            .into_iter()
            .map(|slots| SimDir { slots, is_low: false, is_lost: false })
            .collect();
        server.host = host;
        server.data_center = format!("dc{}", host % 2);
        server.rack = format!("r{}", host / 2 % 3);
        self.servers.push(server);
    }

    /// Commits a command on every state machine.
    pub(super) fn commit(&mut self, command: &Command) -> Result<Outcome, invariants::Violation> {
        // Of a large state it takes a second.
        let snapshots = if self.machines[0].volumes.len() > 5_000 { 0.001 } else { 0.1 };
        if self.rng.random_bool(snapshots) {
            self.restore_from_snapshot();
        }
        if matches!(command, Command::CreateVolumes { .. }) && self.flawed(Flaw::VolumeIdsAgain) {
            for machine in &mut self.machines {
                machine.next_volume_id = machine.next_volume_id.saturating_sub(1).max(1);
            }
        }
        if self.flawed(Flaw::KeysAgain) {
            self.machines.iter_mut().for_each(|machine| machine.next_key = 1);
        }
        let mut outcomes = Vec::new();
        for index in 0..self.machines.len() {
            if index == 2 && self.flawed(Flaw::MissedCommand) {
                continue;
            }
            outcomes.push(self.machines[index].apply(command));
        }
        let outcome = outcomes.swap_remove(0);
        if let (
            Outcome::Volumes { configs },
            Command::CreateVolumes { .. } | Command::AdmitVolume { .. },
        ) = (&outcome, command)
        {
            let state = &self.machines[0];
            invariants::volume_ids_are_used_once(&mut self.used_ids, configs, state)?;
        }
        if let Outcome::Keys { first, count } = &outcome {
            invariants::keys_are_granted_once(&mut self.granted, (*first, *count))?;
        }
        Ok(outcome)
    }

    fn restore_from_snapshot(&mut self) {
        let snapshot = serde_json::to_vec(&self.machines[1]).unwrap();
        self.machines[1] = serde_json::from_slice(&snapshot).unwrap();
        if self.flawed(Flaw::SnapshotForgetsDeleted) {
            self.machines[1].deleted = Default::default();
        }
    }

    /// Every server that runs reports to every master; with `faults`, not all of it arrives.
    pub(super) fn beat(&mut self, faults: bool) {
        for index in 0..self.servers.len() {
            for master in 0..MASTERS {
                // In a large cluster a step is shorter than the time between two reports.
                if !self.servers[index].is_up || (faults && self.rng.random_bool(0.2)) {
                    continue;
                }
                let report = self.servers[index].beat(master);
                if faults && self.rng.random_bool(0.1) {
                    if self.rng.random_bool(0.5) && self.late.len() < 50 {
                        self.late.push((master, report));
                    }
                    continue;
                }
                if faults && self.rng.random_bool(0.05) && self.late.len() < 50 {
                    self.late.push((master, report.clone()));
                }
                let answer = self.deliver(master, report);
                if let Some(acknowledged) = answer.filter(|_| !faults || self.rng.random_bool(0.9))
                {
                    self.servers[index].acknowledge(master, acknowledged);
                    self.configure(index, master);
                }
            }
        }
    }

    /// A report arrives; what the master then acknowledges.
    fn deliver(&mut self, master: usize, mut report: Heartbeat) -> Option<u64> {
        let known = self.topologies[master].server(report.server);
        let newest = known.map_or(0, |known| known.seq);
        if report.since > 0 && self.flawed(Flaw::GapsAreIgnored) {
            report.since = newest;
        }
        let received = self.topologies[master].receive(report.clone(), self.now);
        if master == LEADER {
            for _ in 0..2 {
                // The repeat of what was turned away is turned away.
                let _ = self.echo.receive(report.clone(), self.now);
            }
            if self.flawed(Flaw::RepeatsCount) {
                let (seq, since) = (report.seq + 1, report.seq);
                let gone =
                    self.echo.server(report.server).map(|s| s.volumes.keys().copied().collect());
                let repeat = Heartbeat { seq, since, gone: gone.unwrap_or_default(), ..report };
                let _ = self.echo.receive(repeat, self.now);
            }
        }
        received.ok().map(|received| received.acknowledged)
    }

    /// A master starts anew: it knows of no server.
    pub(super) fn restart_master(&mut self) {
        let master = self.rng.random_range(0..MASTERS);
        self.topologies[master] = Topology::default();
        if master == LEADER {
            self.echo = Topology::default();
        }
    }

    /// A late report arrives at last.
    pub(super) fn deliver_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.late.len());
        let (master, report) = self.late.swap_remove(index);
        self.deliver(master, report);
    }

    /// What the answer to a report tells its server.
    fn configure(&mut self, index: usize, master: usize) {
        let id = self.servers[index].id;
        let Some(known) = self.topologies[master].server(id) else {
            return;
        };
        let (newer, deleted) =
            (newer_configs(&self.machines[0], known), deleted_volumes(&self.machines[0], known));
        for config in newer {
            self.servers[index].take_over(&config);
        }
        for id in deleted {
            self.servers[index].volumes.remove(&id);
        }
    }

    /// Time passes, servers that are silent are given up, and the layouts are made anew.
    pub(super) fn tick(&mut self) {
        for topology in self.topologies.iter_mut().chain([&mut self.echo]) {
            topology.expire(self.now);
        }
        let built = Layouts::build(&self.machines[0], &self.topologies[LEADER], LIMIT);
        let before = std::mem::replace(&mut self.layouts, built);
        if self.flawed(Flaw::StaleLayouts) {
            self.layouts.layouts = before.layouts;
        }
        if self.flawed(Flaw::ContradictionsHidden) {
            self.layouts.contradictions.pop();
        }
        if self.flawed(Flaw::ContradictionsBelieved) {
            self.believe_contradictions();
        }
        if self.flawed(Flaw::CapacityCountedTwice) {
            self.layouts.capacity.free_slots *= 2;
        }
    }

    fn believe_contradictions(&mut self) {
        for shown in self.layouts.contradictions.clone() {
            let place = Place {
                server: shown.server,
                url: shown.url,
                public_url: String::new(),
                data_center: String::new(),
                rack: String::new(),
            };
            if let Some(placed) = self.layouts.volumes.get_mut(&shown.volume) {
                placed.holders = [std::sync::Arc::new(place)].into();
            }
        }
    }

    /// No faults for longer than the silence that means death: everybody knows everything.
    pub(super) fn settle(&mut self) {
        for _ in 0..6 {
            self.pass(400);
            self.beat(false);
        }
        self.tick();
    }

    pub(super) fn server(&self, id: ServerId) -> Option<&SimServer> {
        self.servers.get(usize::try_from(id.as_u128()).ok()?.checked_sub(1)?)
    }

    pub(super) fn server_mut(&mut self, id: ServerId) -> Option<&mut SimServer> {
        self.servers.get_mut(usize::try_from(id.as_u128()).ok()?.checked_sub(1)?)
    }

    /// What has to hold at any moment.
    pub(super) fn check(&self) -> Checked {
        let (state, topology) = (self.state(), &self.topologies[LEADER]);
        invariants::machines_agree(&self.machines)?;
        invariants::copies_are_on_different_servers(state)?;
        invariants::repeats_change_nothing(topology, &self.echo)?;
        invariants::writable_is_confirmed(state, topology, &self.layouts, LIMIT)?;
        invariants::contradictions_are_shown_and_not_believed(state, topology, &self.layouts)?;
        invariants::capacity_adds_up(topology, &self.layouts, LIMIT)
    }

    /// What has to hold once everybody was heard.
    pub(super) fn check_settled(&self) -> Checked {
        for topology in &self.topologies {
            invariants::topologies_show_what_is(topology, &self.servers)?;
        }
        self.check()
    }
}
