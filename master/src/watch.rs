//! The request that every volume server holds open here: it hears of changes by it, and that it
//! breaks off tells of the server's death within milliseconds.
//!
//! A process that dies closes its connections, and the handler of a held request is dropped. That
//! alone proves nothing, the request may have been given up for another reason, so the server's
//! cluster port is asked who runs there. Nobody, or another run: it is dead now. The same run: it is
//! alive after all. No answer in time: silence decides, as for a machine that lost its power.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    id::{ServerId, VolumeId},
    net::{
        peer::{PeerClient, PeerError},
        tasks::Tasks,
    },
    wire::{Code, Incarnation, Problem, ServerIdentity, Watch, WatchAnswer},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    cluster::Cluster, cluster_state::ClusterState, topology::Topology, volume_map::Cursor,
};

/// Requests held at a time: one for each server that the topology takes in.
const MAX_WATCHES: usize = 10_000;
/// How long one is held when nothing changes.
const HOLD: Duration = Duration::from_secs(30);
/// A live server on a busy machine answers a probe within this time.
const PROBE_LIMIT: Duration = Duration::from_millis(300);
/// While a process dies its port may still take a connection and break it off.
const PROBE_PAUSE: Duration = Duration::from_millis(10);

/// Holds the requests of volume servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    cluster: Arc<Cluster>,
    peers: PeerClient,
    tasks: Tasks,
    places: Arc<Semaphore>,
}

/// Lives as long as a request is held; dropped before its answer it has the server probed.
struct Held {
    watches: Watches,
    server: ServerId,
    incarnation: Incarnation,
    is_answered: bool,
}

/// What a probe says of a run of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Alive,
    Dead,
    Unclear,
}

impl Watches {
    /// None yet.
    pub(crate) fn new(cluster: Arc<Cluster>, peers: PeerClient, tasks: Tasks) -> Self {
        Self { cluster, peers, tasks, places: Arc::new(Semaphore::new(MAX_WATCHES)) }
    }

    /// Answers once something concerns the server, after [`HOLD`], or when this master stops.
    pub(crate) async fn hold(&self, watch: Watch) -> Result<WatchAnswer, Problem> {
        let _place = self.places.try_acquire().map_err(|_| {
            let message = format!("{MAX_WATCHES} volume servers are watching already");
            Problem::new(Code::Overloaded, message)
        })?;
        let Watch { server, incarnation, since } = watch;
        let mut held = Held { watches: self.clone(), server, incarnation, is_answered: false };
        tokio::select! {
            () = self.concerned(server, since) => {}
            () = tokio::time::sleep(HOLD) => {}
            () = self.tasks.stopped() => {}
        }
        held.is_answered = true;
        Ok(WatchAnswer { version: self.cluster.map.head().version })
    }

    async fn concerned(&self, server: ServerId, since: Option<u64>) {
        let Some(mut since) = since else { return };
        let mut head = self.cluster.map.watch();
        loop {
            let Cursor { version, .. } = *head.borrow_and_update();
            let is_concerned = version != since
                && self.cluster.look(|state, topology| concerns(state, topology, server, since));
            if is_concerned || head.changed().await.is_err() {
                return;
            }
            since = version;
        }
    }

    async fn probe(self, server: ServerId, incarnation: Incarnation) {
        let address = self.cluster.look(|_, topology| {
            let known = topology.server(server)?;
            let is_watched = known.is_alive && known.incarnation == incarnation;
            is_watched.then(|| known.cluster_url.clone())
        });
        let Some(address) = address else { return };
        let verdict = self.ask_until_clear(&address, ServerIdentity { server, incarnation }).await;
        tracing::debug!("the request held by volume server {server} broke off: {verdict:?}");
        if verdict == Verdict::Dead {
            self.cluster.update_topology(|topology, _| {
                let change = topology.declare_dead(server, incarnation);
                ((), change)
            });
            // However dear that is: nothing more may be sent there.
            self.cluster.catch_up();
        }
    }

    async fn ask_until_clear(&self, address: &str, watched: ServerIdentity) -> Verdict {
        let until = Instant::now() + PROBE_LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Verdict::Unclear;
            }
            let found = self.peers.fetch(address, "/admin/identity", left).await;
            let verdict = judge(&found, watched);
            if verdict != Verdict::Unclear {
                return verdict;
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_answered || self.watches.tasks.is_stopping() {
            return;
        }
        let probe = self.watches.clone().probe(self.server, self.incarnation);
        self.watches.tasks.spawn_in_background(probe);
    }
}

fn judge(found: &Result<ServerIdentity, PeerError>, watched: ServerIdentity) -> Verdict {
    match found {
        Ok(found) if *found == watched => Verdict::Alive,
        Ok(_) => Verdict::Dead,
        Err(error) if error.is_refused_connection() => Verdict::Dead,
        Err(_) => Verdict::Unclear,
    }
}

/// Whether a change after `since` is of a volume that the server holds, is given, or reports.
fn concerns(state: &ClusterState, topology: &Topology, server: ServerId, since: u64) -> bool {
    let changes = &state.changes;
    if !changes.can_tell_since(since) {
        return true;
    }
    let reported = topology.server(server).map(|server| &server.volumes);
    let reports = |id: &VolumeId| reported.is_some_and(|reported| reported.contains_key(id));
    let is_given = |id: &VolumeId| state.volumes.get(id).is_some_and(|config| config.names(server));
    changes.deleted_since(since).any(|id| reports(&id))
        || changes.changed_since(since).any(|id| reports(&id) || is_given(&id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster_state::{Command, Deletion},
        testing::{LIMIT, LoneLog, heartbeat, plain_layout, report, server, volume},
    };
    use dulse_shared::{clock::Clock, wire::Epoch};

    const RUN: Incarnation = Incarnation(1);

    fn watches() -> Watches {
        let log = Arc::new(LoneLog::founded(true));
        let cluster = Arc::new(Cluster::new(log, LIMIT, Clock::System));
        Watches::new(cluster, PeerClient::new(None), Tasks::new())
    }

    async fn commit(watches: &Watches, command: Command) {
        watches.cluster.log.propose(command).await.unwrap();
        watches.cluster.refresh();
    }

    fn create(holder: u128) -> Command {
        let layout = plain_layout();
        Command::CreateVolumes {
            collection: layout.collection,
            placement: layout.placement,
            ttl: layout.ttl,
            disk: layout.disk,
            members: vec![vec![(server(holder), RUN)]],
        }
    }

    fn is_held(watches: &Watches, since: Option<u64>) -> bool {
        let watch = Watch { server: server(1), incarnation: RUN, since };
        let mut held = Box::pin(watches.hold(watch));
        futures_util::FutureExt::now_or_never(held.as_mut()).is_none()
    }

    #[tokio::test]
    async fn a_server_hears_of_its_own_volumes_only() {
        let watches = watches();
        assert!(!is_held(&watches, None), "at first");
        assert!(is_held(&watches, Some(0)));
        commit(&watches, create(2)).await;
        assert!(is_held(&watches, Some(0)), "of another server");
        commit(&watches, create(1)).await;
        assert!(!is_held(&watches, Some(0)));
        assert!(is_held(&watches, Some(2)));
        let mut beat = heartbeat(1, vec![report(2)]);
        beat.cluster_url = "127.0.0.1:9".to_owned();
        watches.cluster.heartbeat(beat).await.unwrap();
        let volumes = vec![Deletion { id: volume(2), epoch: Epoch(1) }];
        commit(&watches, Command::DeleteVolumes { volumes }).await;
        assert!(!is_held(&watches, Some(2)), "deleted");
    }

    #[test]
    fn a_probe_tells_the_dead_from_the_living_and_from_the_slow() {
        let watched = ServerIdentity { server: server(1), incarnation: RUN };
        let next = ServerIdentity { incarnation: Incarnation(2), ..watched };
        assert_eq!(judge(&Ok(watched), watched), Verdict::Alive);
        assert_eq!(judge(&Ok(next), watched), Verdict::Dead);
        let unclear = PeerError::Refused {
            url: String::new(),
            status: 503,
            code: Some(Code::NotReady),
            message: String::new(),
        };
        assert_eq!(judge(&Err(unclear), watched), Verdict::Unclear);
    }

    #[tokio::test]
    async fn a_request_that_breaks_off_has_a_server_that_is_gone_declared_dead() {
        let watches = watches();
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut beat = heartbeat(1, Vec::new());
        beat.cluster_url = nobody.local_addr().unwrap().to_string();
        drop(nobody);
        watches.cluster.heartbeat(beat).await.unwrap();
        let is_alive =
            || watches.cluster.look(|_, topology| topology.server(server(1)).unwrap().is_alive);
        assert!(is_alive());
        assert!(is_held(&watches, Some(0)), "and dropped");
        for _ in 0..500 {
            if !is_alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody noticed");
    }
}
