//! Masters that meet by their `--peers`: founding, lost directories, moves, changes at run time.

use std::{path::PathBuf, time::Duration};

use dulse_shared::{
    id::ClusterId,
    net::{address::ServerAddress, peer::PeerClient, tasks::Tasks},
    wire::MasterRole,
};
use tokio::net::TcpListener;

use super::{LIMIT, eventually, free_port, grant, granted};
use crate::raft::{MembershipError, Raft, RaftConfig};

/// Longer than a cluster takes to be founded when nothing is in the way.
const FOUNDING: Duration = Duration::from_secs(4);

struct Master {
    dir: PathBuf,
    raft: Raft,
    tasks: Tasks,
}

impl Master {
    async fn start(dir: PathBuf, address: &ServerAddress, peers: &[ServerAddress]) -> Self {
        let tasks = Tasks::new();
        let listener = TcpListener::bind(("127.0.0.1", address.cluster_port)).await.unwrap();
        let (address, peers) = (address.clone(), peers.to_vec());
        let client = PeerClient::new(None);
        let config = RaftConfig { dir: dir.clone(), address, peers, client, beside: None };
        let raft = Raft::start(config, &tasks).await.unwrap();
        let (router, stop) = (raft.routes().into_router(), tasks.clone());
        tasks.spawn_contained(async move {
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                () = stop.stopped() => {}
            }
        });
        Self { dir, raft, tasks }
    }

    async fn stop(self) -> PathBuf {
        assert_eq!(self.tasks.failure(), None);
        self.tasks.stop();
        assert!(self.tasks.drain(LIMIT).await);
        self.raft.stop().await;
        self.dir
    }

    /// Stops it, and its directory is lost.
    async fn lose(self) -> PathBuf {
        let dir = self.stop().await;
        std::fs::remove_dir_all(&dir).unwrap();
        dir
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.raft.read(|state| state.cluster)
    }

    fn leads(&self) -> bool {
        self.raft.leadership().is_leader
    }
}

struct Place {
    dir: tempfile::TempDir,
    addresses: Vec<ServerAddress>,
}

impl Place {
    /// Room for so many masters.
    fn new(count: usize) -> Self {
        let address =
            |_| ServerAddress { host: "127.0.0.1".to_owned(), port: 1, cluster_port: free_port() };
        let addresses = (0..count).map(address).collect();
        Self { dir: tempfile::tempdir().unwrap(), addresses }
    }

    async fn start(&self, n: usize, peers: &[ServerAddress]) -> Master {
        Master::start(self.dir.path().join(n.to_string()), &self.addresses[n], peers).await
    }

    /// The first three, each knowing all three.
    async fn three(&self) -> Vec<Master> {
        let mut masters = Vec::new();
        for n in 0..3 {
            masters.push(self.start(n, &self.addresses[..3]).await);
        }
        leader(&masters).await;
        masters
    }
}

async fn leader(masters: &[Master]) -> usize {
    eventually("a leader", || masters.iter().position(Master::leads)).await
}

/// So many keys, from whoever leads.
async fn draw(masters: &[Master], count: u64) -> std::ops::Range<u64> {
    loop {
        let leader = leader(masters).await;
        if let Ok(outcome) = masters[leader].raft.propose(grant(count)).await {
            return granted(&outcome);
        }
    }
}

async fn stop_all(masters: Vec<Master>) {
    for master in masters {
        master.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_new_masters_found_a_cluster_once_all_are_there() {
    let place = Place::new(3);
    let mut masters = vec![place.start(0, &place.addresses).await];
    masters.push(place.start(1, &place.addresses).await);
    tokio::time::sleep(FOUNDING).await;
    assert!(masters.iter().all(|master| master.cluster().is_none()), "two are not all");
    masters.push(place.start(2, &place.addresses).await);
    leader(&masters).await;
    for master in &masters {
        eventually("a name", || master.cluster()).await;
        assert_eq!(master.cluster(), masters[0].cluster());
        let roles: Vec<MasterRole> = master.raft.masters().iter().map(|m| m.role).collect();
        assert_eq!(roles.iter().filter(|role| **role == MasterRole::Leader).count(), 1);
        assert_eq!(roles.iter().filter(|role| **role == MasterRole::Follower).count(), 2);
    }
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_with_different_lists_found_nothing() {
    let place = Place::new(3);
    let two = place.addresses[..2].to_vec();
    let masters = vec![
        place.start(0, &place.addresses).await,
        place.start(1, &two).await,
        place.start(2, &place.addresses).await,
    ];
    tokio::time::sleep(FOUNDING).await;
    assert!(masters.iter().all(|master| master.cluster().is_none()));
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_lost_its_directory_comes_back_as_another_node() {
    let place = Place::new(3);
    let mut masters = place.three().await;
    let next = draw(&masters, 10).await.end;
    let before: Vec<String> = masters[0].raft.masters().into_iter().map(|m| m.node).collect();
    masters.remove(1).lose().await;
    leader(&masters).await;
    masters.insert(1, place.start(1, &place.addresses).await);
    let cluster = masters[0].cluster();
    eventually("the lost one back", || (masters[1].cluster() == cluster).then_some(())).await;
    eventually("three masters", || {
        let now = masters[0].raft.masters();
        let is_new = |node: &String| !before.contains(node);
        let is_settled = now.len() == 3 && now.iter().all(|m| m.role != MasterRole::Learner);
        (is_settled && now.iter().any(|m| is_new(&m.node))).then_some(())
    })
    .await;
    // Its vote counts: with another one gone it makes the majority.
    masters.remove(0).stop().await;
    assert!(draw(&masters, 10).await.start >= next);
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_masters_that_lost_their_directories_found_nothing_while_the_third_lives() {
    let place = Place::new(3);
    let mut masters = place.three().await;
    draw(&masters, 10).await;
    let cluster = masters[0].cluster();
    masters.remove(2).lose().await;
    masters.remove(1).lose().await;
    for n in 1..3 {
        masters.push(place.start(n, &place.addresses).await);
    }
    tokio::time::sleep(FOUNDING).await;
    // They may have been sent what the third knows, but it takes in nobody by itself.
    let founds_none = |master: &Master| master.cluster().is_none_or(|id| Some(id) == cluster);
    assert!(masters.iter().all(|master| founds_none(master) && !master.leads()));
    // Not while it is away, either.
    let dir = masters.remove(0).stop().await;
    tokio::time::sleep(FOUNDING).await;
    assert!(masters.iter().all(|master| founds_none(master) && !master.leads()));
    masters.insert(0, Master::start(dir, &place.addresses[0], &place.addresses).await);
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_all_lost_their_directories_found_nothing_beside_old_volumes() {
    let place = Place::new(3);
    let mut masters = Vec::new();
    for n in 0..3 {
        masters.push(place.start(n, &place.addresses).await);
    }
    masters[2].raft.hear_cluster("v:8080", ClusterId::from(7));
    tokio::time::sleep(FOUNDING).await;
    assert!(masters.iter().all(|master| master.cluster().is_none()));
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_moved_is_found_again() {
    let place = Place::new(4);
    let mut masters = place.three().await;
    let leader = leader(&masters).await;
    let next = draw(&masters, 10).await.end;
    let dir = masters.remove((leader + 1) % 3).stop().await;
    // It was not told where it is now; nor were the others.
    masters.push(Master::start(dir, &place.addresses[3], &place.addresses[..3]).await);
    let moved = place.addresses[3].to_string();
    for master in &masters {
        let is_known = || master.raft.masters().iter().any(|m| m.address == moved).then_some(());
        eventually("the new address", is_known).await;
        assert_eq!(master.raft.masters().len(), 3);
    }
    // It counts where it is.
    masters.remove(0).stop().await;
    assert!(draw(&masters, 10).await.start >= next);
    stop_all(masters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_master_grows_to_three_and_shrinks_again() {
    let place = Place::new(3);
    let mut masters = vec![place.start(0, &[]).await];
    let mut next = draw(&masters, 10).await.end;
    for n in 1..3 {
        masters.push(place.start(n, &place.addresses[..=n]).await);
        let leader = leader(&masters).await;
        masters[leader].raft.add_master(&place.addresses[n]).await.unwrap();
        assert_eq!(masters[leader].raft.masters().len(), n + 1);
    }
    let first = &masters[0];
    let again = first.raft.add_master(&place.addresses[2]).await.unwrap_err();
    assert!(matches!(again, MembershipError::AlreadyMember { .. }), "{again}");
    first.raft.transfer_to(Some(&place.addresses[2])).await.unwrap();
    assert_eq!(leader(&masters).await, 2);
    let keys = draw(&masters, 10).await;
    assert!(keys.start >= next);
    next = keys.end;
    // The leader takes the two others out, and is by itself again.
    for n in 0..2 {
        masters[2].raft.remove_master(&place.addresses[n]).await.unwrap();
    }
    let gone = masters[2].raft.remove_master(&place.addresses[0]).await.unwrap_err();
    assert!(matches!(gone, MembershipError::NotAMember { .. }), "{gone}");
    let last = masters[2].raft.remove_master(&place.addresses[2]).await.unwrap_err();
    assert!(matches!(last, MembershipError::LastMaster { .. }), "{last}");
    let alone = vec![masters.pop().unwrap()];
    stop_all(masters).await;
    assert!(draw(&alone, 10).await.start >= next);
    stop_all(alone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_with_a_past_is_not_taken_in() {
    let place = Place::new(3);
    let one = place.start(0, &[]).await;
    let other = place.start(1, &[]).await;
    let error = one.raft.add_master(&place.addresses[1]).await.unwrap_err();
    assert!(matches!(error, MembershipError::NotNew { .. }), "{error}");
    let error = one.raft.add_master(&place.addresses[2]).await.unwrap_err();
    assert!(matches!(error, MembershipError::Unreachable { .. }), "{error}");
    stop_all(vec![one, other]).await;
}
