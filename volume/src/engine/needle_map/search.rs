//! Finding a key among sorted ones with few touches of memory.
//!
//! Keys are handed out in sequence, so they are mostly spread evenly: the place of a key is guessed
//! from its distance, looked for there, then in a window around, and only then among all. Whatever
//! the keys, a search takes a few steps more than a binary one at most.

/// Members on either side of the second guess, which is off by little more than one.
const REACH: usize = 4;

/// Added to a guess, so that what rounding takes does not make it the member before.
const BIAS: f64 = 1.0 / 64.0;

/// How many members there are to a distance of 1. Only speed depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slope(f64);

impl Slope {
    /// `len` members over a distance of `span`.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
    pub(super) fn new(len: usize, span: u64) -> Self {
        // In this order a search need not know the length to begin with the division.
        Self(1.0 / number(span) * len as f64)
    }

    /// The member at a distance from another, if members were spread evenly.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
    fn guess(self, from: usize, distance: f64, last: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "what is too far becomes the last")]
        let member = (from as f64 + distance * self.0 + BIAS) as i64;
        usize::try_from(member).unwrap_or(0).min(last)
    }
}

/// The last of `len` rising numbers that is at most `wanted`; 0 if there is none. `at` names them.
#[inline]
pub(super) fn last_at_most(
    wanted: u64,
    len: usize,
    slope: Slope,
    at: impl Fn(usize) -> u64,
) -> usize {
    let is_below = |member: usize| member == len || wanted < at(member);
    let last = len.saturating_sub(1);
    let first = slope.guess(0, number(wanted), last);
    let found = at(first);
    // Branches that are mostly foreseen: what follows does not wait for memory.
    if found <= wanted && is_below(first + 1) {
        return first;
    }
    let second = slope.guess(first, number(wanted) - number(found), last);
    let (low, high) = (second.saturating_sub(REACH), (second + REACH).min(len));
    if at(low) <= wanted && is_below(high) {
        bisect(wanted, low, high, at)
    } else {
        bisect(wanted, 0, len, at)
    }
}

/// Roughly `value`; one above 2⁶³ is taken for a negative one, which costs a search its guess and
/// spares all others the conversion that has no instruction.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
fn number(value: u64) -> f64 {
    value.cast_signed() as f64
}

/// The same from `low`, where the number is at most `wanted` or all are above, to before `high`.
#[inline]
fn bisect(wanted: u64, mut low: usize, high: usize, at: impl Fn(usize) -> u64) -> usize {
    let mut count = high - low;
    while count > 1 {
        let half = count / 2;
        low = if at(low + half) <= wanted { low + half } else { low };
        count -= half;
    }
    low
}
