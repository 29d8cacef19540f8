//! What the handlers of both ports share: the cluster, the assigner, the relay for uploads and
//! the settings. Nothing here decides or changes anything.

use std::{ops::Deref, path::PathBuf, sync::Arc};

use dulse_shared::{
    id::{ReplicaPlacement, VolumeId},
    net::{metrics::Metrics, peer::PeerClient, tasks::Tasks},
    wire::Problem,
};

use super::{held::Waiters, relay::Relay};
use crate::{
    assign::{AssignRequest, Assigner, Assignment},
    cluster::Cluster,
    leader::assign_anywhere,
    watch::Watches,
};

/// Shared by all handlers of both ports. One counter is all that a clone costs: each request makes
/// several.
#[derive(Clone)]
pub(crate) struct HttpState(Arc<Serving>);

/// What they share.
pub(crate) struct Serving {
    pub(super) cluster: Arc<Cluster>,
    pub(super) assigner: Arc<Assigner>,
    pub(super) relay: Relay,
    pub(super) peers: PeerClient,
    pub(super) settings: HttpSettings,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
    /// Clients whose request is held until something changes.
    pub(super) waiters: Waiters,
    /// Volume servers, whose requests are held as well.
    pub(super) watches: Watches,
}

/// What the handlers are told once.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    /// The replica placement of an assign that names none.
    pub(crate) default_replication: ReplicaPlacement,
    /// The largest needle, in bytes.
    pub(crate) max_needle_bytes: u64,
    /// Where the master keeps its data, for the page.
    pub(crate) dir: PathBuf,
}

impl HttpState {
    /// Handlers over one cluster.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        assigner: Arc<Assigner>,
        relay: Relay,
        peers: PeerClient,
        settings: HttpSettings,
        metrics: Metrics,
        tasks: Tasks,
    ) -> Self {
        let watches = Watches::new(cluster.clone(), peers.clone(), tasks.clone());
        let waiters = Waiters::new(tasks.clone());
        Self(Arc::new(Serving {
            cluster,
            assigner,
            relay,
            peers,
            settings,
            metrics,
            tasks,
            waiters,
            watches,
        }))
    }

    /// Hands out fids in a volume that is not one of `avoid`, whichever master leads.
    pub(super) async fn assign(
        &self,
        request: &AssignRequest,
        avoid: &[VolumeId],
    ) -> Result<Assignment, Problem> {
        assign_anywhere(&self.cluster, &self.assigner, &self.peers, request, avoid).await
    }
}

impl Deref for HttpState {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.0
    }
}
