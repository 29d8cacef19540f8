//! Servers grouped by where they stand, sorted, for the answers that list them.

use std::collections::BTreeMap;

use super::{Topology, VolumeServer};

/// A data center and its racks.
pub(crate) struct DataCenter<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Sorted by name.
    pub(crate) racks: Vec<Rack<'a>>,
}

/// A rack and its servers.
pub(crate) struct Rack<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Sorted by address.
    pub(crate) servers: Vec<&'a VolumeServer>,
}

/// All servers that match, by data center and rack.
pub(crate) fn data_centers<'a>(
    topology: &'a Topology,
    is_shown: impl Fn(&VolumeServer) -> bool,
) -> Vec<DataCenter<'a>> {
    let mut tree: BTreeMap<&str, BTreeMap<&str, Vec<&VolumeServer>>> = BTreeMap::new();
    for server in topology.servers().filter(|server| is_shown(server)) {
        let racks = tree.entry(&server.data_center).or_default();
        racks.entry(&server.rack).or_default().push(server);
    }
    let into_rack = |(name, mut servers): (&'a str, Vec<&'a VolumeServer>)| {
        servers.sort_by(|a, b| a.url.cmp(&b.url));
        Rack { name, servers }
    };
    tree.into_iter()
        .map(|(name, racks)| DataCenter { name, racks: racks.into_iter().map(into_rack).collect() })
        .collect()
}
