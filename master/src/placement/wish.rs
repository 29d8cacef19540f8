//! Where the caller wants its files: a data center, a rack, a volume server, or any mix of them.
//!
//! A wish is about a volume's first copy; where the others go follows from the replica placement.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names that have to match; what is not named may be anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LocationWish {
    /// The data center.
    pub(crate) data_center: Option<String>,
    /// The rack.
    pub(crate) rack: Option<String>,
    /// The volume server, as `host:port` of its public listener.
    pub(crate) data_node: Option<String>,
}

impl LocationWish {
    /// Whether any place will do.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a server that stands there is as wished.
    pub(crate) fn is_fulfilled_by(&self, data_center: &str, rack: &str, url: &str) -> bool {
        let fulfils =
            |wanted: &Option<String>, place: &str| wanted.as_deref().is_none_or(|w| w == place);
        fulfils(&self.data_center, data_center)
            && fulfils(&self.rack, rack)
            && fulfils(&self.data_node, url)
    }
}

/// As the parameters that say so: `dataCenter=dc1 and rack=r1`.
impl fmt::Display for LocationWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("dataCenter", &self.data_center),
            ("rack", &self.rack),
            ("dataNode", &self.data_node),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        for (at, (name, value)) in named.enumerate() {
            let before = if at == 0 { "" } else { " and " };
            write!(f, "{before}{name}={value}")?;
        }
        Ok(())
    }
}
