//! What a master is told when it starts.

use std::path::PathBuf;

use dulse_shared::{
    id::{ClusterId, ReplicaPlacement},
    net::{address::ServerAddress, cluster_identity::ClusterIdentity},
};

/// Settings of a master; the command line fills them in.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// Where it keeps what the masters agreed on; created if missing.
    pub dir: PathBuf,
    /// The address its public port listens on.
    pub bind: String,
    /// The public port; 0 picks one.
    pub port: u16,
    /// The cluster port; 0 picks one.
    pub cluster_port: u16,
    /// What it shows on cluster ports; without one its own is on loopback and unprotected.
    pub identity: Option<ClusterIdentity>,
    /// The name or address that others are told.
    pub advertise: String,
    /// All masters, this one included, by the addresses that each advertises; empty for a master
    /// by itself.
    pub peers: Vec<ServerAddress>,
    /// The volumes in the same process, if they belong to a cluster already: a master that knows
    /// nothing of it has lost its directory.
    pub beside: Option<VolumesBeside>,
    /// The size at which a volume is full, in bytes.
    pub volume_size_limit_bytes: u64,
    /// The replica placement of an assign that names none.
    pub default_replication: ReplicaPlacement,
    /// The largest needle, in bytes.
    pub max_needle_bytes: u64,
}

/// Volumes beside a master, of a cluster that it may have forgotten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumesBeside {
    /// Where their server will be: `host:port`, or `host:port.clusterport`.
    pub server: String,
    /// Their cluster.
    pub cluster: ClusterId,
}
