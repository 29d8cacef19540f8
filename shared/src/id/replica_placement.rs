//! How many copies a volume has, and how far apart they are kept.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `xyz`: x copies in other data centers, y in other racks of the same data center, z on other
/// servers of the same rack. Kept in one byte of the superblock as x·100 + y·10 + z.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ReplicaPlacement(u8);

impl ReplicaPlacement {
    /// From the superblock's byte; every byte is three digits.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The superblock's byte.
    pub const fn as_byte(self) -> u8 {
        self.0
    }

    /// Copies in other data centers.
    pub const fn other_data_centers(self) -> u8 {
        self.0 / 100
    }

    /// Copies in other racks of the data center.
    pub const fn other_racks(self) -> u8 {
        self.0 / 10 % 10
    }

    /// Copies on other servers of the rack.
    pub const fn same_rack(self) -> u8 {
        self.0 % 10
    }

    /// Copies in all, the first included.
    pub const fn copies(self) -> usize {
        (self.other_data_centers() + self.other_racks() + self.same_rack() + 1) as usize
    }
}

impl fmt::Display for ReplicaPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl fmt::Debug for ReplicaPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a replica placement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a replica placement: use up to three digits, at most 255, as in 001")]
pub struct ParseReplicaPlacementError(pub String);

impl FromStr for ReplicaPlacement {
    type Err = ParseReplicaPlacementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseReplicaPlacementError(text.to_owned());
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        text.parse().map(Self).map_err(|_| error())
    }
}

impl Serialize for ReplicaPlacement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReplicaPlacement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_copies_by_distance() {
        let placement: ReplicaPlacement = "112".parse().unwrap();
        assert_eq!(placement.other_data_centers(), 1);
        assert_eq!(placement.other_racks(), 1);
        assert_eq!(placement.same_rack(), 2);
        assert_eq!(placement.copies(), 5);
        assert_eq!("1".parse::<ReplicaPlacement>().unwrap().to_string(), "001");
        assert_eq!("".parse::<ReplicaPlacement>().unwrap().copies(), 1);
        for bad in ["256", "0001", "x", "-1", "+01", "300"] {
            assert!(bad.parse::<ReplicaPlacement>().is_err(), "{bad:?}");
        }
    }
}
