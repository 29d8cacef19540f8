//! A volume server from start to stop.
//!
//! Start: lock the directories, bind both ports, open the volumes, serve, report to the masters.
//! Stop, after the tasks were asked to stop and drained: write what waits, checkpoint every volume.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use dulse_shared::{
    clock::Clock,
    net::{
        cluster_port::ClusterPort,
        metrics::{Metrics, RequestMetrics},
        peer::PeerClient,
        route_table::Route,
        server::{BindError, bind, spawn_server},
        tasks::Tasks,
    },
    wire::{DirReport, Incarnation},
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    admin::cluster_routes,
    clock_watch,
    config::{VolumeServerConfig, offset_width},
    disk::{DataDirError, Disk, RealDisk, open_data_dirs},
    engine::{
        clock_trust::ClockTrust, metrics::EngineMetrics, open::Opener, stamp::StampSource,
        volume::Shared,
    },
    gauges,
    heartbeat::{Introduction, Reports},
    http::{HttpSettings, HttpState, PublicPort},
    maintenance::Maintenance,
    masters::{Board, Reporting},
    purge,
    reader::on_blocking_pool,
    store::Store,
};

/// Why a volume server does not start.
#[derive(Debug, thiserror::Error)]
pub enum VolumeStartError {
    /// A data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refuses something basic.
    #[error("cannot start the volume server: {0}")]
    Io(#[from] io::Error),
}

/// A running volume server.
#[derive(Debug)]
pub struct VolumeServer {
    store: Store,
    public: SocketAddr,
    cluster: SocketAddr,
    /// Where others reach that.
    cluster_url: String,
    cluster_routes: Vec<Route>,
    board: Arc<Board>,
    acknowledged: watch::Receiver<bool>,
    /// This run of it.
    incarnation: Incarnation,
}

/// The two ports, bound and not yet served.
struct Listeners {
    public: TcpListener,
    cluster: ClusterPort,
}

impl VolumeServer {
    /// Starts one: when this returns it serves reads; once a master has acknowledged it
    /// ([`VolumeServer::ready`]) it takes writes.
    pub async fn start(
        config: VolumeServerConfig,
        clock: Clock,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, VolumeStartError> {
        let public = bind(&config.bind, config.port, "--port").await?;
        let (identity, port) = (config.identity.as_ref(), config.cluster_port);
        let cluster = ClusterPort::bind(identity, &config.bind, port, "--cluster-port").await?;
        let store = open_store(&config, &clock, &metrics).await?;
        gauges::register(&metrics, &store);
        let (acknowledge, acknowledged) = watch::channel(false);
        let mut server = Self {
            store,
            public: public.local_addr()?,
            cluster: cluster.address(),
            cluster_url: cluster.reached_at(&config.advertise),
            cluster_routes: Vec::new(),
            board: Arc::new(Board::new(config.masters.clone(), clock.clone())),
            acknowledged,
            incarnation: Incarnation(clock.wall_ns()),
        };
        server.report(&config, tasks, acknowledge);
        let maintenance = Maintenance::new(server.store.clone(), config.routine, &clock, &metrics);
        maintenance.spawn(tasks);
        tasks.spawn("clock", clock_watch::run(server.store.clone(), tasks.clone()));
        let admitting = server.store.clone().admit_until_stopped(tasks.clone());
        tasks.spawn("admission", admitting);
        tasks.spawn("trash", purge::run(server.store.clone(), tasks.clone()));
        let listeners = Listeners { public, cluster };
        let routes = server.serve(&config, listeners, maintenance, clock, metrics, tasks);
        server.cluster_routes = routes;
        Ok(server)
    }

    /// Begins to answer; what the cluster port answers.
    fn serve(
        &self,
        config: &VolumeServerConfig,
        listeners: Listeners,
        maintenance: Maintenance,
        clock: Clock,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Vec<Route> {
        let Listeners { public, cluster } = listeners;
        let state = HttpState::new(HttpSettings {
            store: self.store.clone(),
            maintenance: maintenance.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            masters: config.masters.clone(),
            public_url: self.public_url(config),
            url: self.url(config),
            max_needle_bytes: config.max_needle_bytes,
        });
        let public_metrics = RequestMetrics::register(&metrics, "volume");
        let answer = PublicPort::new(state);
        spawn_server("volume public port", public, answer, public_metrics, clock.clone(), tasks);
        let cluster_metrics = RequestMetrics::register(&metrics, "volume_cluster");
        let board = self.board.clone();
        let table = cluster_routes(self.store.clone(), maintenance, board, self.incarnation);
        let routes = table.routes().to_vec();
        cluster.serve("volume cluster port", table, cluster_metrics, clock, tasks);
        routes
    }

    /// Starts reporting to every master.
    fn report(&self, config: &VolumeServerConfig, tasks: &Tasks, acknowledge: watch::Sender<bool>) {
        let introduction = Introduction {
            incarnation: self.incarnation,
            public_url: self.public_url(config),
            url: self.url(config),
            cluster_url: self.cluster_url.clone(),
            data_center: config.data_center.clone(),
            rack: config.rack.clone(),
            large_volumes: config.large_volumes,
            max_needle_bytes: config.max_needle_bytes,
        };
        let reports = Reports {
            store: self.store.clone(),
            introduction,
            peers: PeerClient::new(config.identity.as_ref()),
            tasks: tasks.clone(),
            acknowledged: acknowledge,
            seq: Arc::default(),
            board: self.board.clone(),
        };
        let reporting = Reporting::new(reports, config.resolver.clone());
        tasks.spawn("masters", reporting.run());
    }

    /// `host:port` of the public port, as others are told.
    fn url(&self, config: &VolumeServerConfig) -> String {
        format!("{}:{}", config.advertise, self.public.port())
    }

    /// The same for clients outside.
    fn public_url(&self, config: &VolumeServerConfig) -> String {
        config.public_url.clone().unwrap_or_else(|| self.url(config))
    }

    /// The address of the public port.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// The address of the cluster port.
    pub fn cluster_address(&self) -> SocketAddr {
        self.cluster
    }

    /// What the cluster port answers.
    pub fn cluster_routes(&self) -> &[Route] {
        &self.cluster_routes
    }

    /// The data directories and their room.
    pub fn room(&self) -> Vec<DirReport> {
        self.store.dirs()
    }

    /// Resolves once a leading master has acknowledged this server; never if the process stops
    /// before that, which the caller watches for.
    pub async fn ready(&self) {
        let mut acknowledged = self.acknowledged.clone();
        let is_ready = acknowledged.wait_for(|is_acknowledged| *is_acknowledged).await.is_ok();
        if !is_ready {
            // The heartbeats have ended: a server that was refused is not ready.
            std::future::pending::<()>().await;
        }
    }

    /// Writes what waits and closes every volume. Call it after the tasks were drained.
    pub async fn stop(&self) {
        let store = self.store.clone();
        let closed = on_blocking_pool(move || {
            store.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::error!("cannot close the volumes: {error}");
        }
    }
}

async fn open_store(
    config: &VolumeServerConfig,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Store, VolumeStartError> {
    let shared = Shared {
        stamps: StampSource::new(clock.clone()),
        clock_trust: ClockTrust::new(clock.clone()),
        volume_size_limit_bytes: AtomicU64::new(0),
        max_needle_bytes: config.max_needle_bytes,
        metrics: EngineMetrics::register(metrics),
    };
    let opener =
        Opener { shared: Arc::new(shared), default_width: offset_width(config.large_volumes) };
    let configs = config.dirs.clone();
    let opened = on_blocking_pool(move || {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dirs = open_data_dirs(&disk, &configs);
        Ok(dirs.and_then(|dirs| Store::open(dirs, opener)))
    });
    Ok(opened.await??)
}
