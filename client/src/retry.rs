//! How often and after what pause a call is tried again.
//!
//! Pure: the caller sleeps. Pauses double and are spread, so that clients that failed together
//! do not come back together.

use std::time::Duration;

/// Attempts of one call. A failover of the masters takes under a second, which the pauses between
/// five attempts outlast.
pub(crate) const MAX_ATTEMPTS: u32 = 5;
/// The longest first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pauses between the attempts of one call.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed: u32,
}

impl Backoff {
    /// After a failed attempt: how long to wait before the next one, if there is to be one.
    /// `spread` is random in 0 … 1 and takes up to half off the pause.
    pub(crate) fn next_pause(&mut self, spread: f64) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= MAX_ATTEMPTS {
            return None;
        }
        let longest = FIRST_PAUSE * (1 << (self.failed - 1));
        Some(longest.mul_f64(1.0 - spread.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.next_pause(0.0)).collect();
        let milliseconds: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(milliseconds, [100, 200, 400, 800]);
    }

    #[test]
    fn the_spread_takes_at_most_half() {
        let pause = Backoff::default().next_pause(1.0);
        assert_eq!(pause, Some(FIRST_PAUSE / 2));
    }
}
