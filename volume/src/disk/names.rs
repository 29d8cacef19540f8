//! The names of a volume's files: `7.dat`, or `pics_7.dat` in the collection `pics`.
//!
//! Names are built from a number and a validated collection only, so no caller's text becomes a
//! path.

use std::path::{Path, PathBuf};

use dulse_shared::id::{Collection, VolumeId};

/// What the name of a volume's files says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VolumeName {
    /// The collection before the last `_`.
    pub collection: Collection,
    /// The id after it.
    pub id: VolumeId,
}

impl VolumeName {
    /// Reads the name of a `.dat` file; `None` if it is not a volume's.
    pub fn parse_dat(file_name: &str) -> Option<Self> {
        Self::parse(file_name, "dat")
    }

    /// Reads the name of a volume's file with this suffix; `None` if it is not one.
    pub fn parse(file_name: &str, suffix: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(suffix)?.strip_suffix('.')?;
        let (collection, id) = stem.rsplit_once('_').unwrap_or(("", stem));
        let name = Self { collection: collection.parse().ok()?, id: id.parse().ok()? };
        // `_7.dat` and `007.dat` would be read back under another name.
        (name.stem() == stem).then_some(name)
    }

    /// What the names of its files have in common.
    pub fn stem(&self) -> String {
        if self.collection.is_default() {
            self.id.to_string()
        } else {
            format!("{}_{}", self.collection, self.id)
        }
    }

    /// A name for what is kept of the volume outside its files.
    pub fn with_suffix(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.stem())
    }

    /// The volume file.
    pub fn dat(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("dat"))
    }

    /// The index file.
    pub fn idx(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("idx"))
    }

    /// The volume information file.
    pub fn vif(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("vif"))
    }

    /// What a compaction makes of the volume file, before it takes its place.
    pub fn compacted_dat(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("cpd"))
    }

    /// What a compaction makes of the index file, before it takes its place.
    pub fn compacted_idx(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("cpx"))
    }

    /// Is there while compacted files take the place of the old ones.
    pub fn swap_marker(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("cpc"))
    }

    /// The sidecar.
    pub fn sidecar(&self, dir: &Path) -> PathBuf {
        dir.join(self.with_suffix("dulse"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_follows_the_last_underscore() {
        let name = VolumeName::parse_dat("my_pics_12.dat").unwrap();
        assert_eq!((name.collection.as_str(), name.id.as_u32()), ("my_pics", 12));
        assert_eq!(name.dat(Path::new("/d")), Path::new("/d/my_pics_12.dat"));
        assert_eq!(VolumeName::parse_dat("3.dat").unwrap().collection, Collection::default());
        for other in ["3.idx", "x.dat", "0.dat", "007.dat", "_3.dat", "pics_.dat", "a b_3.dat"] {
            assert_eq!(VolumeName::parse_dat(other), None, "{other}");
        }
    }
}
