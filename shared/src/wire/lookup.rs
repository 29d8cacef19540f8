//! The answer of `/dir/lookup`.

use serde::{Deserialize, Serialize};

/// Where a volume is. Exactly these fields: published clients refuse others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LookupResponse {
    /// The volume's number, as text.
    #[serde(rename = "volumeId")]
    pub volume_id: String,
    /// Live members, shuffled; never empty.
    pub locations: Vec<Location>,
}

/// A volume server that holds the volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Location {
    /// `host:port` of its public listener.
    pub url: String,
    /// The same for clients outside.
    #[serde(rename = "publicUrl")]
    pub public_url: String,
}
