//! What every request may use: the volumes, the clock, and the bound on bytes of uploads.
//!
//! Made once, when the port is about to be served; nothing here changes afterwards but what the
//! parts keep inside.

use std::{ops::Deref, sync::Arc};

use dulse_shared::{
    clock::{BootTime, Clock},
    net::{address::ServerAddress, metrics::Metrics, tasks::Tasks},
};

use super::upload::UploadBudget;
use crate::{maintenance::Maintenance, store::Store};

/// What the public port is made of.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The volumes.
    pub store: Store,
    /// What is done to them in the background.
    pub maintenance: Maintenance,
    /// Decides what "now" is for uploads and the pages.
    pub clock: Clock,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Tells that the process is stopping.
    pub tasks: Tasks,
    /// The masters, as the pages show them.
    pub masters: Vec<ServerAddress>,
    /// `host:port` that others use for this server, as the pages show it.
    pub url: String,
    /// The same for clients outside.
    pub public_url: String,
    /// The largest needle, in bytes of data.
    pub max_needle_bytes: u64,
}

/// The state of the public port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpState(Arc<Serving>);

/// The settings and what grew out of them.
#[derive(Debug)]
pub struct Serving {
    pub(super) settings: HttpSettings,
    pub(super) uploads: UploadBudget,
    pub(super) started: BootTime,
}

impl HttpState {
    /// The state of a port that is about to be served.
    pub fn new(settings: HttpSettings) -> Self {
        let uploads = UploadBudget::new(settings.max_needle_bytes);
        let started = settings.clock.boot();
        Self(Arc::new(Serving { settings, uploads, started }))
    }
}

impl Deref for HttpState {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.0
    }
}
