//! The cluster secret: 32 random bytes that every server of a cluster is given in a file, and what
//! is derived from them.
//!
//! The text in the file says what it is, and ends in a check, so that a file that was cut off or
//! mistyped is told from one of another cluster. Nothing derived leads back to the secret, and the
//! secret itself never leaves the process. Reading and writing files is left to the program.

use std::{fmt, str::FromStr};

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// The random part.
const SECRET_BYTES: usize = 32;
/// What SHA-256 gives.
const HASH_BYTES: usize = 32;
/// A slip of the pen escapes it once in four billion times.
const CHECK_BYTES: usize = 4;
/// Two clusters of one person share it once in millions of millions of times.
const FINGERPRINT_BYTES: usize = 6;
/// What the text begins with. The number is that of the form and of all that is derived.
const PREFIX: &str = "dulse-cluster-secret-1-";
/// Where to get one.
const REMEDY: &str = "copy the file again from another server of the cluster, or make one for a \
                      new cluster with `dulse cluster new-secret`";

const SALT: &[u8] = b"dulse cluster secret 1";
const CHECK_LABEL: &[u8] = b"check of the text";
const AUTHORITY_LABEL: &[u8] = b"certificate authority: Ed25519 seed";
const FINGERPRINT_LABEL: &[u8] = b"fingerprint";

/// What the servers of one cluster, and nobody else, know.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; SECRET_BYTES]);

impl ClusterSecret {
    /// A new one, from the system's generator.
    pub fn generate() -> Result<Self, GenerateSecretError> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| GenerateSecretError)?;
        Ok(Self(bytes))
    }

    /// The text that goes into a file: one line.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}-{}\n", hex(&self.0), hex(&self.check()))
    }

    /// Whatever differs if the secret does, for people to compare; it tells nobody the secret.
    pub fn fingerprint(&self) -> String {
        let hash = self.derive(FINGERPRINT_LABEL);
        hash.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        let hash = self.derive(CHECK_LABEL);
        std::array::from_fn(|at| hash[at])
    }

    /// The private key of the authority that signs the certificates of this cluster.
    pub(super) fn authority_seed(&self) -> [u8; HASH_BYTES] {
        self.derive(AUTHORITY_LABEL)
    }

    /// HKDF (RFC 5869) with SHA-256, of which the first block is enough.
    fn derive(&self, label: &[u8]) -> [u8; HASH_BYTES] {
        let extracted = hmac(SALT, &[&self.0]);
        hmac(&extracted, &[label, &[1]])
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecret(fingerprint {})", self.fingerprint())
    }
}

/// The system's generator gives nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct GenerateSecretError;

/// A text that is no cluster secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseSecretError {
    /// There is nothing.
    #[error("it is empty: {REMEDY}")]
    Empty,
    /// It is something else.
    #[error("it is no cluster secret, which begins with {PREFIX}: {REMEDY}")]
    Other,
    /// It was one.
    #[error("it is a cluster secret that was cut off or changed: {REMEDY}")]
    Damaged,
}

impl FromStr for ClusterSecret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseSecretError::Empty);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let is_cut_off = PREFIX.starts_with(text);
            return Err(if is_cut_off {
                ParseSecretError::Damaged
            } else {
                ParseSecretError::Other
            });
        };
        let parts = rest.split_once('-').ok_or(ParseSecretError::Damaged)?;
        let secret = Self(unhex(parts.0).ok_or(ParseSecretError::Damaged)?);
        let is_whole = unhex(parts.1) == Some(secret.check());
        if is_whole { Ok(secret) } else { Err(ParseSecretError::Damaged) }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let (tag, mut hash) = (context.sign(), [0; HASH_BYTES]);
    hash.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is expected of it was computed by another program. Whoever changes it locks servers of
    /// one cluster out from each other, release from release.
    fn fixed() -> ClusterSecret {
        ClusterSecret(std::array::from_fn(|n| u8::try_from(n).unwrap()))
    }

    #[test]
    fn the_text_and_what_is_derived_stay_what_they_are() {
        assert_eq!(
            fixed().to_text(),
            "dulse-cluster-secret-1-\
             000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f-58953ef7\n"
        );
        assert_eq!(
            hex(&fixed().authority_seed()),
            "d1a301db11c1949c4325c6538a7e558efd8308adc3bb873bc5cc0e534ec87ab4"
        );
        assert_eq!(fixed().fingerprint(), "9e58386b4609");
    }

    #[test]
    fn a_secret_is_read_as_it_was_written_and_no_two_are_the_same() {
        let (one, other) = (ClusterSecret::generate().unwrap(), ClusterSecret::generate().unwrap());
        assert_eq!(one.to_text().parse(), Ok(one.clone()));
        assert_eq!(one.to_text().replace('\n', "\r\n\r\n").parse(), Ok(one.clone()));
        assert_ne!(one, other);
        assert_ne!(one.authority_seed(), other.authority_seed());
        assert_ne!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_text_that_was_cut_off_anywhere_or_changed_is_told() {
        let text = fixed().to_text();
        let text = text.trim();
        for length in 1..text.len() {
            let parsed = text[..length].parse::<ClusterSecret>();
            assert_eq!(parsed, Err(ParseSecretError::Damaged), "{length}");
        }
        for (at, letter) in text.char_indices().skip(PREFIX.len()) {
            let changed = if letter == '7' { '8' } else { '7' };
            let changed = format!("{}{changed}{}", &text[..at], &text[at + 1..]);
            assert_eq!(changed.parse::<ClusterSecret>(), Err(ParseSecretError::Damaged), "{at}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_in_one_line_with_the_remedy() {
        let parse = |text: &str| text.parse::<ClusterSecret>().unwrap_err();
        assert_eq!(parse(" \n"), ParseSecretError::Empty);
        assert_eq!(parse("-----BEGIN CERTIFICATE-----"), ParseSecretError::Other);
        assert_eq!(parse("dulse-cluster-secret-2-00"), ParseSecretError::Other);
        for error in [ParseSecretError::Empty, ParseSecretError::Other, ParseSecretError::Damaged] {
            let text = error.to_string();
            assert!(text.contains("new-secret") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_printed_for_debugging() {
        let text = format!("{:?}", fixed());
        assert!(!text.contains("0001020304"), "{text}");
    }
}
