//! The answer of `/dir/assign`.

use serde::{Deserialize, Serialize};

/// A fid to write to and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AssignResponse {
    /// The first fid; `fid_1` … `fid_{count−1}` follow.
    pub fid: String,
    /// `host:port` of a volume server that holds the volume.
    pub url: String,
    /// The same for clients outside.
    #[serde(rename = "publicUrl")]
    pub public_url: String,
    /// How many fids were assigned, at least 1.
    pub count: u64,
}
