//! 128-bit random names of clusters and servers, printed as 32 hex digits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not 32 hex digits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an id of 32 hex digits")]
pub struct ParseRandomIdError(pub String);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// A new id; two never meet by chance.
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// From the plain number.
            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl From<u128> for $name {
            fn from(value: u128) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseRandomIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let value = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
                value.map(Self).ok_or_else(|| ParseRandomIdError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id! {
    /// Which cluster a data directory belongs to; made when the first master starts.
    ClusterId
}

random_id! {
    /// Which server a data directory belongs to, whatever its address is today.
    ServerId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_printed() {
        let id = ServerId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12".parse::<ServerId>().is_err());
        assert!("+0000000000000000000000000000001".parse::<ServerId>().is_err());
    }
}
