//! Several parts of a needle as one body, `multipart/byteranges` by RFC 9110 section 14.6. Pure.
//!
//! Whoever stores data cannot know the boundary that it will be read with: it is random, so that
//! nothing has to look for it in the data, which would cost as much as somebody wants it to. Which
//! parts to send is decided before, and their sum is at most the data: so is the memory taken here,
//! but for the heads of parts.

use std::{fmt, ops::Range};

use bytes::Bytes;

/// Separates the parts of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boundary(u128);

impl Boundary {
    /// One that nobody can foresee.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dulse-part-{:032x}", self.0)
    }
}

/// Cuts `ranges`, which lie within `data`, and frames each: the whole body.
pub(super) fn frame(
    data: &Bytes,
    ranges: &[Range<u64>],
    content_type: &str,
    boundary: Boundary,
) -> Bytes {
    let mut body = Vec::new();
    for range in ranges {
        let part_head = format!(
            "\r\n--{boundary}\r\nContent-Range: {}\r\nContent-Type: {content_type}\r\n\r\n",
            content_range(range, data.len() as u64),
        );
        // The first boundary opens the body.
        let part_head = if body.is_empty() { &part_head[2..] } else { &part_head };
        body.extend_from_slice(part_head.as_bytes());
        body.extend_from_slice(&cut(data, range));
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body.into()
}

/// The bytes of a range; nothing where it reaches outside.
pub(super) fn cut(data: &Bytes, range: &Range<u64>) -> Bytes {
    let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
        return Bytes::new();
    };
    if start <= end && end <= data.len() { data.slice(start..end) } else { Bytes::new() }
}

/// `bytes 0-9/100`, for a range that is not empty.
pub(super) fn content_range(range: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_range_and_type() {
        let data = Bytes::from_static(b"0123456789");
        let framed = frame(&data, &[0..2, 7..10], "text/plain", Boundary(0xab));
        let line = "--dulse-part-000000000000000000000000000000ab";
        let expected = format!(
            "{line}\r\nContent-Range: bytes 0-1/10\r\nContent-Type: text/plain\r\n\r\n01\r\n\
             {line}\r\nContent-Range: bytes 7-9/10\r\nContent-Type: text/plain\r\n\r\n789\r\n\
             {line}--\r\n"
        );
        assert_eq!(framed, expected);
    }
}
