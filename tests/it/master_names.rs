//! Masters behind names: each address of a name is a master of its own, and followed when it moves.

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use dulse_master::{Master, MasterConfig};
use dulse_shared::{
    clock::Clock,
    id::ReplicaPlacement,
    net::{
        address::ServerAddress, cluster_identity::ClusterIdentity, cluster_secret::ClusterSecret,
        metrics::Metrics, resolver::Resolver, tasks::Tasks,
    },
};
use dulse_volume::{config::VolumeServerConfig, server::VolumeServer};

use crate::{
    golden_expiring::volume_config,
    harness::{Role, Server, dulse, eventually, free_port, run},
    http::{get, runtime},
    needles::Needles,
};

const LIMIT: Duration = Duration::from_secs(30);

/// What a name resolves to just now (nothing: it does not), and how often that was asked.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<(Vec<IpAddr>, u64)>>);

impl Names {
    fn set(&self, ips: &[&str]) {
        self.0.lock().unwrap().0 = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    }

    /// Waits until all that the name led to answers: then it is asked for more seldom.
    fn settle(&self) {
        let (clock, asked) = (Clock::System, || self.0.lock().unwrap().1);
        let mut last = (asked(), clock.boot());
        eventually("the name is asked for seldom", LIMIT, || {
            if asked() != last.0 {
                last = (asked(), clock.boot());
            }
            (clock.since(last.1) > Duration::from_secs(2)).then_some(())
        });
    }

    fn resolver(&self) -> Resolver {
        let names = self.0.clone();
        Resolver::of(move |host| {
            assert_eq!(host, "masters.example");
            let mut names = names.lock().unwrap();
            names.1 += 1;
            let ips = names.0.clone();
            std::future::ready(if ips.is_empty() {
                Err(io::Error::other("no such name"))
            } else {
                Ok(ips)
            })
        })
    }
}

/// A master of three in this process.
struct One {
    master: Master,
    tasks: Tasks,
}

async fn start_master(
    dir: &Path,
    host: &str,
    peers: &[ServerAddress],
    identity: &ClusterIdentity,
) -> One {
    let tasks = Tasks::new();
    let config = MasterConfig {
        dir: dir.join(host),
        bind: host.to_owned(),
        port: peers[0].port,
        cluster_port: peers[0].cluster_port,
        identity: Some(identity.clone()),
        advertise: host.to_owned(),
        peers: peers.to_vec(),
        beside: None,
        volume_size_limit_bytes: 30 << 30,
        default_replication: ReplicaPlacement::default(),
        max_needle_bytes: 1 << 20,
    };
    let master = Master::start(config, Clock::System, Metrics::default(), &tasks).await.unwrap();
    One { master, tasks }
}

impl One {
    async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.drain(LIMIT).await);
        self.master.stop().await;
    }

    /// Whether this master hears the volume server.
    fn hears(&self) -> bool {
        let health = get(&format!("http://{}/cluster/health", self.master.public_address())).json();
        health["servers"].as_array().unwrap().iter().any(|server| server["state"] == "alive")
    }
}

#[test]
fn every_master_behind_a_name_is_reported_to_and_followed_by_mutual_tls() {
    let dir = tempfile::tempdir().unwrap();
    let identity = ClusterIdentity::new(&ClusterSecret::generate().unwrap()).unwrap();
    let (port, cluster_port) = (free_port(), free_port());
    let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    let at = |host: &str| ServerAddress { host: host.to_owned(), port, cluster_port };
    let peers = hosts.map(at);
    let runtime = runtime();
    let start = |host: &str| runtime.block_on(start_master(dir.path(), host, &peers, &identity));
    let [first, second, third] = hosts.map(start);
    runtime.block_on(first.master.ready());

    let (names, tasks) = (Names::default(), Tasks::new());
    let config = VolumeServerConfig {
        identity: Some(identity.clone()),
        masters: vec![at("masters.example")],
        resolver: names.resolver(),
        ..volume_config(&dir.path().join("volumes"), &first.master)
    };
    let volume = VolumeServer::start(config, Clock::System, Metrics::default(), &tasks);
    let volume = runtime.block_on(volume).unwrap();
    // A name that does not resolve yet ends nothing, and one that grows is noticed.
    assert!(!first.hears() && tasks.failure().is_none());
    names.set(&hosts[..2]);
    eventually("the first two hear it", LIMIT, || (first.hears() && second.hears()).then_some(()));
    names.settle();
    assert!(!third.hears());
    names.set(&hosts);
    eventually("all hear it", LIMIT, || third.hears().then_some(()));
    runtime.block_on(volume.ready());

    names.settle();
    // One of them is started elsewhere, with its directory, and the name leads there.
    runtime.block_on(third.stop());
    std::fs::rename(dir.path().join(hosts[2]), dir.path().join("127.0.0.4")).unwrap();
    let moved = [hosts[0], hosts[1], "127.0.0.4"];
    let peers = moved.map(at);
    let third = runtime.block_on(start_master(dir.path(), moved[2], &peers, &identity));
    assert!(!third.hears());
    names.set(&moved);
    eventually("the one that moved hears it", LIMIT, || third.hears().then_some(()));
    assert_eq!(tasks.failure(), None);

    runtime.block_on(async {
        tasks.stop();
        assert!(tasks.drain(LIMIT).await);
        volume.stop().await;
        for master in [first, second, third] {
            master.stop().await;
        }
    });
}

#[test]
fn localhost_is_one_master_whatever_it_resolves_to() {
    let master = Server::builder().role(Role::Master).start();
    let named = master.master_address().replace("127.0.0.1", "localhost");
    let both = format!("{named},{}", master.master_address());
    let mut volume = Server::builder().role(Role::Volume).flag(format!("--master={both}")).start();
    let mut needles = Needles::default();
    needles.put(&master, b"by name");
    needles.assert_kept(&master);
    let status = run(dulse().args(["cluster", "status", "--master", &both]));
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let text = String::from_utf8(status.stdout).unwrap();
    let port = master.master_url().rsplit(':').next().unwrap().to_owned();
    let rows: Vec<&str> = text.lines().filter(|row| row.contains(&format!(":{port} "))).collect();
    // The line of the leader, and one row of the table.
    assert_eq!(rows.iter().filter(|row| !row.starts_with("leader")).count(), 1, "{text}");
    assert!(!volume.stderr().contains("no heartbeat reaches"), "{}", volume.stderr());
    assert!(volume.terminate().success());
}

#[test]
fn waiting_for_a_cluster_does_not_wait_for_a_master_that_is_off() {
    let master = Server::builder().role(Role::Master).start();
    let _volume = master.volume_server().start();
    // Nothing answers there, not even that nobody listens.
    let off = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let both = format!("{},{}", off.local_addr().unwrap(), master.master_address());
    let clock = Clock::System;
    let begin = clock.boot();
    let waited = run(dulse().args(["cluster", "wait", "--servers", "1", "--master", &both]));
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    assert!(clock.since(begin) < Duration::from_secs(2), "{:?}", clock.since(begin));
}
