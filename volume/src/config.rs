//! What a volume server is told at start.

mod dir_limits;

use std::path::PathBuf;

use dulse_shared::{
    net::{address::ServerAddress, cluster_identity::ClusterIdentity, resolver::Resolver},
    size::ByteSize,
    wire::DiskType,
};

pub use self::dir_limits::{
    DirLimits, LimitCountError, MinFreeSpace, ParseMinFreeSpaceError, parse_max_volumes,
};
use crate::{format::OffsetWidth, maintenance::Routine};

/// The settings of a volume server.
#[derive(Clone, Debug)]
pub struct VolumeServerConfig {
    /// The data directories, at least one.
    pub dirs: Vec<DirConfig>,
    /// The address the public port listens on.
    pub bind: String,
    /// The public port; 0 lets the system pick.
    pub port: u16,
    /// The cluster port; 0 lets the system pick.
    pub cluster_port: u16,
    /// What it shows on cluster ports; without one its own is on loopback and unprotected.
    pub identity: Option<ClusterIdentity>,
    /// The host that others are told.
    pub advertise: String,
    /// `host:port` that clients outside are told; the public address if none.
    pub public_url: Option<String>,
    /// The masters: every address of each name.
    pub masters: Vec<ServerAddress>,
    /// What finds those addresses.
    pub resolver: Resolver,
    /// Where the server stands.
    pub data_center: String,
    /// Where in the data center it stands.
    pub rack: String,
    /// New volumes get 5-byte offsets.
    pub large_volumes: bool,
    /// The largest needle, in bytes of data.
    pub max_needle_bytes: u64,
    /// How volumes are read again from their disks.
    pub routine: Routine,
}

/// One data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirConfig {
    /// Its path; made if missing.
    pub path: PathBuf,
    /// The kind of disk it lies on.
    pub disk: DiskType,
    /// What it may hold, and what it has to leave free.
    pub limits: DirLimits,
}

impl DirConfig {
    /// A directory on the usual kind of disk, with the usual limits.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), disk: DiskType::default(), limits: DirLimits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: DirLimits) -> Self {
        Self { limits, ..self }
    }
}

/// A volume size limit that the offsets of new volumes cannot address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a volume size limit of {limit} and one needle of {needle} more pass the {addressable} that \
     4-byte offsets address: lower --volume-size-limit, or pass --large-volumes"
)]
pub struct VolumeSizeLimitError {
    limit: ByteSize,
    needle: ByteSize,
    addressable: ByteSize,
}

/// Checks that a volume at `limit_bytes` can still take one needle of `max_needle_bytes`.
pub fn check_volume_size_limit(
    limit_bytes: u64,
    max_needle_bytes: u64,
    large_volumes: bool,
) -> Result<(), VolumeSizeLimitError> {
    let width = offset_width(large_volumes);
    // A record adds less than 128 KiB of names, pairs and framing to its data.
    let highest = limit_bytes.saturating_add(max_needle_bytes).saturating_add(128 << 10);
    if highest <= width.max_bytes() {
        return Ok(());
    }
    Err(VolumeSizeLimitError {
        limit: ByteSize(limit_bytes),
        needle: ByteSize(max_needle_bytes),
        addressable: ByteSize(width.max_bytes()),
    })
}

/// The offsets that new volumes get.
pub fn offset_width(large_volumes: bool) -> OffsetWidth {
    if large_volumes { OffsetWidth::Five } else { OffsetWidth::Four }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_must_leave_room_for_the_largest_needle() {
        let needle = 256 << 20;
        assert_eq!(check_volume_size_limit(30 << 30, needle, false), Ok(()));
        let error = check_volume_size_limit(32 << 30, needle, false).unwrap_err().to_string();
        assert!(error.contains("--volume-size-limit") && error.contains("--large-volumes"));
        assert_eq!(check_volume_size_limit(32 << 30, needle, true), Ok(()));
        assert!(check_volume_size_limit(9 << 40, needle, true).is_err());
    }
}
