//! The volume information file: JSON beside each volume file.
//!
//! Read leniently: only what decides how the other files are read must be right. Written only for
//! new volumes, in one fixed shape.

use serde::Deserialize;
use serde_json::Value;

use super::{CURRENT_VERSION, OffsetWidth};

/// What a `.vif` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vif {
    /// Format version of the volume; 3 for new ones.
    pub version: u32,
    /// Replica placement as text; empty where the superblock alone has it.
    pub replication: String,
    /// Width of the index's offsets; `None` in files from before it was written down.
    pub offset_width: Option<OffsetWidth>,
    /// Length of the volume file where it is kept elsewhere; 0 otherwise.
    pub dat_file_size_bytes: u64,
    /// When the whole volume expires, in seconds since 1970; 0 never. Written, not decided by.
    pub expire_at_secs: u64,
    /// Whether an operator marked the volume read-only.
    pub is_read_only: bool,
    /// Whether a read-only volume still takes deletes.
    pub read_only_takes_deletes: bool,
}

/// Why a text is not a volume information file.
#[derive(Debug, thiserror::Error)]
pub enum VifError {
    /// Not JSON of the expected shape.
    #[error("the volume information is not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
    /// A width nobody writes.
    #[error("the volume information says that offsets have {0} bytes; 4 and 5 are known")]
    OffsetWidth(u64),
}

/// The file's own words. 64-bit numbers may be strings.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVif {
    version: Value,
    replication: Option<String>,
    bytes_offset: Value,
    dat_file_size: Value,
    expire_at_sec: Value,
    read_only: Option<bool>,
    read_only_can_delete: Option<bool>,
}

impl Vif {
    /// What is written for a new volume.
    pub fn new(offset_width: OffsetWidth, expire_at_secs: u64) -> Self {
        Self {
            version: u32::from(CURRENT_VERSION.as_byte()),
            replication: String::new(),
            offset_width: Some(offset_width),
            dat_file_size_bytes: 0,
            expire_at_secs,
            is_read_only: false,
            read_only_takes_deletes: false,
        }
    }

    /// Reads a `.vif`; missing fields are as in a new one, unknown ones are ignored.
    pub fn parse(text: &[u8]) -> Result<Self, VifError> {
        let raw: RawVif = serde_json::from_slice(text)?;
        let offset_width = match number(&raw.bytes_offset).unwrap_or(0) {
            0 => None,
            width => Some(OffsetWidth::from_number(width).ok_or(VifError::OffsetWidth(width))?),
        };
        let version = number(&raw.version).and_then(|version| u32::try_from(version).ok());
        Ok(Self {
            version: version.unwrap_or(0),
            replication: raw.replication.unwrap_or_default(),
            offset_width,
            dat_file_size_bytes: number(&raw.dat_file_size).unwrap_or(0),
            expire_at_secs: number(&raw.expire_at_sec).unwrap_or(0),
            is_read_only: raw.read_only.unwrap_or(false),
            read_only_takes_deletes: raw.read_only_can_delete.unwrap_or(false),
        })
    }

    /// The text to write: field order, indent and the two spaces after each colon are fixed, so
    /// that files can be compared byte by byte.
    pub fn encode(&self) -> String {
        let replication = Value::from(self.replication.as_str());
        let bytes_offset = self.offset_width.map_or(0, OffsetWidth::as_number);
        let fields = [
            ("files", "[]".to_owned()),
            ("version", self.version.to_string()),
            ("replication", replication.to_string()),
            ("bytesOffset", bytes_offset.to_string()),
            ("datFileSize", format!("\"{}\"", self.dat_file_size_bytes)),
            ("expireAtSec", format!("\"{}\"", self.expire_at_secs)),
            ("readOnly", self.is_read_only.to_string()),
            ("ecShardConfig", "null".to_owned()),
            ("readOnlyCanDelete", self.read_only_takes_deletes.to_string()),
        ];
        let lines = fields.map(|(name, value)| format!("  \"{name}\":  {value}"));
        format!("{{\n{}\n}}", lines.join(",\n"))
    }
}

/// A number, or a string of one.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_unknown_does_not_matter() {
        let vif = Vif::parse(br#"{"bytesOffset": 5, "expireAtSec": 17, "shape": "round"}"#);
        let vif = vif.unwrap();
        assert_eq!(vif.offset_width, Some(OffsetWidth::Five));
        assert_eq!(vif.expire_at_secs, 17);
        assert_eq!(Vif::parse(b"{}").unwrap().offset_width, None);
    }

    #[test]
    fn an_unknown_width_and_broken_json_are_errors() {
        let width = Vif::parse(br#"{"bytesOffset": 6}"#);
        assert!(matches!(width, Err(VifError::OffsetWidth(6))));
        assert!(matches!(Vif::parse(b"{"), Err(VifError::Json(_))));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let vif = Vif::new(OffsetWidth::Four, 1_795_560_470);
        assert_eq!(Vif::parse(vif.encode().as_bytes()).unwrap(), vif);
    }
}
