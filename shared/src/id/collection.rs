//! The name of a collection.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A collection's name: empty for the default one, else 1 to 64 of `A-Z a-z 0-9 _ -`.
///
/// It becomes part of file names, which is why nothing else gets in. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection(Arc<str>);

impl Collection {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name, empty for the default collection.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the collection without a name.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Collection {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text that is not a collection's name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a collection name: use up to 64 letters, digits, _ and -")]
pub struct ParseCollectionError(pub String);

impl FromStr for Collection {
    type Err = ParseCollectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = text.len() <= Self::MAX_LEN
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if is_valid { Ok(Self(Arc::from(text))) } else { Err(ParseCollectionError(text.into())) }
    }
}

impl Serialize for Collection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Collection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_becomes_a_collection() {
        assert!("pics_2-a".parse::<Collection>().is_ok());
        assert!("".parse::<Collection>().unwrap().is_default());
        for bad in ["..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Collection>().is_err(), "{bad:?}");
        }
    }
}
