//! The number of a volume.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// A volume's number, 1 to 2³² − 1. Numbers are given out once and never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeId(NonZeroU32);

impl VolumeId {
    /// `None` for 0, which is no volume.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The plain number.
    pub const fn as_u32(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not a volume id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a volume id: expected a whole number from 1 to 4294967295")]
pub struct ParseVolumeIdError(pub String);

impl FromStr for VolumeId {
    type Err = ParseVolumeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVolumeIdError(text.to_owned());
        // `u32::from_str` takes a leading plus sign.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        text.parse().ok().and_then(Self::new).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_id_is_a_decimal_number_from_one_to_the_largest_u32() {
        assert_eq!("7".parse::<VolumeId>().unwrap().as_u32(), 7);
        assert_eq!("4294967295".parse::<VolumeId>().unwrap().as_u32(), u32::MAX);
        for bad in ["", "0", "4294967296", "+1", "-1", "0x1", "1 ", "a"] {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad:?}");
        }
    }
}
