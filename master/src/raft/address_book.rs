//! Where the other masters are to be reached now, which the agreed membership may not say yet.
//!
//! A master that moved says so itself, and what it says is used at once; the leader then has the
//! move agreed on. Nothing rests on this being right: every message names the node it is for, and
//! a node answers for itself only.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use dulse_shared::net::address::ServerAddress;

use super::type_config::NodeId;

/// Addresses that are remembered: more masters than a cluster ever has.
const MAX_ADDRESSES: usize = 100;

/// The addresses; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressBook {
    addresses: Arc<RwLock<BTreeMap<NodeId, ServerAddress>>>,
}

impl AddressBook {
    /// A node said, or was found, to be there.
    pub(super) fn learn(&self, node: NodeId, address: ServerAddress) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() < MAX_ADDRESSES || addresses.contains_key(&node) {
            addresses.insert(node, address);
        }
    }

    /// Where a node was found last.
    pub(super) fn address(&self, node: NodeId) -> Option<ServerAddress> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&node).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<ServerAddress> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.values().cloned().collect()
    }
}
