//! Finding a key among sorted ones with few touches of memory.
//!
//! Keys are handed out in sequence, so they are mostly spread evenly: the place of a key is guessed
//! from its distance, looked for there, then in a window around, and only then among all. Whatever
//! the keys, a search takes a few steps more than a binary one at most.

/// Members on either side of the second guess, which is off by little more than one.
const REACH: usize = 6;

/// The last of `len` rising numbers that is at most `number`; 0 if there is none. `at` names them;
/// the first is 0 and the last `highest`.
#[inline]
pub(super) fn last_at_most(
    number: u64,
    len: usize,
    highest: u64,
    at: impl Fn(usize) -> u64,
) -> usize {
    if number >= highest {
        return len.saturating_sub(1);
    }
    let top = len - 2;
    #[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
    let (each, number_f) = ((len - 1) as f64 / highest as f64, number as f64);
    let first = guess(number_f * each, top);
    let found = at(first);
    // Branches that are mostly foreseen: what follows does not wait for memory.
    if found <= number && at(first + 1) > number {
        return first;
    }
    #[expect(clippy::cast_precision_loss, reason = "a guess that is a little off is as good")]
    let second = guess(first as f64 + (number_f - found as f64) * each, top);
    let (low, high) = (second.saturating_sub(REACH), (second + REACH).min(len - 1));
    if at(low) <= number && at(high) > number {
        bisect(number, low, high, at)
    } else {
        bisect(number, 0, len - 1, at)
    }
}

/// The member that is meant, if there is one.
fn guess(place: f64, top: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is below 0 becomes 0"
    )]
    let member = place as usize;
    member.min(top)
}

/// The same between `low`, whose number is at most `number`, and `high`, whose number is above.
fn bisect(number: u64, mut low: usize, high: usize, at: impl Fn(usize) -> u64) -> usize {
    let mut count = high - low;
    while count > 1 {
        let half = count / 2;
        low = if at(low + half) <= number { low + half } else { low };
        count -= half;
    }
    low
}
