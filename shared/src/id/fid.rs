//! The file id: volume, needle key and cookie in one word, as `3,01637037d6`.
//!
//! After the comma come the key and the cookie as big-endian hex; leading zero bytes of the key
//! are left out, the cookie always has 8 digits. A suffix `_n` adds `n` to the key, which is how
//! the `count` fids of one assign are named.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cookie, NeedleKey, ParseVolumeIdError, VolumeId};

/// Hex digits of a cookie.
const COOKIE_DIGITS: usize = 8;
/// Hex digits of a key and a cookie at most.
const MAX_DIGITS: usize = 24;

/// Where a needle is and the cookie that proves that the caller was told so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fid {
    /// The volume.
    pub volume: VolumeId,
    /// The needle's key within the volume.
    pub key: NeedleKey,
    /// The cookie stored with the needle.
    pub cookie: Cookie,
}

impl Fid {
    /// Parses what follows the comma (or, in `/vid/fid`, the slash).
    pub fn parse_needle(volume: VolumeId, text: &str) -> Result<Self, ParseFidError> {
        let (digits, delta) = match text.split_once('_') {
            Some((digits, delta)) => (digits, parse_delta(delta)?),
            None => (text, 0),
        };
        if digits.len() <= COOKIE_DIGITS || digits.len() > MAX_DIGITS {
            return Err(ParseFidError::Length(digits.len()));
        }
        let all = parse_hex(digits)?;
        // The shift leaves at most 64 bits: there are at most 24 digits.
        let base = u64::try_from(all >> 32).map_err(|_| ParseFidError::Length(digits.len()))?;
        let cookie = u32::try_from(all & u128::from(u32::MAX))
            .map_err(|_| ParseFidError::Length(digits.len()))?;
        let key = base.checked_add(delta).ok_or(ParseFidError::KeyOverflow)?;
        let key = NeedleKey::new(key).ok_or(ParseFidError::KeyZero)?;
        Ok(Self { volume, key, cookie: Cookie(cookie) })
    }
}

fn parse_delta(text: &str) -> Result<u64, ParseFidError> {
    let error = || ParseFidError::Delta(text.to_owned());
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    text.parse().map_err(|_| error())
}

fn parse_hex(digits: &str) -> Result<u128, ParseFidError> {
    let mut value: u128 = 0;
    for character in digits.chars() {
        let digit = character.to_digit(16).ok_or(ParseFidError::Digit(character))?;
        value = (value << 4) | u128::from(digit);
    }
    Ok(value)
}

impl fmt::Display for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_u64();
        let bytes = 8_u32.saturating_sub(key.leading_zeros() / 8) as usize;
        let width = bytes.saturating_mul(2);
        write!(f, "{},{key:0width$x}{}", self.volume, self.cookie)
    }
}

/// Why a text is not a fid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseFidError {
    /// There is no comma.
    #[error("a fid reads VOLUME,KEYCOOKIE, as 3,01637037d6; there is no comma in it")]
    NoComma,
    /// The part before the comma.
    #[error(transparent)]
    Volume(#[from] ParseVolumeIdError),
    /// The part after the comma has the wrong length.
    #[error("key and cookie are 9 to 24 hex digits, not {0}")]
    Length(usize),
    /// A character that is no hex digit.
    #[error("{0:?} is not a hex digit")]
    Digit(char),
    /// What follows the underscore.
    #[error("_{0} is not a decimal number to add to the key")]
    Delta(String),
    /// Key + n does not fit.
    #[error("the number after the underscore takes the key past 64 bits")]
    KeyOverflow,
    /// Key 0.
    #[error("a needle key is never 0")]
    KeyZero,
}

/// In JSON as people write it.
impl Serialize for Fid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Fid {
    type Err = ParseFidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (volume, needle) = text.split_once(',').ok_or(ParseFidError::NoComma)?;
        Self::parse_needle(volume.parse()?, needle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fid(volume: u32, key: u64, cookie: u32) -> Fid {
        Fid {
            volume: VolumeId::new(volume).unwrap(),
            key: NeedleKey::new(key).unwrap(),
            cookie: Cookie(cookie),
        }
    }

    #[test]
    fn a_fid_prints_the_key_without_leading_zero_bytes() {
        assert_eq!(fid(3, 1, 0xf83e_45ff).to_string(), "3,01f83e45ff");
        assert_eq!(fid(3, 0x100, 1).to_string(), "3,010000000001");
        assert_eq!(fid(1, u64::MAX, 0).to_string(), "1,ffffffffffffffff00000000");
    }

    #[test]
    fn odd_lengths_upper_case_leading_zeros_and_a_delta_are_read() {
        let plain = fid(3, 1, 0xf83e_45ff);
        for text in ["3,1f83e45ff", "3,01F83E45FF", "3,000001f83e45ff"] {
            assert_eq!(text.parse(), Ok(plain), "{text}");
        }
        assert_eq!("3,01f83e45ff_15".parse(), Ok(fid(3, 16, 0xf83e_45ff)));
    }

    #[test]
    fn malformed_fids_say_what_is_wrong() {
        use ParseFidError as E;
        for (text, error) in [
            ("3", E::NoComma),
            ("3,f83e45ff", E::Length(8)),
            ("3,", E::Length(0)),
            ("3,1234567890123456789012345", E::Length(25)),
            ("3,+1f83e45ff", E::Digit('+')),
            ("3,0xf83e45ff", E::Digit('x')),
            ("3,00f83e45ff", E::KeyZero),
            ("3,01f83e45ff_", E::Delta(String::new())),
            ("3,01f83e45ff_x", E::Delta("x".into())),
            ("3,ffffffffffffffff00000000_1", E::KeyOverflow),
            ("0,01f83e45ff", E::Volume(ParseVolumeIdError("0".into()))),
            ("4294967296,01f83e45ff", E::Volume(ParseVolumeIdError("4294967296".into()))),
        ] {
            assert_eq!(text.parse::<Fid>(), Err(error), "{text}");
        }
        assert!("3,01f83e45ff_".parse::<Fid>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(volume in 1_u32.., key in 1_u64.., cookie: u32) {
            let fid = fid(volume, key, cookie);
            prop_assert_eq!(fid.to_string().parse(), Ok(fid));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Fid>();
        }
    }
}
