//! Heartbeats: twice a second a volume server tells every master what changed, and takes from the
//! answer the cluster it belongs to, the size limit, configurations newer than its own, and which of
//! its volumes were deleted.
//!
//! Each master acknowledges a numbered report; the next one says what changed since. A master that
//! lost track asks for a full report by acknowledging 0.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use dulse_shared::{
    clock::BootTime,
    id::VolumeId,
    net::{
        address::ServerAddress,
        peer::{PeerClient, PeerError},
        tasks::Tasks,
    },
    wire::{Code, Heartbeat, HeartbeatAnswer, Incarnation, VolumeReport, Watch},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::check_volume_size_limit, reader::on_blocking_pool, store::Store, watch::Watcher,
};

/// Between two heartbeats, unless something changed.
const INTERVAL: Duration = Duration::from_millis(500);
/// A master that takes longer is asked again.
const LIMIT: Duration = Duration::from_secs(2);
/// The log hears of a master that cannot be reached so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Between attempts while a master cannot be reached.
const RETRY: Duration = Duration::from_millis(100);

/// What a server says of itself in every heartbeat.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// This run of the server.
    pub incarnation: Incarnation,
    /// `host:port` of the public listener, for the cluster.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
    /// `host:port` of the cluster listener.
    pub cluster_url: String,
    /// Where it stands.
    pub data_center: String,
    /// Where in the data center it stands.
    pub rack: String,
    /// Whether new volumes get 5-byte offsets.
    pub large_volumes: bool,
    /// The largest needle, in bytes of data.
    pub max_needle_bytes: u64,
}

/// Sends heartbeats to one master.
#[derive(Debug)]
pub struct Reporter {
    store: Store,
    introduction: Introduction,
    master: ServerAddress,
    peers: PeerClient,
    tasks: Tasks,
    /// Set once a leading master has acknowledged a report.
    acknowledged: watch::Sender<bool>,
    /// The master has something to tell.
    news: Arc<Notify>,
    /// Cancelled after the last report.
    ended: CancellationToken,
    seq: u64,
    /// The last acknowledged report and what it said.
    base: Option<(u64, HashMap<VolumeId, VolumeReport>)>,
}

impl Reporter {
    /// A reporter to `master`.
    pub fn new(
        store: Store,
        introduction: Introduction,
        master: ServerAddress,
        peers: PeerClient,
        tasks: Tasks,
        acknowledged: watch::Sender<bool>,
    ) -> Self {
        Self {
            store,
            introduction,
            master,
            peers,
            tasks,
            acknowledged,
            news: Arc::default(),
            ended: CancellationToken::new(),
            seq: 0,
            base: None,
        }
    }

    /// Holds a request open at the same master, and has this one ask as soon as there is news.
    pub(crate) fn watcher(&self) -> Watcher {
        let (server, incarnation) = (self.store.server(), self.introduction.incarnation);
        Watcher {
            watch: Watch { server, incarnation, since: None },
            master: self.master.clone(),
            peers: self.peers.clone(),
            ended: self.ended.clone(),
            news: self.news.clone(),
        }
    }

    /// Reports until the process stops; the last report says that it is stopping.
    pub async fn run(mut self) {
        let mut silence = Silence::default();
        let mut changes = self.store.subscribe();
        while !self.tasks.is_stopping() {
            let pause = match self.beat(false).await {
                Ok(answered) => {
                    silence = Silence::default();
                    match answered {
                        Answered::Taken => INTERVAL,
                        Answered::AsksForAll => Duration::ZERO,
                    }
                }
                Err(BeatError::Master(error)) => {
                    self.judge(&error, &mut silence);
                    RETRY
                }
                Err(error @ BeatError::Unmeasured(_)) => {
                    tracing::error!("no heartbeat to the master {}: {error}", self.master);
                    INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed() => {}
                () = self.news.notified() => {}
                () = self.tasks.stopped() => {}
            }
        }
        // A courtesy: without it the masters notice by themselves.
        drop(self.beat(true).await);
        // Not before: that the held request breaks off would tell the master that this server died.
        self.ended.cancel();
    }

    async fn beat(&mut self, stopping: bool) -> Result<Answered, BeatError> {
        let store = self.store.clone();
        let reports = measured(move || {
            store.measure();
            store.expire_volumes();
            store.reports()
        });
        let reports = reports.await?;
        self.seq += 1;
        let heartbeat = self.compose(&reports, stopping);
        let cluster_address = self.master.cluster();
        let began = self.store.clock_trust().begin();
        let answer: HeartbeatAnswer =
            self.peers.post(&cluster_address, "/heartbeat", &heartbeat, LIMIT).await?;
        self.store.clock_trust().heard(&self.master.to_string(), answer.wall_ns, began);
        let is_acknowledged = answer.acknowledged == self.seq;
        let answered = match answer.acknowledged {
            // What a master says to changes of what it does not know, after its restart above all.
            0 if heartbeat.since != 0 => Answered::AsksForAll,
            _ => Answered::Taken,
        };
        self.base = is_acknowledged.then_some((self.seq, reports));
        self.obey(answer).await;
        Ok(answered)
    }

    fn compose(&self, reports: &HashMap<VolumeId, VolumeReport>, stopping: bool) -> Heartbeat {
        let store = &self.store;
        let introduction = self.introduction.clone();
        let (since, changes) = changes(self.base.as_ref(), reports);
        Heartbeat {
            server: store.server(),
            incarnation: introduction.incarnation,
            cluster: store.cluster(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: introduction.url,
            public_url: introduction.public_url,
            cluster_url: introduction.cluster_url,
            data_center: introduction.data_center,
            rack: introduction.rack,
            seq: self.seq,
            since,
            dirs: store.dirs(),
            volumes: changes.changed,
            gone: changes.gone,
            foreign: store.foreign().into_iter().map(|foreign| foreign.volume).collect(),
            unserved: store.unserved(),
            max_key: store.max_key(),
            stopping,
        }
    }

    /// Does what a master's answer asks for.
    async fn obey(&self, answer: HeartbeatAnswer) {
        if !self.join(&answer) {
            return;
        }
        let (store, master) = (self.store.clone(), self.master.public());
        let is_leader = answer.is_leader;
        let accepted = on_blocking_pool(move || {
            for config in answer.configs {
                let id = config.id;
                if let Err(error) = store.accept_config(answer.cluster, config) {
                    tracing::error!("volume {id} keeps its configuration: {error}");
                }
            }
            store.discard(answer.cluster, &answer.deleted);
            store.hear_contradictions(&master, answer.contradicted);
            for refused in answer.refused {
                store.refuse_foreign(refused.id, &refused.reason);
            }
            Ok(())
        });
        if accepted.await.is_ok() && is_leader {
            self.acknowledged.send_replace(true);
        }
    }

    /// Joins the master's cluster and takes its size limit; `false` if the process must stop.
    fn join(&self, answer: &HeartbeatAnswer) -> bool {
        let ours = self.store.cluster();
        if let Some(ours) = ours.filter(|ours| *ours != answer.cluster) {
            let dir = self.first_dir();
            self.tasks.fail(format!(
                "the data directory {dir} belongs to the cluster {ours}, the master {} to {}: \
                 pass another --dir, or the --master of its own cluster",
                self.master, answer.cluster
            ));
            return false;
        }
        let limit = answer.volume_size_limit_bytes;
        let Introduction { max_needle_bytes, large_volumes, .. } = self.introduction;
        if let Err(error) = check_volume_size_limit(limit, max_needle_bytes, large_volumes) {
            self.tasks.fail(format!("the master {} says: {error}", self.master));
            return false;
        }
        if let Err(error) = self.store.join(answer.cluster) {
            self.tasks.fail(error.to_string());
            return false;
        }
        self.store.limit_volume_size(limit);
        true
    }

    /// The directory that an error about the server's identity names: all share one.
    fn first_dir(&self) -> String {
        self.store.dirs().into_iter().next().map_or_else(String::new, |dir| dir.dir)
    }

    fn judge(&self, error: &PeerError, silence: &mut Silence) {
        if let PeerError::Refused { code: Some(Code::OtherCluster), message, .. } = error {
            let dir = self.first_dir();
            self.tasks.fail(format!("the data directory {dir} cannot be used: {message}"));
        } else if silence.is_to_be_told(self.store.clock().boot()) {
            let advice = match error {
                PeerError::Unreachable { .. } => {
                    ": start it, or name it and its cluster port with --master \
                     HOST:PORT.CLUSTERPORT; without a --cluster-secret-file that port is on \
                     loopback only"
                }
                // It says by itself what to do.
                PeerError::Distrust { .. } => "",
                _ => ": its log may say why",
            };
            tracing::warn!("no heartbeat reaches the master {}: {error}{advice}", self.master);
        }
    }
}

/// How long no heartbeat has reached a master, as far as the log was told.
#[derive(Debug, Default)]
struct Silence {
    told: Option<BootTime>,
}

impl Silence {
    /// Whether the log should hear of it at `now`: at first, and then again and again.
    fn is_to_be_told(&mut self, now: BootTime) -> bool {
        if self.told.is_some_and(|told| now.since(told) < COMPLAINT_INTERVAL) {
            return false;
        }
        self.told = Some(now);
        true
    }
}

/// What a master made of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answered {
    /// It took it in.
    Taken,
    /// It wants to hear everything, and nothing of this server is used until it has.
    AsksForAll,
}

/// Why there was no heartbeat.
#[derive(Debug, thiserror::Error)]
enum BeatError {
    /// What it would have said is not known, which is not the same as no volumes.
    #[error(
        "the volumes cannot be looked at ({0}): a line above says where the program went wrong"
    )]
    Unmeasured(#[source] io::Error),
    /// The master did not take it.
    #[error(transparent)]
    Master(#[from] PeerError),
}

/// The reports that `measure` gives, by volume; an error if it panics.
async fn measured(
    measure: impl FnOnce() -> Vec<VolumeReport> + Send + 'static,
) -> Result<HashMap<VolumeId, VolumeReport>, BeatError> {
    let reports = on_blocking_pool(move || Ok(measure())).await.map_err(BeatError::Unmeasured)?;
    Ok(reports.into_iter().map(|report| (report.id, report)).collect())
}

#[derive(Debug, Default, PartialEq)]
struct Changes {
    changed: Vec<VolumeReport>,
    gone: Vec<VolumeId>,
}

/// What differs from the acknowledged report, and that report's number; everything and 0 without.
fn changes(
    base: Option<&(u64, HashMap<VolumeId, VolumeReport>)>,
    reports: &HashMap<VolumeId, VolumeReport>,
) -> (u64, Changes) {
    let Some((since, known)) = base else {
        return (0, Changes { changed: reports.values().cloned().collect(), gone: Vec::new() });
    };
    let differs = |report: &&VolumeReport| known.get(&report.id) != Some(report);
    let changed = reports.values().filter(differs).cloned().collect();
    let gone = known.keys().filter(|id| !reports.contains_key(id)).copied().collect();
    (*since, Changes { changed, gone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_stays_away_is_told_of_each_minute() {
        let mut silence = Silence::default();
        let told = (0..=185).filter(|secs| {
            silence.is_to_be_told(BootTime::default().plus(Duration::from_secs(*secs)))
        });
        assert_eq!(told.collect::<Vec<u64>>(), [0, 60, 120, 180]);
    }

    #[tokio::test]
    async fn a_panic_while_measuring_is_no_report_that_everything_is_gone() {
        let outcome = measured(|| panic!("a volume that cannot be measured")).await;
        assert!(matches!(outcome, Err(BeatError::Unmeasured(_))), "{outcome:?}");
        assert_eq!(measured(Vec::new).await.unwrap(), HashMap::new());
    }
}
