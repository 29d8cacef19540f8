//! Three masters in one process, over the loopback network, with connections that can be cut.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    clock::Clock,
    net::{peer::PeerClient, tasks::Tasks},
    wire::{Code, Problem},
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{LIMIT, address, eventually, free_port, grant, granted};
use crate::{
    key_range::KeyRange,
    raft::{ProposeError, Raft, RaftConfig, bootstrap, type_config::NodeId},
};

/// Pairs (from, to) of nodes that do not hear each other.
type Cuts = Arc<Mutex<BTreeSet<(String, String)>>>;

struct Member {
    dir: PathBuf,
    port: u16,
    id: NodeId,
    raft: Raft,
    keys: KeyRange,
    tasks: Tasks,
}

impl Member {
    async fn open(dir: PathBuf, port: u16, cuts: &Cuts) -> Self {
        let tasks = Tasks::new();
        let mut here = address(9333);
        here.cluster_port = port;
        let client = PeerClient::new(None);
        let (peers, beside) = (Vec::new(), None);
        let config = RaftConfig { dir: dir.clone(), address: here, peers, client, beside };
        let raft = bootstrap::open(config).await.unwrap();
        raft.spawn_watch(&tasks);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let router = cuttable(raft.routes().into_router(), raft.id(), cuts.clone());
        let stop = tasks.clone();
        tasks.spawn_contained(async move {
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                () = stop.stopped() => {}
            }
        });
        let keys = KeyRange::start(raft.clone(), Clock::default(), &tasks);
        Self { dir, port, id: raft.id(), raft, keys, tasks }
    }

    /// Ends without telling anybody.
    async fn kill(self) -> (PathBuf, u16) {
        self.tasks.stop();
        self.raft.core().shutdown().await.unwrap();
        // Hands nothing over: the core is gone.
        self.raft.stop().await;
        (self.dir, self.port)
    }

    fn next_key(&self) -> u64 {
        self.raft.read(|state| state.next_key)
    }
}

/// `router` as it looks to `to` behind a network with cuts.
fn cuttable(router: Router, to: NodeId, cuts: Cuts) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let cuts = cuts.clone();
        async move { pass_unless_cut(request, next, to, cuts).await }
    }))
}

async fn pass_unless_cut(request: Request, next: Next, to: NodeId, cuts: Cuts) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let from = json["from"].as_str().unwrap().to_owned();
    if cuts.lock().unwrap().contains(&(from, to.to_string())) {
        return Problem::new(Code::NotReady, "cut").into_response();
    }
    next.run(Request::from_parts(head, Body::from(body))).await
}

struct Cluster {
    _dir: tempfile::TempDir,
    members: Vec<Member>,
    cuts: Cuts,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cuts = Cuts::default();
        let mut members = Vec::new();
        for n in 0..3 {
            let dir = dir.path().join(n.to_string());
            members.push(Member::open(dir, free_port(), &cuts).await);
        }
        let voters = members.iter().map(|m| (m.id, m.raft.address().clone()));
        bootstrap::initialize(&members[0].raft, voters).await.unwrap();
        Self { _dir: dir, members, cuts }
    }

    fn leader_position(&self) -> Option<usize> {
        let mut positions = 0..self.members.len();
        positions.find(|n| self.members[*n].raft.leadership().is_leader)
    }

    async fn leader(&self) -> usize {
        eventually("a leader", || self.leader_position()).await
    }

    /// Grants keys on whoever leads, and tries again until somebody does.
    async fn grant(&self, count: u64) -> std::ops::Range<u64> {
        loop {
            let leader = self.leader().await;
            match self.members[leader].raft.propose(grant(count)).await {
                Ok(outcome) => return granted(&outcome),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn all_agree(&self) {
        let states = || {
            let state = |m: &Member| m.raft.read(Clone::clone);
            let states: Vec<_> = self.members.iter().map(state).collect();
            states.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        };
        eventually("the same state everywhere", states).await;
    }

    /// Cuts `node` off from everybody.
    fn isolate(&self, node: usize) {
        let mut cuts = self.cuts.lock().unwrap();
        let isolated = self.members[node].id.to_string();
        for other in &self.members {
            cuts.insert((isolated.clone(), other.id.to_string()));
            cuts.insert((other.id.to_string(), isolated.clone()));
        }
    }

    fn heal(&self) {
        self.cuts.lock().unwrap().clear();
    }

    async fn stop(self) {
        for member in self.members {
            assert_eq!(member.tasks.failure(), None);
            member.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_masters_elect_one_replicate_and_name_the_cluster() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let keys = cluster.grant(10).await;
    assert_eq!(keys.end - keys.start, 10);
    cluster.all_agree().await;
    for member in &cluster.members {
        eventually("a name", || member.raft.read(|state| state.cluster)).await;
        let leadership = member.raft.leadership();
        assert_eq!(leadership.is_leader, member.id == cluster.members[leader].id);
        let address = cluster.members[leader].raft.address().clone();
        assert_eq!(leadership.leader, Some(address.clone()));
        if !leadership.is_leader {
            let error = member.raft.propose(grant(1)).await.unwrap_err();
            let leader = Some(address);
            assert_eq!(error, ProposeError::NotLeader { leader });
            assert!(member.keys.draw(1).await.is_err());
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_when_the_leader_dies_and_it_catches_up_when_it_comes_back() {
    let mut cluster = Cluster::start().await;
    let mut next = cluster.grant(10).await.end;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let dead = cluster.members.remove(leader);
        let term = dead.raft.leadership().term;
        let (dir, port) = dead.kill().await;
        let clock = Clock::default();
        let begin = clock.boot();
        let keys = cluster.grant(10).await;
        println!("{:?} from a kill to the next grant", clock.since(begin));
        assert!(keys.start >= next, "{keys:?} were granted before");
        next = keys.end;
        let successor = cluster.leader().await;
        assert!(cluster.members[successor].raft.leadership().term > term);
        let back = Member::open(dir, port, &cluster.cuts).await;
        cluster.members.push(back);
        cluster.all_agree().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_stops_believing_in_itself_and_hands_out_nothing() {
    let cluster = Cluster::start().await;
    let old = cluster.leader().await;
    let before = cluster.members[old].keys.draw(1).await.unwrap();
    cluster.isolate(old);
    // Proposed where nobody hears of it: it is not made, and the proposer is not told that it is.
    let lonely = cluster.members[old].raft.propose(grant(1_000_000));
    let (lonely, ()) = tokio::join!(lonely, others_go_on(&cluster, old, before));
    assert!(matches!(lonely, Err(ProposeError::Unknown { .. })), "{lonely:?}");
    cluster.all_agree().await;
    assert!(cluster.members[old].next_key() < 1_000_000);
    cluster.stop().await;
}

async fn others_go_on(cluster: &Cluster, old: usize, before: u64) {
    eventually("doubt", || (!cluster.members[old].raft.leadership().is_leader).then_some(())).await;
    assert_eq!(cluster.members[old].keys.take(1), None);
    assert_eq!(cluster.members[old].raft.leadership().leader, None);
    let new = cluster.leader().await;
    assert_ne!(new, old);
    let after = cluster.members[new].keys.draw(1).await.unwrap();
    assert!(after > before);
    cluster.heal();
}

/// Everybody proposes all the time while leaders are cut off and killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_granted_twice_while_leaders_come_and_go() {
    let mut cluster = Cluster::start().await;
    cluster.leader().await;
    let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
    for round in 0..4 {
        let is_over = AtomicBool::new(false);
        let proposers = cluster.members.iter().map(|member| async {
            let mut mine = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                if let Ok(first) = member.keys.draw(700).await {
                    mine.push(first..first + 700);
                }
                if let Ok(outcome) = member.raft.propose(grant(10)).await {
                    mine.push(granted(&outcome));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            mine
        });
        let disturbance = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(leader) = cluster.leader_position() {
                cluster.isolate(leader);
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
            cluster.heal();
            tokio::time::sleep(Duration::from_millis(200)).await;
            is_over.store(true, Ordering::Relaxed);
        };
        let proposers = futures_util::future::join_all(proposers);
        let (granted, ()) = tokio::join!(proposers, disturbance);
        ranges.extend(granted.into_iter().flatten());
        let victim = cluster.members.remove(round % 3);
        let (dir, port) = victim.kill().await;
        let back = Member::open(dir, port, &cluster.cuts).await;
        cluster.members.push(back);
        cluster.leader().await;
    }
    cluster.all_agree().await;
    println!("{} ranges", ranges.len());
    assert!(ranges.len() > 20);
    ranges.sort_by_key(|range| range.start);
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{pair:?}");
    }
    let granted = ranges.last().unwrap().end;
    assert!(cluster.members[0].next_key() >= granted);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_hands_over_first() {
    let mut cluster = Cluster::start().await;
    let next = cluster.grant(10).await.end;
    let leader = cluster.leader().await;
    let leaving = cluster.members.remove(leader);
    let clock = Clock::default();
    let begin = clock.boot();
    let is_handed_over = leaving.raft.hand_over(None).await;
    println!("handed over in {:?}", clock.since(begin));
    assert!(is_handed_over);
    leaving.kill().await;
    assert!(cluster.grant(10).await.start >= next);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_purged_entries_gets_a_snapshot() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let follower = cluster.members.remove((leader + 1) % 3);
    let behind = follower.raft.applied();
    let (dir, port) = follower.kill().await;
    for _ in 0..10 {
        cluster.grant(10).await;
    }
    let leader = cluster.leader().await;
    let leading = &cluster.members[leader].raft;
    leading.core().trigger().snapshot().await.unwrap();
    let purge_to = leading.applied();
    eventually("a snapshot", || {
        use openraft::async_runtime::watch::WatchReceiver;
        let snapshot = leading.metrics().borrow_watched().snapshot;
        snapshot.filter(|log_id| log_id.index >= purge_to)
    })
    .await;
    leading.core().trigger().purge_log(purge_to).await.unwrap();
    eventually("a purge", || {
        use openraft::async_runtime::watch::WatchReceiver;
        let purged = leading.metrics().borrow_watched().purged;
        purged.filter(|log_id| log_id.index > behind)
    })
    .await;
    let back = Member::open(dir, port, &cluster.cuts).await;
    cluster.members.push(back);
    cluster.all_agree().await;
    assert!(cluster.members[2].raft.applied() >= purge_to);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_node_at_this_address_is_refused() {
    let cluster = Cluster::start().await;
    cluster.leader().await;
    let target = cluster.members[0].raft.address().cluster();
    let other = NodeId::random().to_string();
    let vote = json!({"version": 1, "term": 1_000_000, "node": other, "leads": false});
    let body = json!({
        "version": 1, "from": other, "to": other,
        "request": {"vote": vote, "last": null, "is_transfer": true},
    });
    let client = PeerClient::new(None);
    let answer: Result<serde_json::Value, _> =
        client.post(&target, "/raft/vote", &body, LIMIT).await;
    let text = answer.unwrap_err().to_string();
    assert!(text.contains("409"), "{text}");
    assert!(cluster.members[0].raft.leadership().term < 1_000_000);
    cluster.stop().await;
}
