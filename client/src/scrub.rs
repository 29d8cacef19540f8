//! A scrub, as seen from outside: started on every server that has the volumes, asked after until
//! all are done.
//!
//! Servers take it on their cluster ports, whose addresses the master knows. A scrub that is under
//! way goes on whatever becomes of who asked for it.

use std::{collections::BTreeMap, time::Duration};

use dulse_shared::{
    id::VolumeId,
    wire::{ScrubPhase, ScrubReport, StartScrub, VolumeScrub},
};
use serde::{Deserialize, Serialize};

use crate::{answer::fetch_json, client::Client, error::ClientError};

/// Reports come from memory.
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// A server is asked again this often before it counts as gone.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// A scrub that was asked for.
#[derive(Debug)]
pub struct Scrub {
    client: Client,
    volume: Option<VolumeId>,
    servers: Vec<AskedServer>,
    missing: Vec<String>,
}

/// A server that was asked, and the scrub of each volume that has to be complete.
#[derive(Debug)]
struct AskedServer {
    url: String,
    cluster_url: String,
    awaited: BTreeMap<VolumeId, u64>,
}

/// How far a scrub is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubProgress {
    /// Bytes read.
    pub done_bytes: u64,
    /// Bytes to read in all.
    pub total_bytes: u64,
    /// Whether all is done.
    pub is_complete: bool,
    /// What each server says.
    pub servers: Vec<ScrubbedServer>,
}

/// A server and the volumes that it scrubs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ScrubbedServer {
    /// `host:port`, for clients.
    pub server: String,
    /// By id.
    pub volumes: Vec<VolumeScrub>,
}

#[derive(Deserialize)]
struct MasterView {
    servers: Vec<ServerView>,
}

#[derive(Deserialize)]
struct ServerView {
    url: String,
    public_url: String,
    cluster_url: String,
    is_alive: bool,
}

impl Scrub {
    /// Asks the servers that have the volume, or all.
    pub(crate) async fn start(
        client: &Client,
        volume: Option<VolumeId>,
    ) -> Result<Self, ClientError> {
        let view: MasterView = client.masters().fetch("/ui/status.json", &[], REPORT_LIMIT).await?;
        let holders = match volume {
            Some(volume) => Some(client.lookup(volume).await?),
            None => None,
        };
        let holds = |server: &ServerView| {
            let Some(holders) = &holders else { return true };
            holders.iter().any(|holder| holder.url == server.url)
        };
        let mut this =
            Self { client: client.clone(), volume, servers: Vec::new(), missing: Vec::new() };
        for server in view.servers.into_iter().filter(holds) {
            if server.is_alive {
                this.ask(server).await?;
            } else {
                this.missing.push(server.public_url);
            }
        }
        Ok(this)
    }

    async fn ask(&mut self, server: ServerView) -> Result<(), ClientError> {
        let url = format!("http://{}/admin/scrub", server.cluster_url);
        let request = self.client.http().post(&url).json(&StartScrub { volume: self.volume });
        let report: ScrubReport = fetch_json(&url, request, REPORT_LIMIT).await?;
        let awaited = report.volumes.iter().map(|scrub| (scrub.volume, scrub.completed + 1));
        self.servers.push(AskedServer {
            url: server.public_url,
            cluster_url: server.cluster_url,
            awaited: awaited.collect(),
        });
        Ok(())
    }

    /// Servers that should have volumes and are not there: they were not asked.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// How far it is. An error if a server has stopped, and its scrubs with it.
    pub async fn progress(&self) -> Result<ScrubProgress, ClientError> {
        let mut progress = ScrubProgress {
            done_bytes: 0,
            total_bytes: 0,
            is_complete: true,
            servers: Vec::with_capacity(self.servers.len()),
        };
        for server in &self.servers {
            let volumes = self.report_of(server).await?;
            if let Some(volume) = self.volume.filter(|_| volumes.is_empty()) {
                return Err(server.interrupted(volume));
            }
            for scrub in &volumes {
                let is_complete = server.has_completed(scrub)?;
                progress.is_complete &= is_complete;
                progress.total_bytes += scrub.total_bytes;
                progress.done_bytes +=
                    if is_complete { scrub.total_bytes } else { scrub.done_bytes };
            }
            progress.servers.push(ScrubbedServer { server: server.url.clone(), volumes });
        }
        Ok(progress)
    }

    /// The volumes that were asked for; those that were created since are left out.
    async fn report_of(&self, server: &AskedServer) -> Result<Vec<VolumeScrub>, ClientError> {
        let mut url = format!("http://{}/admin/scrub", server.cluster_url);
        if let Some(volume) = self.volume {
            url = format!("{url}?volume={volume}");
        }
        let mut attempt = 1;
        loop {
            let report = fetch_json(&url, self.client.http().get(&url), REPORT_LIMIT).await;
            match report {
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {}
                report => {
                    let ScrubReport { volumes } = report?;
                    let is_awaited = |s: &VolumeScrub| server.awaited.contains_key(&s.volume);
                    return Ok(volumes.into_iter().filter(is_awaited).collect());
                }
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl AskedServer {
    /// Whether the scrub that was asked for is done.
    fn has_completed(&self, scrub: &VolumeScrub) -> Result<bool, ClientError> {
        let awaited = self.awaited.get(&scrub.volume).copied().unwrap_or(0);
        match scrub.phase {
            ScrubPhase::Idle if scrub.completed < awaited => Err(self.interrupted(scrub.volume)),
            ScrubPhase::Idle => Ok(true),
            ScrubPhase::Waiting | ScrubPhase::Running => Ok(scrub.completed >= awaited),
        }
    }

    fn interrupted(&self, volume: VolumeId) -> ClientError {
        ClientError::Interrupted { what: format!("the scrub of volume {volume} on {}", self.url) }
    }
}

#[cfg(test)]
mod tests {
    use dulse_shared::id::Collection;

    use super::*;

    #[test]
    fn a_scrub_is_done_when_its_number_is_reached_and_lost_when_nobody_works_on_it() {
        let volume = VolumeId::new(3).unwrap();
        let server = AskedServer {
            url: "a:8080".to_owned(),
            cluster_url: "a:18080".to_owned(),
            awaited: BTreeMap::from([(volume, 2)]),
        };
        let is_done = |phase, completed| {
            let scrub = VolumeScrub {
                volume,
                collection: Collection::default(),
                phase,
                done_bytes: 0,
                total_bytes: 8,
                completed,
                completed_at_secs: 0,
                findings: Vec::new(),
                more_findings: 0,
            };
            server.has_completed(&scrub).ok()
        };
        assert_eq!(is_done(ScrubPhase::Waiting, 1), Some(false));
        assert_eq!(is_done(ScrubPhase::Running, 1), Some(false));
        assert_eq!(is_done(ScrubPhase::Idle, 2), Some(true));
        assert_eq!(is_done(ScrubPhase::Running, 2), Some(true), "the next one has begun");
        assert_eq!(is_done(ScrubPhase::Idle, 0), None, "the server was restarted");
    }
}
