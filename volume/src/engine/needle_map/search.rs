//! Finding a key among sorted ones with few touches of memory.
//!
//! Keys are handed out in sequence, so they are mostly spread evenly: the place of a key is guessed
//! from its distance, looked for there, then in a window around, and only then among all. Whatever
//! the keys, a search takes a few steps more than a binary one at most.

/// Members on either side of the second guess, which is off by little more than one.
const REACH: usize = 6;

/// The last of `len` rising numbers that is at most `number`; 0 if there is none. `at` names them
/// and `end` is about where the next one would be: only the speed depends on it.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
pub(super) fn last_at_most(number: u64, len: usize, end: f64, at: impl Fn(usize) -> u64) -> usize {
    let is_below = |member: usize| member == len || number < at(member);
    let (each, distance, last) = (len as f64 / end, number as f64, len.saturating_sub(1));
    let first = guess(distance * each, last);
    let found = at(first);
    // Branches that are mostly foreseen: what follows does not wait for memory.
    if found <= number && is_below(first + 1) {
        return first;
    }
    let second = guess(first as f64 + (distance - found as f64) * each, last);
    let (low, high) = (second.saturating_sub(REACH), (second + REACH).min(len));
    if at(low) <= number && is_below(high) {
        bisect(number, low, high, at)
    } else {
        bisect(number, 0, len, at)
    }
}

/// The member that is meant, if there is one.
fn guess(place: f64, last: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is below 0 becomes 0"
    )]
    let member = place as usize;
    member.min(last)
}

/// The same from `low`, where the number is at most `number` or all are above, to before `high`.
fn bisect(number: u64, mut low: usize, high: usize, at: impl Fn(usize) -> u64) -> usize {
    let mut count = high - low;
    while count > 1 {
        let half = count / 2;
        low = if at(low + half) <= number { low + half } else { low };
        count -= half;
    }
    low
}
