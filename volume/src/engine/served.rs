//! The configuration that a volume serves, and its epoch as answers name it, written once.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use dulse_shared::wire::{VolumeConfig, VolumeEpoch};

/// What is served now.
#[derive(Debug)]
pub(super) struct Served(RwLock<Now>);

#[derive(Debug)]
struct Now {
    config: Arc<VolumeConfig>,
    epoch_text: Bytes,
}

impl Served {
    /// Serves `config`.
    pub(super) fn new(config: VolumeConfig) -> Self {
        Self(RwLock::new(Now::of(config)))
    }

    /// Serves `config` from now on.
    pub(super) fn replace(&self, config: VolumeConfig) {
        let now = Now::of(config);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// The configuration.
    pub(super) fn config(&self) -> Arc<VolumeConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// `VOLUME:EPOCH`.
    pub(super) fn epoch_text(&self) -> Bytes {
        self.0.read().unwrap_or_else(PoisonError::into_inner).epoch_text.clone()
    }
}

impl Now {
    fn of(config: VolumeConfig) -> Self {
        let epoch = VolumeEpoch { volume: config.id, epoch: config.epoch };
        Self { config: Arc::new(config), epoch_text: Bytes::from(epoch.to_string()) }
    }
}
