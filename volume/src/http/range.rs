//! Which bytes a `Range` header asks for, by RFC 9110 section 14. Pure.
//!
//! What cannot be read is ignored, and so are ranges that together are more than the whole: both
//! are answered with the whole, which every client must be able to take.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

/// Ranges of one request at most; more are answered with the whole. Each costs a part header, and
/// real clients ask for a handful.
const MAX_RANGES: usize = 64;

/// What to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Selection {
    /// Everything (200).
    Whole,
    /// These parts, in the order asked for, at least one, none of them empty (206).
    Parts(Vec<Range<u64>>),
    /// Nothing of what was asked for exists (416).
    Unsatisfiable,
}

/// What `header` selects of `len` bytes.
pub(super) fn select(header: &str, len: u64) -> Selection {
    let Some((unit, ranges)) = header.split_once('=') else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let specs = ranges.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let mut parts = Vec::new();
    let mut asked: usize = 0;
    for spec in specs {
        asked = asked.saturating_add(1);
        match parse(spec) {
            None => return Selection::Whole,
            Some(_) if asked > MAX_RANGES => return Selection::Whole,
            Some(spec) => parts.extend(spec.within(len)),
        }
    }
    let total = parts.iter().fold(0, |sum: u64, part: &Range<u64>| {
        sum.saturating_add(part.end.saturating_sub(part.start))
    });
    match (asked, parts.len()) {
        (0, _) => Selection::Whole,
        (_, 0) => Selection::Unsatisfiable,
        _ if total > len => Selection::Whole,
        _ => Selection::Parts(parts),
    }
}

/// One range as it was written.
enum Spec {
    /// `first-` or `first-last`, both included.
    From { first: u64, last: Option<u64> },
    /// `-count`: the last bytes.
    Suffix(u64),
}

fn parse(spec: &str) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        return Some(Spec::Suffix(number(last)?));
    }
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    if last.is_some_and(|last| last < first) {
        return None;
    }
    Some(Spec::From { first, last })
}

/// A number beyond 64 bits lies beyond every needle.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

impl Spec {
    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From { first, last } => {
                let end = last.map_or(len, |last| last.saturating_add(1).min(len));
                first..end
            }
            Self::Suffix(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_cut_to_what_exists() {
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=5-", 5..10),
            ("bytes=5-99", 5..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("BYTES = 1-1", 1..2),
            ("bytes=8-99999999999999999999999", 8..10),
            ("bytes=2-3,50-60", 2..4),
        ] {
            assert_eq!(select(header, 10), Selection::Parts(vec![range]), "{header}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order() {
        let parts = Selection::Parts(vec![5..7, 0..2]);
        assert_eq!(select("bytes=5-6, ,0-1", 10), parts);
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=20-30,40-50"] {
            assert_eq!(select(header, 10), Selection::Unsatisfiable, "{header}");
        }
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn what_cannot_be_read_or_is_more_than_the_whole_is_ignored() {
        let many = format!("bytes={}", "0-0,".repeat(65));
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=+1-2",
            "bytes=-",
            "bytes=1",
            "lines=1-2",
            "bytes=0-6,3-9",
            &many,
        ] {
            assert_eq!(select(header, 10), Selection::Whole, "{header}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_within_and_are_no_more_than_the_whole(
            header in "bytes=[0-9,-]{0,20}", len in 0_u64..100,
        ) {
            if let Selection::Parts(parts) = select(&header, len) {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                let lens = parts.iter().map(|part| part.end.saturating_sub(part.start));
                prop_assert!(lens.sum::<u64>() <= len);
            }
        }
    }
}
