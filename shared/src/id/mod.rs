//! Identifiers and the small values that travel with them.
//!
//! All are pure: parse, print, compare. Text from outside goes through `FromStr`, whose error
//! says what was wrong with it.

mod collection;
mod cookie;
mod digest;
mod fid;
mod needle_key;
mod random_id;
mod replica_placement;
mod ts;
mod ttl;
mod volume_id;

pub use collection::{Collection, ParseCollectionError};
pub use cookie::Cookie;
pub use digest::Digest;
pub use fid::{Fid, ParseFidError};
pub use needle_key::NeedleKey;
pub use random_id::{ClusterId, ParseRandomIdError, ServerId};
pub use replica_placement::{ParseReplicaPlacementError, ReplicaPlacement};
pub use ts::{BatchPlace, Ts};
pub use ttl::{ParseTtlError, Ttl, TtlUnit};
pub use volume_id::{ParseVolumeIdError, VolumeId};
