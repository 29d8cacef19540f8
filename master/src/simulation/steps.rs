//! What happens in a simulated cluster, one thing at a time, drawn by chance.

use dulse_shared::{
    id::VolumeId,
    wire::{Epoch, ForeignVolume, LocalState, VolumeReport},
};
use rand::RngExt;

use super::{
    invariants::{Checked, Violation},
    plans::Failed,
    world::World,
};
use crate::{
    cluster_state::Command,
    placement::LocationWish,
    testing::{LIMIT, foreign, report, report_of, volume},
};

/// Ids that are in use nowhere, for reports of volumes that nobody agreed on.
const UNKNOWN_IDS: u32 = 4_000_000_000;

impl World {
    /// One thing happens, and then everything is looked at.
    pub(super) fn step(&mut self) -> Checked {
        let millis = self.rng.random_range(0..700);
        self.pass(millis);
        match self.rng.random_range(0..100) {
            0..30 => {}
            30..45 => self.write(),
            45..50 => self.deliver_late(),
            50..58 => self.grow_somewhere()?,
            58..64 => self.restart_or_stop(),
            64..68 => self.change_a_dir(),
            68..74 => self.lie(),
            74..78 => self.bring_a_foreign_volume(),
            78..82 => self.expire_a_volume(),
            82..86 => self.grant()?,
            88..90 => self.restart_master(),
            86..88 if self.servers.len() < 2 * usize::try_from(self.size.servers).unwrap() => {
                self.join();
            }
            _ => {
                self.plan_and_do(&mut Failed::new())?;
            }
        }
        self.beat(true);
        self.tick();
        self.check()
    }

    fn random_server(&mut self) -> usize {
        self.rng.random_range(0..self.servers.len())
    }

    fn random_volume_of(&mut self, server: usize) -> Option<VolumeId> {
        let volumes = &self.servers[server].volumes;
        if volumes.is_empty() {
            return None;
        }
        let index = self.rng.random_range(0..volumes.len());
        volumes.keys().nth(index).copied()
    }

    fn write(&mut self) {
        let server = self.random_server();
        let (bytes, fails) = (self.rng.random_range(0..LIMIT), self.rng.random_bool(0.05));
        let Some(id) = self.random_volume_of(server) else {
            return;
        };
        let Some((report, _)) = self.servers[server].volumes.get_mut(&id) else {
            return;
        };
        report.size_bytes += bytes;
        report.live_needles += 1;
        report.live_bytes += bytes;
        match report.local {
            LocalState::Ready if fails => report.local = LocalState::Failed,
            LocalState::Ready if report.size_bytes >= LIMIT => report.local = LocalState::Full,
            _ => {}
        }
    }

    fn grow_somewhere(&mut self) -> Result<(), Violation> {
        let key = self.keys[self.rng.random_range(0..self.keys.len())].clone();
        let server = self.random_server();
        let wanted = &self.servers[server];
        let url = format!("host{}:{}", wanted.host, 8080 + wanted.number);
        let (center, rack) = (wanted.data_center.clone(), wanted.rack.clone());
        let mut some = |name: String| self.rng.random_bool(0.15).then_some(name);
        let wish =
            LocationWish { data_center: some(center), rack: some(rack), data_node: some(url) };
        self.grow(&key, &wish).map(|_| ())
    }

    fn restart_or_stop(&mut self) {
        let server = self.random_server();
        let (stops, moves) = (self.rng.random_bool(0.4), self.rng.random_bool(0.2));
        let rack = format!("r{}", self.rng.random_range(0..4));
        let server = &mut self.servers[server];
        match (server.is_up, server.is_stopping) {
            (true, false) if stops => server.is_stopping = true,
            (true, _) if stops => server.is_up = false,
            _ => {
                server.restart();
                if moves {
                    server.rack = rack;
                }
            }
        }
    }

    fn change_a_dir(&mut self) {
        let server = self.random_server();
        let (is_low, is_lost) = (self.rng.random_bool(0.3), self.rng.random_bool(0.2));
        let index = self.rng.random_range(0..self.servers[server].dirs.len());
        let dir = &mut self.servers[server].dirs[index];
        (dir.is_low, dir.is_lost) = (is_low, is_lost);
    }

    /// A server reports what cannot be, or stops doing so.
    fn lie(&mut self) {
        let server = self.random_server();
        if self.rng.random_bool(0.4) {
            self.servers[server].lies.clear();
            return;
        }
        let own = self.random_volume_of(server);
        let other = self.random_server();
        let others = self.random_volume_of(other);
        let truth = |id: Option<VolumeId>| self.machines[0].volume(id?).map(report_of);
        let lie = match self.rng.random_range(0..4) {
            0 => Some(report(UNKNOWN_IDS + self.rng.random_range(0..3))),
            1 => truth(others),
            2 => truth(own).map(|lie| VolumeReport { epoch: Epoch(lie.epoch.0 + 5), ..lie }),
            _ => {
                let collection = "another".parse().unwrap();
                truth(own).map(|lie| VolumeReport { collection, ..lie })
            }
        };
        let server = &mut self.servers[server];
        if let Some(lie) = lie.filter(|_| server.is_up) {
            server.lies.insert(lie.id, lie);
        }
    }

    fn bring_a_foreign_volume(&mut self) {
        let server = self.random_server();
        let id = self.rng.random_range(1..self.machines[0].next_volume_id.saturating_add(5).max(2));
        let placement = ["000", "000", "001"][self.rng.random_range(0..3)];
        let brought = ForeignVolume { id: volume(id), ..foreign(id, placement) };
        let server = &mut self.servers[server];
        let has_id = server.volumes.contains_key(&brought.id)
            || server.foreign.iter().any(|foreign| foreign.id == brought.id);
        if !has_id && server.foreign.len() < 3 {
            server.foreign.push(brought);
        }
    }

    /// The time of a volume with a ttl is over, on all that have it or on some.
    fn expire_a_volume(&mut self) {
        let with_ttl: Vec<VolumeId> = {
            let volumes = self.machines[0].volumes.values();
            volumes.filter(|config| !config.ttl.is_none()).map(|config| config.id).collect()
        };
        if with_ttl.is_empty() {
            return;
        }
        let id = with_ttl[self.rng.random_range(0..with_ttl.len())];
        for index in 0..self.servers.len() {
            if self.rng.random_bool(0.9)
                && let Some((report, _)) = self.servers[index].volumes.get_mut(&id)
            {
                report.local = LocalState::Expired;
            }
        }
    }

    fn grant(&mut self) -> Result<(), Violation> {
        let count = self.rng.random_range(1..1000);
        let at_least = self.rng.random_range(0..100_000);
        self.commit(&Command::GrantKeys { count, at_least }).map(|_| ())
    }
}
