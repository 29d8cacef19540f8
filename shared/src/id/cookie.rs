//! The cookie of a needle.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 32 random bits in a fid that keep it from being guessed from its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cookie(pub u32);

impl Cookie {
    /// A fresh cookie from the thread's cryptographic generator, seeded by the system.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
