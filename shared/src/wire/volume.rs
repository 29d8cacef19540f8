//! Volume administration on the cluster port.

use serde::{Deserialize, Serialize};

use super::VolumeConfig;
use crate::id::ClusterId;

/// `POST /admin/volume/create`: make the files of a volume that the cluster state lists.
/// Answered with a [`super::VolumeReport`]; repeating it changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateVolume {
    /// The caller's cluster.
    pub cluster: ClusterId,
    /// The volume's configuration, which its sidecar keeps.
    pub config: VolumeConfig,
}
