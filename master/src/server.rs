//! A running master: two listeners, Raft, and the two loops that notice what time brings.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dulse_shared::{
    clock::Clock,
    net::{
        address::ServerAddress,
        cluster_port::ClusterPort,
        metrics::{Metrics, RequestMetrics},
        peer::PeerClient,
        route_table::Route,
        server::{BindError, bind, spawn_server},
        tasks::Tasks,
    },
};
use tokio::net::TcpListener;

use crate::{
    assign::Assigner,
    cluster::Cluster,
    config::MasterConfig,
    data_dir::DataDir,
    error::MasterStartError,
    executor::Executor,
    gauges::Gauges,
    http::{HttpSettings, HttpState, Relay, cluster_routes, public_router},
    key_range::KeyRange,
    raft::{Raft, RaftConfig},
};

/// How often silence is noticed. A server counts as dead at most this much late.
const TICK: Duration = Duration::from_millis(200);
/// How often interrupted creations and expired volumes are looked for.
const COMPLETION_PAUSE: Duration = Duration::from_millis(500);
/// How often a master that just started looks whether somebody leads.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Between two pictures made of what was applied: a follower's lookups are late by this much, and
/// many changes in a row make one picture.
const APPLIED_PAUSE: Duration = Duration::from_millis(20);

/// A master that serves until the tasks it was started with stop.
pub struct Master {
    public_address: SocketAddr,
    cluster_address: SocketAddr,
    cluster_routes: Vec<Route>,
    raft: Raft,
    _dir: DataDir,
}

impl Master {
    /// Takes the data directory and the ports, opens the agreed state and serves.
    pub async fn start(
        config: MasterConfig,
        clock: Clock,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, MasterStartError> {
        let dir = DataDir::open(&config.dir)?;
        let listeners = Listeners::bind(&config).await?;
        let address = listeners.advertised(&config.advertise)?;
        check_peers(&config.peers, &address)?;
        let identity = config.identity.as_ref();
        let raft_config = RaftConfig {
            dir: config.dir.clone(),
            address,
            peers: config.peers.clone(),
            // Of its own: connections belong to the threads that opened them.
            client: PeerClient::new(identity),
            beside: config.beside.clone(),
        };
        let client = PeerClient::new(identity);
        let raft = Raft::start(raft_config, tasks).await?;
        warn_of_unsupported(&config);
        let parts = Parts::new(config, &raft, client, clock, metrics, tasks)?;
        parts.spawn_loops(tasks);
        parts.spawn_follower(&raft, tasks);
        let (public_address, cluster_address) =
            (listeners.public_address, listeners.cluster.address());
        let cluster_routes = parts.serve(listeners, &raft, tasks);
        Ok(Self { public_address, cluster_address, cluster_routes, raft, _dir: dir })
    }

    /// Where the public port listens.
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Where the cluster port listens.
    pub fn cluster_address(&self) -> SocketAddr {
        self.cluster_address
    }

    /// Resolves once a master leads the cluster, this one or another; not before all peers are there,
    /// if it has to be founded.
    pub async fn ready(&self) {
        loop {
            let leadership = self.raft.leadership();
            let has_leader = leadership.is_leader || leadership.leader.is_some();
            if has_leader && self.raft.read(|state| state.cluster.is_some()) {
                return;
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
    }

    /// Lets another master lead, before this one stops.
    pub async fn leave(&self) {
        self.raft.leave().await;
    }

    /// What the cluster port answers.
    pub fn cluster_routes(&self) -> &[Route] {
        &self.cluster_routes
    }

    /// Closes the agreed state. The tasks were stopped and drained before.
    pub async fn stop(&self) {
        self.raft.stop().await;
    }
}

struct Listeners {
    public: TcpListener,
    public_address: SocketAddr,
    cluster: ClusterPort,
}

impl Listeners {
    async fn bind(config: &MasterConfig) -> Result<Self, BindError> {
        let flag = "--port (--master-port of `dulse server`)";
        let public = bind(&config.bind, config.port, flag).await?;
        let public_address = local_address(&public, flag)?;
        let flag = "--cluster-port (--master-cluster-port of `dulse server`)";
        let identity = config.identity.as_ref();
        let cluster = ClusterPort::bind(identity, &config.bind, config.cluster_port, flag).await?;
        Ok(Self { public, public_address, cluster })
    }

    /// What others are told: ports that were picked included.
    fn advertised(&self, host: &str) -> Result<ServerAddress, MasterStartError> {
        let (port, cluster_port) = (self.public_address.port(), self.cluster.address().port());
        let address = format!("{host}:{port}.{cluster_port}");
        address.parse().map_err(|_| MasterStartError::Advertise { address: host.to_owned() })
    }
}

fn local_address(listener: &TcpListener, flag: &'static str) -> Result<SocketAddr, BindError> {
    let other = |source| BindError::Other { address: "the port".to_owned(), flag, source };
    listener.local_addr().map_err(other)
}

/// What a master is made of, once Raft runs.
struct Parts {
    cluster: Arc<Cluster>,
    executor: Arc<Executor>,
    http: HttpState,
    metrics: Metrics,
    clock: Clock,
}

impl Parts {
    fn new(
        config: MasterConfig,
        raft: &Raft,
        peers: PeerClient,
        clock: Clock,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, MasterStartError> {
        let limit_bytes = config.volume_size_limit_bytes;
        let cluster = Cluster::new(Arc::new(raft.clone()), limit_bytes, clock.clone());
        let cluster = Arc::new(cluster);
        let executor = Executor::new(cluster.clone(), peers.clone(), tasks.clone());
        let executor = Arc::new(executor);
        let keys = Arc::new(KeyRange::start(raft.clone(), clock.clone(), tasks));
        let assigner = Arc::new(Assigner::new(cluster.clone(), executor.clone(), keys));
        let settings = HttpSettings {
            default_replication: config.default_replication,
            max_needle_bytes: config.max_needle_bytes,
            dir: config.dir,
        };
        let relay = Relay::new().map_err(MasterStartError::Relay)?;
        let http = HttpState::new(
            cluster.clone(),
            assigner,
            relay,
            peers,
            settings,
            metrics.clone(),
            tasks.clone(),
        );
        Ok(Self { cluster, executor, http, metrics, clock })
    }

    fn spawn_loops(&self, tasks: &Tasks) {
        let (cluster, gauges) = (self.cluster.clone(), Gauges::register(&self.metrics));
        let inner = tasks.clone();
        tasks.spawn("master tick", async move {
            while pause(&inner, TICK).await {
                cluster.tick();
                gauges.update(&cluster);
            }
        });
        let (executor, inner) = (self.executor.clone(), tasks.clone());
        tasks.spawn("volume creations", async move {
            while pause(&inner, COMPLETION_PAUSE).await {
                executor.complete_creations().await;
            }
        });
        let (executor, inner) = (self.executor.clone(), tasks.clone());
        tasks.spawn("volume deletions", async move {
            while pause(&inner, COMPLETION_PAUSE).await {
                executor.delete_expired().await;
            }
        });
    }

    /// Lookups are answered from this master's own picture, so what another one had agreed on
    /// enters it as soon as it is applied.
    fn spawn_follower(&self, raft: &Raft, tasks: &Tasks) {
        let (cluster, raft, inner) = (self.cluster.clone(), raft.clone(), tasks.clone());
        tasks.spawn("applied changes", async move {
            let mut seen = raft.applied();
            loop {
                tokio::select! {
                    applied = raft.applied_after(seen) => seen = applied,
                    () = inner.stopped() => return,
                }
                cluster.follow();
                if !pause(&inner, APPLIED_PAUSE).await {
                    return;
                }
            }
        });
    }

    /// Begins to answer; what the cluster port answers. That port is served by Raft's threads, which
    /// have nothing else to do; what takes longer there goes on in the background.
    fn serve(self, listeners: Listeners, raft: &Raft, tasks: &Tasks) -> Vec<Route> {
        let public = public_router(self.http.clone());
        let requests = RequestMetrics::register(&self.metrics, "master");
        let clock = self.clock.clone();
        spawn_server("master public port", listeners.public, public, requests, clock, tasks);
        let cluster = cluster_routes(self.http).done_in_background(tasks).merge(raft.routes());
        let routes = cluster.routes().to_vec();
        let requests = RequestMetrics::register(&self.metrics, "master_cluster");
        let tasks = tasks.on(raft.runtime().clone());
        listeners.cluster.serve("master cluster port", cluster, requests, self.clock, &tasks);
        routes
    }
}

/// Others have to reach this master by what it calls itself.
fn check_peers(peers: &[ServerAddress], here: &ServerAddress) -> Result<(), MasterStartError> {
    if peers.is_empty() || peers.contains(here) {
        return Ok(());
    }
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    Err(MasterStartError::NotAmongPeers { here: here.to_string(), peers: peers.join(",") })
}

/// Waits; `false` once everything is to stop.
async fn pause(tasks: &Tasks, length: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        () = tasks.stopped() => false,
    }
}

fn warn_of_unsupported(config: &MasterConfig) {
    if config.default_replication.copies() > 1 {
        tracing::warn!(
            "--default-replication {} is not supported yet: every assign that names no replication \
             will be refused; pass 000",
            config.default_replication
        );
    }
}

#[cfg(test)]
mod tests;
