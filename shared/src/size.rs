//! Sizes as people write and read them: `30GB`, `1.5 KB`. Units are powers of 1024.

use std::{fmt, str::FromStr};

/// A number of bytes, parsed from and printed with a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// Unit letters by power of 1024.
const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];

/// A text that is not a size.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a size: use a whole number and B, KB, MB, GB or TB, as in 30GB")]
pub struct ParseByteSizeError(pub String);

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseByteSizeError(text.to_owned());
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit = unit.trim().to_ascii_uppercase().replace("IB", "B");
        let power = match unit.as_str() {
            "" | "B" => 0,
            short if short.len() == 1 => {
                UNITS.iter().position(|u| u.starts_with(short)).ok_or_else(error)?
            }
            long => UNITS.iter().position(|u| *u == long).ok_or_else(error)?,
        };
        let number: u64 = digits.parse().map_err(|_| error())?;
        let factor = 1_u64 << (10 * power);
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    /// Exact below 1 KB and where a unit divides evenly, else one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (1..UNITS.len()).take_while(|power| self.0 >> (10 * power) > 0).last();
        let power = power.unwrap_or(0);
        let unit = 1_u64 << (10 * power);
        let name = UNITS[power];
        if self.0.is_multiple_of(unit) {
            write!(f, "{}{name}", self.0 / unit)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
            let value = self.0 as f64 / unit as f64;
            write!(f, "{value:.1}{name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1KB", 1024),
            ("1k", 1024),
            ("30GB", 30 << 30),
            ("30GiB", 30 << 30),
            ("2 TB", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "GB", "1.5GB", "-1", "1XB", "99999999999TB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_print_short() {
        assert_eq!(ByteSize(30 << 30).to_string(), "30GB");
        assert_eq!(ByteSize(1536).to_string(), "1.5KB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
    }
}
