//! All volume servers that were heard, and which of them are alive.
//!
//! A report is taken in only if it is full or builds on exactly the one before: a replay changes
//! nothing, anything else is answered by asking for a full report. A server is dead after
//! [`SILENCE_LIMIT`] without a word; its entry stays, so that pages can say who is missing, until
//! it is of no interest.

use std::{collections::BTreeMap, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::{ServerId, VolumeId},
    wire::{Heartbeat, Incarnation, VolumeReport},
};

use super::server::{Change, Loss, VolumeServer};

/// A server that says nothing for this long is dead. Four heartbeats fit in.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(2);
/// A dead server is shown this long, so that somebody looking the next morning still sees it.
const REMEMBER_DEAD: Duration = Duration::from_secs(24 * 3600);
/// Servers in all, dead ones included. A stranger on the cluster port cannot fill the memory.
const MAX_SERVERS: usize = 10_000;

/// The volume servers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Topology {
    servers: BTreeMap<ServerId, VolumeServer>,
}

/// What became of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    /// The report the topology now stands at; 0 asks for a full one.
    pub(crate) acknowledged: u64,
    /// What it changed.
    pub(crate) change: Change,
}

/// Why a heartbeat was turned away.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Rejection {
    /// Another run of the same server is alive.
    #[error(
        "server {server} is already running at {url}: two servers must not share a data \
         directory or a copy of one; stop one of them, or give it an empty directory"
    )]
    Twin {
        /// The id both carry.
        server: ServerId,
        /// Where the other one is.
        url: String,
    },
    /// There is no place for another server.
    #[error("this master knows {MAX_SERVERS} volume servers already and takes no more")]
    TooMany,
}

impl Topology {
    /// Takes in a heartbeat.
    pub(crate) fn receive(
        &mut self,
        heartbeat: Heartbeat,
        now: BootTime,
    ) -> Result<Received, Rejection> {
        let is_full = heartbeat.since == 0;
        let Some(server) = self.servers.get_mut(&heartbeat.server) else {
            if !is_full {
                return Ok(Received::asking_for_all(Change::None));
            }
            if self.servers.len() >= MAX_SERVERS {
                return Err(Rejection::TooMany);
            }
            let server = VolumeServer::new(&heartbeat, now);
            let server = self.servers.entry(heartbeat.server).or_insert(server);
            return Ok(take_report(server, heartbeat, now));
        };
        let restarted = begin_incarnation(server, &heartbeat, now)?;
        if server.seq != 0 && heartbeat.seq <= server.seq {
            let acknowledged = server.seq;
            let change = restarted;
            return Ok(Received { acknowledged, change });
        }
        if !is_full && heartbeat.since != server.seq {
            let change = restarted.max(hear(server, now));
            return Ok(Received::asking_for_all(change));
        }
        let mut received = take_report(server, heartbeat, now);
        received.change = received.change.max(restarted);
        Ok(received)
    }

    /// Takes in the answer to a creation, if the server still is the one that was asked.
    pub(crate) fn fold_creation(
        &mut self,
        server: ServerId,
        incarnation: Incarnation,
        report: VolumeReport,
        now: BootTime,
    ) -> Change {
        match self.servers.get_mut(&server) {
            Some(known) if known.incarnation == incarnation => known.fold_creation(report, now),
            _ => Change::None,
        }
    }

    /// Declares servers dead that were silent for too long and forgets those dead for a day;
    /// the newly dead.
    pub(crate) fn expire(&mut self, now: BootTime) -> Vec<ServerId> {
        self.servers.retain(|_, server| server.is_alive || now.since(server.heard) < REMEMBER_DEAD);
        let silent = self
            .servers
            .values_mut()
            .filter(|server| server.is_alive && now.since(server.heard) >= SILENCE_LIMIT);
        silent
            .map(|server| {
                lose(server, Loss::Silent);
                server.id
            })
            .collect()
    }

    /// Declares a run of a server dead: its process was looked for and is not there.
    pub(crate) fn declare_dead(&mut self, server: ServerId, incarnation: Incarnation) -> Change {
        match self.servers.get_mut(&server) {
            Some(known) if known.incarnation == incarnation && known.is_alive => {
                lose(known, Loss::Died);
                Change::Layout
            }
            _ => Change::None,
        }
    }

    /// A server, dead or alive.
    pub(crate) fn server(&self, id: ServerId) -> Option<&VolumeServer> {
        self.servers.get(&id)
    }

    /// Whether a server has reported, though it may be dead by now.
    pub(crate) fn has_heard(&self, id: ServerId) -> bool {
        self.server(id).is_some_and(|server| server.seq > 0)
    }

    /// All servers, dead ones included.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &VolumeServer> {
        self.servers.values()
    }

    /// The servers that were heard lately.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &VolumeServer> {
        self.servers().filter(|server| server.is_alive)
    }

    /// A live server's report of a volume.
    pub(crate) fn live_report(
        &self,
        server: ServerId,
        volume: VolumeId,
    ) -> Option<(&VolumeServer, &VolumeReport)> {
        let server = self.server(server).filter(|server| server.is_alive)?;
        Some((server, server.volumes.get(&volume)?))
    }
}

impl Received {
    fn asking_for_all(change: Change) -> Self {
        Self { acknowledged: 0, change }
    }
}

/// A new run of a server knows nothing of what the old one reported. An older run is taken for a
/// new one only once the present one is silent: its clock went back, or it is a copied directory.
fn begin_incarnation(
    server: &mut VolumeServer,
    heartbeat: &Heartbeat,
    now: BootTime,
) -> Result<Change, Rejection> {
    if heartbeat.incarnation == server.incarnation {
        return Ok(Change::None);
    }
    let is_present_alive = server.is_alive && now.since(server.heard) < SILENCE_LIMIT;
    if heartbeat.incarnation < server.incarnation && is_present_alive {
        return Err(Rejection::Twin { server: server.id, url: server.url.clone() });
    }
    *server = VolumeServer::new(heartbeat, now);
    Ok(Change::Layout)
}

fn hear(server: &mut VolumeServer, now: BootTime) -> Change {
    server.heard = now;
    // Nothing is known of a server that awaits its full report: it is not used before.
    if server.is_alive || server.seq == 0 {
        return Change::None;
    }
    server.is_alive = true;
    server.loss = None;
    Change::Layout
}

fn lose(server: &mut VolumeServer, loss: Loss) {
    server.is_alive = false;
    server.loss = Some(loss);
}

fn take_report(server: &mut VolumeServer, heartbeat: Heartbeat, now: BootTime) -> Received {
    let change = server.apply(heartbeat, now).max(hear(server, now));
    Received { acknowledged: server.seq, change }
}

#[cfg(test)]
mod tests;
