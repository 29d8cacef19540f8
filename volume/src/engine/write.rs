//! Writes to a volume and what becomes of them.

use std::{io, sync::Arc};

use dulse_shared::id::{Cookie, NeedleKey, Ts, VolumeId};

use super::volume::Refusal;
use crate::{
    format::{DataLen, EncodeError, NewNeedle, TOMBSTONE_LEN},
    needle_data::NeedleData,
};

/// One write, as it comes from a client.
#[derive(Clone, Debug)]
pub enum Write {
    /// A needle to store.
    Put(NewNeedle<NeedleData>),
    /// A needle to delete.
    Delete {
        /// Its key.
        key: NeedleKey,
        /// The caller's proof that it was told the fid.
        cookie: Cookie,
    },
    /// A version of a needle to delete because its time is over; whatever was written since stays.
    Expire {
        /// Its key.
        key: NeedleKey,
        /// Its cookie.
        cookie: Cookie,
        /// The stamp of that version.
        written: Ts,
    },
}

impl Write {
    /// Bytes that it adds to the volume, roughly.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Put(needle) => needle.data.data_len(),
            Self::Delete { .. } | Self::Expire { .. } => TOMBSTONE_LEN as u64,
        }
    }

    /// Whether its data lies in a file and has to be copied first.
    pub fn is_spooled(&self) -> bool {
        matches!(self, Self::Put(needle) if needle.data.is_spooled())
    }

    pub(super) fn cookie(&self) -> Cookie {
        match self {
            Self::Put(needle) => needle.cookie,
            Self::Delete { cookie, .. } | Self::Expire { cookie, .. } => *cookie,
        }
    }

    pub(super) fn key(&self) -> NeedleKey {
        match self {
            Self::Put(needle) => needle.key,
            Self::Delete { key, .. } | Self::Expire { key, .. } => *key,
        }
    }
}

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// The needle is stored.
    Stored,
    /// The needle is deleted; how many bytes its body took, never 0.
    Deleted {
        /// That number.
        body_bytes: u64,
    },
}

/// Why a write did nothing, or may have done something.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such needle to delete, or no such version of it.
    #[error("there is no such needle")]
    NotFound,
    /// The stored needle has another cookie.
    #[error("the cookie is not that of the stored needle")]
    CookieMismatch,
    /// The volume takes no such write; nothing was stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It does not fit the format; nothing was stored.
    #[error(transparent)]
    Invalid(#[from] EncodeError),
    /// The needle that it would replace cannot be read; nothing was stored.
    #[error(
        "the disk does not give the needle that is stored there: {0}; try again, or scrub the volume: \
         what a scrub finds unreadable can be written over or deleted"
    )]
    Unreadable(#[source] Arc<io::Error>),
    /// What was received did not survive until it was to be stored; nothing was stored.
    #[error(
        "the upload to volume {0} cannot be read back as it was received: nothing was stored, \
         send it again; check the disk"
    )]
    Mangled(VolumeId),
    /// Too much waits; nothing was stored.
    #[error("too many writes wait for volume {0}: try again, or ask the master for another fid")]
    Overloaded(VolumeId),
    /// The disk failed: whether it was stored shows only after a restart.
    #[error("the disk failed while writing to volume {0}; it is unknown whether the write counts")]
    Unknown(VolumeId),
}
