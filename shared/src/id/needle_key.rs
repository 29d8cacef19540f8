//! The key of a needle within its volume.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

/// A needle's key. Never 0: 32 zero bytes in a volume file would otherwise read as a tombstone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NeedleKey(NonZeroU64);

impl NeedleKey {
    /// `None` for 0.
    pub const fn new(key: u64) -> Option<Self> {
        match NonZeroU64::new(key) {
            Some(key) => Some(Self(key)),
            None => None,
        }
    }

    /// The plain number.
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NeedleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
