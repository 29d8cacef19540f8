//! Time to live: how long after its writing a needle is gone.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A count of units, kept in two bytes of a superblock or needle. A count of 0 is no ttl.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ttl {
    count: u8,
    unit: TtlUnit,
}

/// The unit of a [`Ttl`]; the discriminant is its byte on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
#[repr(u8)]
pub enum TtlUnit {
    /// No ttl at all.
    #[default]
    None = 0,
    /// Minutes.
    Minute = 1,
    /// Hours.
    Hour = 2,
    /// Days.
    Day = 3,
    /// Weeks.
    Week = 4,
    /// Months of 30 days.
    Month = 5,
    /// Years of 365 days.
    Year = 6,
}

/// Largest first, so that normalising stops at the largest that divides.
const UNITS: [(TtlUnit, u64, char); 6] = [
    (TtlUnit::Year, 365 * 24 * 60, 'y'),
    (TtlUnit::Month, 30 * 24 * 60, 'M'),
    (TtlUnit::Week, 7 * 24 * 60, 'w'),
    (TtlUnit::Day, 24 * 60, 'd'),
    (TtlUnit::Hour, 60, 'h'),
    (TtlUnit::Minute, 1, 'm'),
];

/// A volume is kept at most this long after its last needle has expired.
const MAX_VOLUME_GRACE: Duration = Duration::from_secs(10 * 60);

impl Ttl {
    /// Lives for ever.
    pub const NONE: Self = Self { count: 0, unit: TtlUnit::None };

    /// From the two bytes on disk, count first; `None` for an unknown unit.
    pub fn from_bytes([count, unit]: [u8; 2]) -> Option<Self> {
        if count == 0 {
            return Some(Self::NONE);
        }
        let (unit, ..) = UNITS.into_iter().find(|(known, ..)| *known as u8 == unit)?;
        Some(Self { count, unit })
    }

    /// The two bytes on disk, count first.
    pub const fn as_bytes(self) -> [u8; 2] {
        [self.count, self.unit as u8]
    }

    /// Whether nothing ever expires.
    pub const fn is_none(self) -> bool {
        self.count == 0
    }

    /// The number of units.
    pub const fn count(self) -> u8 {
        self.count
    }

    /// The unit.
    pub const fn unit(self) -> TtlUnit {
        self.unit
    }

    /// How long it is; `None` when nothing expires.
    pub fn duration(self) -> Option<Duration> {
        let (_, minutes, _) = UNITS.into_iter().find(|(unit, ..)| *unit == self.unit)?;
        Some(Duration::from_secs(u64::from(self.count) * minutes * 60))
    }

    /// How long after its last write a whole volume of such needles is over: the ttl, and a tenth
    /// of it more, at most ten minutes. `None` when nothing expires.
    pub fn volume_lifetime(self) -> Option<Duration> {
        let ttl = self.duration()?;
        Some(ttl + (ttl / 10).min(MAX_VOLUME_GRACE))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.into_iter().find(|(unit, ..)| *unit == self.unit) {
            Some((_, _, letter)) => write!(f, "{}{letter}", self.count),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ttl({self})")
    }
}

/// A text that is not a ttl.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a ttl: use a number and m, h, d, w, M or y, at most 255 of a unit, as in 3d")]
pub struct ParseTtlError(pub String);

impl FromStr for Ttl {
    type Err = ParseTtlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseTtlError(text.to_owned());
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        let (digits, unit_minutes) = match text.chars().last() {
            Some(last) if !last.is_ascii_digit() => {
                let unit = UNITS.into_iter().find(|(_, _, letter)| *letter == last);
                let (_, minutes, letter) = unit.ok_or_else(error)?;
                (text.strip_suffix(letter).unwrap_or(text), minutes)
            }
            _ => (text, 1),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = digits.parse().map_err(|_| error())?;
        let minutes = count.checked_mul(unit_minutes).ok_or_else(error)?;
        Self::from_minutes(minutes).ok_or_else(error)
    }
}

impl Ttl {
    /// The largest unit that divides exactly and leaves a count of one byte.
    fn from_minutes(minutes: u64) -> Option<Self> {
        if minutes == 0 {
            return Some(Self::NONE);
        }
        UNITS.into_iter().find_map(|(unit, unit_minutes, _)| {
            let count = u8::try_from(minutes / unit_minutes).ok()?;
            minutes.is_multiple_of(unit_minutes).then_some(Self { count, unit })
        })
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_normalised_to_the_largest_unit_that_divides() {
        for (text, printed) in [
            ("24h", "1d"),
            ("7d", "1w"),
            ("90", "90m"),
            ("60", "1h"),
            ("365d", "1y"),
            ("30d", "1M"),
            ("5w", "5w"),
            ("", ""),
            ("0", ""),
        ] {
            assert_eq!(text.parse::<Ttl>().unwrap().to_string(), printed, "{text}");
        }
        for bad in ["h", "1x", "-1h", "256y", "1.5h", "99999999999999999999m"] {
            assert!(bad.parse::<Ttl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ttl_is_read_back_from_its_bytes() {
        let ttl: Ttl = "3d".parse().unwrap();
        assert_eq!(ttl.as_bytes(), [3, 3]);
        assert_eq!(Ttl::from_bytes([3, 3]), Some(ttl));
        assert_eq!(Ttl::from_bytes([0, 9]), Some(Ttl::NONE));
        assert_eq!(Ttl::from_bytes([1, 9]), None, "an unknown unit is an error, not for ever");
        assert_eq!(ttl.duration(), Some(Duration::from_secs(3 * 24 * 3600)));
    }

    #[test]
    fn a_volume_outlives_its_needles_by_a_tenth_of_their_ttl_or_ten_minutes() {
        let lifetime = |text: &str| text.parse::<Ttl>().unwrap().volume_lifetime();
        assert_eq!(lifetime("1m"), Some(Duration::from_secs(66)));
        assert_eq!(lifetime("100m"), Some(Duration::from_secs(110 * 60)));
        assert_eq!(lifetime("3d"), Some(Duration::from_secs((3 * 24 * 60 + 10) * 60)));
        assert_eq!(lifetime(""), None);
    }
}
