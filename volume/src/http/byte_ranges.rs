//! Several parts of a needle as one body, `multipart/byteranges` by RFC 9110 section 14.6. Pure.
//!
//! The boundary is never contained in the data. Which parts to send is decided before, and their
//! sum is at most the data: so is the memory taken here, but for the heads of parts.

use std::ops::Range;

use bytes::Bytes;

/// A body of several parts, and the boundary between them.
#[derive(Debug)]
pub(super) struct ByteRanges {
    /// Separates the parts; not contained in the data.
    pub(super) boundary: String,
    /// The whole body.
    pub(super) body: Bytes,
}

/// Cuts `ranges`, which lie within `data`, and frames each. `seed` makes boundaries of different
/// needles differ.
pub(super) fn frame(
    data: &Bytes,
    ranges: &[Range<u64>],
    content_type: &str,
    seed: u32,
) -> ByteRanges {
    let boundary = boundary(data, seed);
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
    ByteRanges { boundary, body: body.into() }
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

/// Counts up from the seed until the data does not contain it: data of n bytes contains fewer than
/// n of them, and data made to contain many would have to know its own checksum.
fn boundary(data: &[u8], seed: u32) -> String {
    let mut seed = seed;
    loop {
        let boundary = format!("dulse-part-{seed:08x}");
        let is_contained = data.windows(boundary.len()).any(|found| found == boundary.as_bytes());
        if !is_contained {
            return boundary;
        }
        seed = seed.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_range_and_type() {
        let data = Bytes::from_static(b"0123456789");
        let framed = frame(&data, &[0..2, 7..10], "text/plain", 0xab);
        let expected = "--dulse-part-000000ab\r\nContent-Range: bytes 0-1/10\r\n\
            Content-Type: text/plain\r\n\r\n01\r\n--dulse-part-000000ab\r\n\
            Content-Range: bytes 7-9/10\r\nContent-Type: text/plain\r\n\r\n789\r\n\
            --dulse-part-000000ab--\r\n";
        assert_eq!(framed.body, expected);
        assert_eq!(framed.boundary, "dulse-part-000000ab");
    }

    #[test]
    fn a_boundary_is_not_contained_in_the_data() {
        let data = Bytes::from_static(b"xx dulse-part-000000ab dulse-part-000000ac");
        assert_eq!(boundary(&data, 0xab), "dulse-part-000000ad");
    }
}
