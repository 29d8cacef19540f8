//! Bodies that tell which write they are: any read names its write, or is wrong.

use dulse_shared::id::Fid;

use crate::history::{Content, Version};

/// The bytes of a version of a needle: one line that names both and the length of what follows.
pub fn body(fid: Fid, version: Version, len: usize) -> Vec<u8> {
    let mut bytes = format!("{fid} {} {len}\n", version.0).into_bytes();
    bytes.extend(filler(fid, version).take(len));
    bytes
}

/// Which version of `fid` these bytes are, to the last one.
pub fn content_of(fid: Fid, bytes: &[u8]) -> Content {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line.split(' ').collect();
    if let [_, version, len] = words[..]
        && let (Ok(version), Ok(len)) = (version.parse().map(Version), len.parse::<usize>())
        // No length is believed that the bytes do not have.
        && len <= bytes.len()
        && body(fid, version, len) == bytes
    {
        return Content::Version(version);
    }
    let begin: String = line.chars().take(60).collect();
    Content::Wrong(format!(
        "{} bytes that nobody wrote there, beginning with {begin:?}",
        bytes.len()
    ))
}

/// No two needles or versions share it, and it does not repeat.
fn filler(fid: Fid, version: Version) -> impl Iterator<Item = u8> {
    let mut state =
        fid.key.as_u64() ^ (u64::from(version.0) << 32) ^ u64::from(fid.volume.as_u32()) << 48;
    std::iter::from_fn(move || {
        // splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((mixed ^ (mixed >> 31)).to_le_bytes())
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_version_and_no_other_bytes_do() {
        let fid: Fid = "3,01637037d6".parse().unwrap();
        let other: Fid = "3,02637037d6".parse().unwrap();
        for len in [0, 1, 5000] {
            let bytes = body(fid, Version(7), len);
            assert_eq!(content_of(fid, &bytes), Content::Version(Version(7)));
            assert!(matches!(content_of(other, &bytes), Content::Wrong(_)), "{len}");
            assert!(matches!(content_of(fid, &bytes[..bytes.len() - 1]), Content::Wrong(_)));
            let mut flipped = bytes.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert!(matches!(content_of(fid, &flipped), Content::Wrong(_)), "{len}");
        }
        let huge = format!("{fid} 7 {}\n", u64::MAX);
        assert!(matches!(content_of(fid, huge.as_bytes()), Content::Wrong(_)));
        assert!(matches!(content_of(fid, b""), Content::Wrong(_)));
    }
}
