//! The header by which a volume server and a client tell each other which epoch of a volume they
//! know: `Dulse-Epoch: VOLUME:EPOCH`.

use std::{fmt, str::FromStr};

use super::Epoch;
use crate::id::VolumeId;

/// Its name, as it is looked for.
pub const EPOCH_HEADER: &str = "dulse-epoch";

/// Its value. On an answer it is what the server serves; on a request what the client was told,
/// which is then answered 421 by a server that serves another one, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeEpoch {
    /// The volume.
    pub volume: VolumeId,
    /// The number of its configuration.
    pub epoch: Epoch,
}

impl fmt::Display for VolumeEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.volume, self.epoch.0)
    }
}

/// A text that is no such value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Dulse-Epoch is VOLUME:EPOCH, as in 3:1")]
pub struct ParseVolumeEpochError;

impl FromStr for VolumeEpoch {
    type Err = ParseVolumeEpochError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (volume, epoch) = text.split_once(':').ok_or(ParseVolumeEpochError)?;
        let volume = volume.parse().map_err(|_| ParseVolumeEpochError)?;
        let epoch = epoch.parse().map_err(|_| ParseVolumeEpochError)?;
        Ok(Self { volume, epoch: Epoch(epoch) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_as_written() {
        let text = "4294967295:18446744073709551615";
        assert_eq!(text.parse::<VolumeEpoch>().unwrap().to_string(), text);
        for bad in ["", "3", "3:", ":1", "0:1", "3:-1", "3:1:1"] {
            assert!(bad.parse::<VolumeEpoch>().is_err(), "{bad}");
        }
    }
}
