//! Heartbeats: twice a second a volume server tells every master what changed, and takes from the
//! answer the cluster it belongs to, the size limit, configurations newer than its own, and which of
//! its volumes were deleted.
//!
//! Each master acknowledges a numbered report; the next one says what changed since. A master that
//! lost track asks for a full report by acknowledging 0. No two reports of a run have one number,
//! whoever they are for: two reporters that reach one master at two of its addresses cost it full
//! reports, until `crate::masters` ends one of them, and never have it take one for the other's.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    clock::BootTime,
    id::VolumeId,
    net::{
        peer::{PeerClient, PeerError},
        tasks::Tasks,
    },
    wire::{Code, Heartbeat, HeartbeatAnswer, Incarnation, MasterNode, VolumeReport, Watch},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::check_volume_size_limit,
    masters::{Board, Heard, MasterAt, Word},
    reader::on_blocking_pool,
    store::{JoinError, Store},
    watch::Watcher,
};

/// Between two heartbeats, unless something changed.
const INTERVAL: Duration = Duration::from_millis(500);
/// A master that takes longer is asked again.
const LIMIT: Duration = Duration::from_secs(2);
/// The log hears of a master that cannot be used so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

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

/// What the reporters of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub(crate) store: Store,
    pub(crate) introduction: Introduction,
    pub(crate) peers: PeerClient,
    pub(crate) tasks: Tasks,
    /// Set once a leading master has acknowledged a report.
    pub(crate) acknowledged: watch::Sender<bool>,
    /// The number of the last report, to whomever.
    pub(crate) seq: Arc<AtomicU64>,
    /// Hears what becomes of reports.
    pub(crate) board: Arc<Board>,
}

/// Sends heartbeats to one master.
#[derive(Debug)]
pub(crate) struct Reporter {
    of: Reports,
    master: MasterAt,
    /// The master has something to tell.
    news: Arc<Notify>,
    /// Nobody need be there, or somebody of another cluster is.
    is_idle: Arc<AtomicBool>,
    /// Cancelled when this master is not reported to any more.
    dropped: CancellationToken,
    /// Cancelled after the last report.
    ended: CancellationToken,
    /// The last acknowledged report and what it said.
    base: Option<(u64, HashMap<VolumeId, VolumeReport>)>,
}

impl Reporter {
    /// A reporter to `master` until that is `dropped`.
    pub(crate) fn new(of: Reports, master: MasterAt, dropped: CancellationToken) -> Self {
        Self {
            of,
            master,
            news: Arc::default(),
            is_idle: Arc::default(),
            dropped,
            ended: CancellationToken::new(),
            base: None,
        }
    }

    /// Holds a request open at the same master, and has this one ask as soon as there is news.
    pub(crate) fn watcher(&self) -> Watcher {
        let (server, incarnation) = (self.of.store.server(), self.of.introduction.incarnation);
        Watcher {
            watch: Watch { server, incarnation, since: None },
            master: self.master.cluster,
            peers: self.of.peers.clone(),
            ended: self.ended.clone(),
            news: self.news.clone(),
            is_idle: self.is_idle.clone(),
        }
    }

    /// Reports until the process stops, whose last report says so, or the master is dropped.
    pub(crate) async fn run(mut self) {
        let mut complaints = Complaints::default();
        let mut changes = self.of.store.subscribe();
        while !self.of.tasks.is_stopping() && !self.dropped.is_cancelled() {
            let pause = self.turn(&mut complaints).await;
            let is_idle = self.is_idle.load(Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed(), if !is_idle => {}
                () = self.news.notified(), if !is_idle => {}
                () = self.dropped.cancelled() => {}
                () = self.of.tasks.stopped() => {}
            }
        }
        if self.dropped.is_cancelled() {
            self.of.store.clock_trust().forget(&self.master.address.to_string());
            self.of.store.hear_contradictions(&self.master.address.public(), Vec::new());
        } else if !self.is_idle.load(Ordering::Relaxed) {
            // A courtesy: without it the masters notice by themselves.
            drop(self.beat(true).await);
        }
        // Not before: that the held request breaks off would tell the master that this server died.
        self.ended.cancel();
    }

    /// Reports once; how long to wait before the next time.
    async fn turn(&mut self, complaints: &mut Complaints) -> Duration {
        let master = self.master.clone();
        match self.beat(false).await {
            Ok((answered, node)) => {
                *complaints = Complaints::default();
                self.is_idle.store(false, Ordering::Relaxed);
                self.of.board.heard(&master, Word::Own(node));
                match answered {
                    Answered::Taken => INTERVAL,
                    Answered::AsksForAll => Duration::ZERO,
                }
            }
            Err(BeatError::Stopping) => Duration::ZERO,
            Err(error @ BeatError::Unmeasured(_)) => {
                tracing::error!("no heartbeat to the master {master}: {error}");
                INTERVAL
            }
            Err(BeatError::OtherCluster(sentence)) => {
                let Heard { pause, .. } =
                    self.of.board.heard(&master, Word::Other(sentence.clone()));
                self.is_idle.store(true, Ordering::Relaxed);
                if complaints.other_cluster.is_to_be_told(self.of.store.clock().boot()) {
                    tracing::error!(
                        "the master {master} is of another cluster and is not reported to: \
                         {sentence}; if it lost its directory, put that back from a backup"
                    );
                }
                pause
            }
            Err(BeatError::Master(error)) => {
                let is_there = !matches!(error, PeerError::Unreachable { .. });
                let word = if is_there { Word::Refused } else { Word::Silent };
                let Heard { pause, is_expected } = self.of.board.heard(&master, word);
                self.is_idle.store(!is_expected, Ordering::Relaxed);
                if is_expected && complaints.silence.is_to_be_told(self.of.store.clock().boot()) {
                    tell_of_silence(&master, &error);
                }
                pause
            }
        }
    }

    async fn beat(&mut self, stopping: bool) -> Result<(Answered, Option<MasterNode>), BeatError> {
        let store = self.of.store.clone();
        let reports = measured(move || {
            store.measure();
            store.expire_volumes();
            store.reports()
        });
        let reports = reports.await?;
        let seq = self.of.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let heartbeat = self.compose(seq, &reports, stopping);
        let cluster_address = self.master.cluster.to_string();
        let began = self.of.store.clock_trust().begin();
        let answer = self.of.peers.post(&cluster_address, "/heartbeat", &heartbeat, LIMIT).await;
        let answer: HeartbeatAnswer = answer.map_err(|error| self.failure(error))?;
        let master = self.master.address.to_string();
        self.of.store.clock_trust().heard(&master, answer.wall_ns, began);
        let is_acknowledged = answer.acknowledged == seq;
        let answered = match answer.acknowledged {
            // What a master says to changes of what it does not know, after its restart above all.
            0 if heartbeat.since != 0 => Answered::AsksForAll,
            _ => Answered::Taken,
        };
        self.base = is_acknowledged.then_some((seq, reports));
        let node = answer.master;
        self.join(&answer)?;
        self.obey(answer).await;
        Ok((answered, node))
    }

    fn failure(&self, error: PeerError) -> BeatError {
        match error {
            PeerError::Refused { code: Some(Code::OtherCluster), message, .. } => {
                let dir = self.first_dir();
                BeatError::OtherCluster(format!(
                    "the data directory {dir} cannot be used: {message}"
                ))
            }
            error => BeatError::Master(error),
        }
    }

    fn compose(
        &self,
        seq: u64,
        reports: &HashMap<VolumeId, VolumeReport>,
        stopping: bool,
    ) -> Heartbeat {
        let store = &self.of.store;
        let introduction = self.of.introduction.clone();
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
            seq,
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
        let (store, master) = (self.of.store.clone(), self.master.address.public());
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
            self.of.acknowledged.send_replace(true);
        }
    }

    /// Joins the master's cluster and takes its size limit.
    fn join(&self, answer: &HeartbeatAnswer) -> Result<(), BeatError> {
        let store = &self.of.store;
        if let Some(ours) = store.cluster().filter(|ours| *ours != answer.cluster) {
            let dir = self.first_dir();
            return Err(BeatError::OtherCluster(format!(
                "the data directory {dir} belongs to the cluster {ours}, the master {} to {}: \
                 pass another --dir, or the --master of its own cluster",
                self.master, answer.cluster
            )));
        }
        let limit = answer.volume_size_limit_bytes;
        let Introduction { max_needle_bytes, large_volumes, .. } = self.of.introduction;
        let checked = check_volume_size_limit(limit, max_needle_bytes, large_volumes);
        checked.map_err(|error| self.fail(format!("the master {} says: {error}", self.master)))?;
        store.join(answer.cluster).map_err(|error| match error {
            // Another master answered a moment ago.
            JoinError::OtherCluster { .. } => BeatError::OtherCluster(error.to_string()),
            JoinError::Dir(error) => self.fail(error.to_string()),
        })?;
        store.limit_volume_size(limit);
        Ok(())
    }

    fn fail(&self, reason: String) -> BeatError {
        self.of.tasks.fail(reason);
        BeatError::Stopping
    }

    /// The directory that an error about the server's identity names: all share one.
    fn first_dir(&self) -> String {
        self.of.store.dirs().into_iter().next().map_or_else(String::new, |dir| dir.dir)
    }
}

fn tell_of_silence(master: &MasterAt, error: &PeerError) {
    let advice = match error {
        PeerError::Unreachable { .. } => {
            ": start it, or name it and its cluster port with --master HOST:PORT.CLUSTERPORT; without \
             a --cluster-secret-file that port is on loopback only"
        }
        // It says by itself what to do.
        PeerError::Distrust { .. } => "",
        _ => ": its log may say why",
    };
    tracing::warn!("no heartbeat reaches the master {master}: {error}{advice}");
}

/// What the log was told of a master since it last took a report.
#[derive(Debug, Default)]
struct Complaints {
    silence: Complaint,
    other_cluster: Complaint,
}

/// When the log was told of one thing.
#[derive(Debug, Default)]
struct Complaint {
    told: Option<BootTime>,
}

impl Complaint {
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
    Master(PeerError),
    /// The master is of another cluster than this server.
    #[error("{0}")]
    OtherCluster(String),
    /// The process has to stop, and was told why.
    #[error("the process stops")]
    Stopping,
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
        let mut silence = Complaint::default();
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
