//! The client library: assign, upload, read, delete, look up; and the commands built on it.
//!
//! A [`Client`] knows masters and nothing else. It asks them where to write and where volumes
//! are, remembers the latter, and talks to volume servers directly. Every call has a time limit
//! and a bounded number of attempts; what failed says what to do.
//!
//! ```no_run
//! # async fn example() -> Result<(), dulse_client::ClientError> {
//! use dulse_client::{Client, Source, UploadOptions};
//!
//! let client = Client::new(&["127.0.0.1:9333"])?;
//! let stored = client.upload(&Source::from("hello"), &UploadOptions::default()).await?;
//! let hello = client.read(stored.fid).await?.into_bytes(1 << 20).await?;
//! client.delete(stored.fid).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod client;
mod cluster_health;
mod cluster_status;
pub mod command;
mod download;
mod error;
mod location_cache;
mod masters;
mod masters_work;
mod recovery;
mod retry;
mod source;
mod upload;
mod volume_work;

pub use client::{AssignOptions, Assigned, Client};
pub use cluster_health::{ClusterHealth, ClusterMasters, Finding, HealthyServer, MasterRole};
pub use cluster_status::{ClusterStatus, DiskStatus, ServerStatus, VolumeState, VolumeStatus};
pub use download::{Download, NeedleInfo};
pub use error::ClientError;
pub use source::{MAX_NEEDLE_BYTES, Source};
pub use upload::{Progress, Stored, UploadOptions};
pub use volume_work::{VolumeWork, Work, WorkAt, WorkProgress, WorkingServer};
