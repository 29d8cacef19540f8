//! Work on volumes, as seen from outside: started on every server that has them, asked after until
//! all is done.
//!
//! Servers take it on their cluster ports, whose addresses the master knows. What is under way goes
//! on whatever becomes of who asked for it.

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use dulse_shared::{
    id::VolumeId,
    wire::{JobPhase, VolumeScrub, VolumeVacuum},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{client::Client, error::ClientError};

/// Reports come from memory.
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// A server is asked again this often before it counts as gone.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// One volume's part of the work, as its server reports it.
pub trait VolumeWork: DeserializeOwned + Serialize + Clone {
    /// Where servers take it.
    const ROUTE: &'static str;
    /// The word for it.
    const WORD: &'static str;

    /// How far it is.
    fn at(&self) -> WorkAt;
}

/// How far one volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkAt {
    /// The volume.
    pub volume: VolumeId,
    /// Whether it is being worked on.
    pub phase: JobPhase,
    /// How often that came to an end in this run of the server.
    pub completed: u64,
    /// Bytes dealt with.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

impl VolumeWork for VolumeScrub {
    const ROUTE: &'static str = "/admin/scrub";
    const WORD: &'static str = "scrub";

    fn at(&self) -> WorkAt {
        let Self { volume, phase, completed, done_bytes, total_bytes, .. } = *self;
        WorkAt { volume, phase, completed, done_bytes, total_bytes }
    }
}

impl VolumeWork for VolumeVacuum {
    const ROUTE: &'static str = "/admin/vacuum";
    const WORD: &'static str = "vacuum";

    fn at(&self) -> WorkAt {
        let Self { volume, phase, completed, done_bytes, total_bytes, .. } = *self;
        WorkAt { volume, phase, completed, done_bytes, total_bytes }
    }
}

/// Work that was asked for.
#[derive(Debug)]
pub struct Work<W> {
    client: Client,
    volume: Option<VolumeId>,
    servers: Vec<AskedServer>,
    missing: Vec<String>,
    kind: PhantomData<W>,
}

/// A server that was asked, and which end of each volume's work is waited for.
#[derive(Debug)]
struct AskedServer {
    url: String,
    cluster_url: String,
    awaited: BTreeMap<VolumeId, u64>,
}

/// How far the work is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkProgress<W> {
    /// Bytes dealt with.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Whether all is done.
    pub is_complete: bool,
    /// What each server says.
    pub servers: Vec<WorkingServer<W>>,
}

/// A server and the volumes that it works on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WorkingServer<W> {
    /// `host:port`, for clients.
    pub server: String,
    /// By id.
    pub volumes: Vec<W>,
}

/// What a server answers.
#[derive(Deserialize)]
struct Report<W> {
    volumes: Vec<W>,
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

impl<W: VolumeWork> Work<W> {
    /// Asks the servers that have the volume, or all.
    pub(crate) async fn start(
        client: &Client,
        volume: Option<VolumeId>,
        request: &(impl Serialize + Sync),
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
        let (servers, missing, kind) = (Vec::new(), Vec::new(), PhantomData);
        let mut this = Self { client: client.clone(), volume, servers, missing, kind };
        for server in view.servers.into_iter().filter(holds) {
            if server.is_alive {
                this.ask(server, request).await?;
            } else {
                this.missing.push(server.public_url);
            }
        }
        Ok(this)
    }

    async fn ask(
        &mut self,
        server: ServerView,
        request: &(impl Serialize + Sync),
    ) -> Result<(), ClientError> {
        let (peers, address) = (self.client.peers(), &server.cluster_url);
        let report: Report<W> = peers.post(address, W::ROUTE, request, REPORT_LIMIT).await?;
        let at = report.volumes.iter().map(VolumeWork::at);
        let awaited = at.map(|at| (at.volume, at.completed + 1));
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

    /// How far it is. An error if a server has stopped, and its work with it.
    pub async fn progress(&self) -> Result<WorkProgress<W>, ClientError> {
        let mut progress = WorkProgress {
            done_bytes: 0,
            total_bytes: 0,
            is_complete: true,
            servers: Vec::with_capacity(self.servers.len()),
        };
        for server in &self.servers {
            let volumes = self.report_of(server).await?;
            let is_gone = |volume: &VolumeId| !volumes.iter().any(|w| w.at().volume == *volume);
            if let Some(volume) = server.awaited.keys().find(|volume| is_gone(volume)) {
                return Err(server.interrupted::<W>(*volume));
            }
            for at in volumes.iter().map(VolumeWork::at) {
                let is_complete = server.has_completed::<W>(&at)?;
                progress.is_complete &= is_complete;
                progress.total_bytes += at.total_bytes;
                progress.done_bytes += if is_complete { at.total_bytes } else { at.done_bytes };
            }
            progress.servers.push(WorkingServer { server: server.url.clone(), volumes });
        }
        Ok(progress)
    }

    /// The volumes that were asked for; those that were created since are left out.
    async fn report_of(&self, server: &AskedServer) -> Result<Vec<W>, ClientError> {
        let path = match self.volume {
            Some(volume) => format!("{}?volume={volume}", W::ROUTE),
            None => W::ROUTE.to_owned(),
        };
        let mut attempt = 1;
        loop {
            let report = self.client.peers().fetch(&server.cluster_url, &path, REPORT_LIMIT).await;
            match report.map_err(ClientError::from) {
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {}
                report => {
                    let Report { volumes } = report?;
                    let is_awaited = |work: &W| server.awaited.contains_key(&work.at().volume);
                    return Ok(volumes.into_iter().filter(is_awaited).collect());
                }
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl AskedServer {
    /// Whether what was asked for is done.
    fn has_completed<W: VolumeWork>(&self, at: &WorkAt) -> Result<bool, ClientError> {
        let awaited = self.awaited.get(&at.volume).copied().unwrap_or(0);
        match at.phase {
            JobPhase::Idle if at.completed < awaited => Err(self.interrupted::<W>(at.volume)),
            JobPhase::Idle => Ok(true),
            JobPhase::Waiting | JobPhase::Running => Ok(at.completed >= awaited),
        }
    }

    fn interrupted<W: VolumeWork>(&self, volume: VolumeId) -> ClientError {
        let what = format!("the {} of volume {volume} on {}", W::WORD, self.url);
        ClientError::Interrupted { what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_when_its_number_is_reached_and_lost_when_nobody_is_at_it() {
        let volume = VolumeId::new(3).unwrap();
        let server = AskedServer {
            url: "a:8080".to_owned(),
            cluster_url: "a:18080".to_owned(),
            awaited: BTreeMap::from([(volume, 2)]),
        };
        let is_done = |phase, completed| {
            let at = WorkAt { volume, phase, completed, done_bytes: 0, total_bytes: 8 };
            server.has_completed::<VolumeScrub>(&at).ok()
        };
        assert_eq!(is_done(JobPhase::Waiting, 1), Some(false));
        assert_eq!(is_done(JobPhase::Running, 1), Some(false));
        assert_eq!(is_done(JobPhase::Idle, 2), Some(true));
        assert_eq!(is_done(JobPhase::Running, 2), Some(true), "the next one has begun");
        assert_eq!(is_done(JobPhase::Idle, 0), None, "the server was restarted");
    }
}
