//! The master's gauges in `/metrics`: how many volumes stand how, which servers are alive, and
//! whether this master leads. They are set on every tick, so they are at most that old.

use std::sync::atomic::AtomicU64;

use dulse_shared::net::metrics::Metrics;
use prometheus_client::metrics::{family::Family, gauge::Gauge};

use crate::{
    cluster::Cluster,
    topology::Topology,
    volume_layout::{Layouts, Standing},
};

type Count = Gauge<u64, AtomicU64>;

/// What is counted on every tick.
pub(crate) struct Gauges {
    is_leader: Count,
    servers_live: Count,
    writable: Count,
    read_only: Count,
    full: Count,
    closed: Count,
    unavailable: Count,
    free_slots: Count,
    writable_bytes: Count,
}

impl Gauges {
    /// Adds them to the process' metrics.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let build: Family<[(&'static str, &'static str); 2], Count> = Family::default();
        let labels = [("role", "master"), ("version", env!("CARGO_PKG_VERSION"))];
        build.get_or_create(&labels).set(1);
        metrics.register(|registry| {
            registry.register("master_build_info", "The program's version", build);
        });
        let gauge = |name: &'static str, help: &'static str| {
            let gauge = Count::default();
            metrics.register(|registry| registry.register(name, help, gauge.clone()));
            gauge
        };
        Self {
            is_leader: gauge("raft_is_leader", "1 if this master leads"),
            servers_live: gauge("volume_servers_live", "Volume servers heard lately"),
            writable: gauge("volumes_writable", "Volumes that assign picks from"),
            read_only: gauge("volumes_read_only", "Volumes that take no writes, for any reason"),
            full: gauge("volumes_full", "Volumes at the size limit"),
            closed: gauge("volumes_closed", "Volumes admitted from elsewhere"),
            unavailable: gauge("volumes_unavailable", "Volumes that nobody can read"),
            free_slots: gauge("volume_slots_free", "Volumes that still can be created"),
            writable_bytes: gauge("volumes_writable_bytes", "Bytes that fit into writable volumes"),
        }
    }

    /// Sets them to what is so now.
    pub(crate) fn update(&self, cluster: &Cluster) {
        let layouts = cluster.layouts();
        self.is_leader.set(u64::from(cluster.log.leadership().is_leader));
        cluster.look(|_, topology| self.count_servers(topology));
        self.count_volumes(&layouts);
    }

    fn count_servers(&self, topology: &Topology) {
        self.servers_live.set(topology.alive().count() as u64);
    }

    fn count_volumes(&self, layouts: &Layouts) {
        let count = |is_counted: fn(Standing) -> bool| layouts.count(is_counted) as u64;
        self.writable.set(count(|s| s == Standing::Writable));
        self.full.set(count(|s| s == Standing::Full));
        self.closed.set(count(|s| s == Standing::Closed));
        self.read_only.set(count(|s| {
            !matches!(s, Standing::Writable | Standing::Closed | Standing::Creating)
        }));
        self.free_slots.set(layouts.capacity.free_slots);
        self.writable_bytes.set(layouts.capacity.writable_bytes);
        self.unavailable.set(layouts.unreadable as u64);
    }
}
