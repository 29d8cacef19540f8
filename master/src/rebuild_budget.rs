//! How much of a processor's time goes into making the layouts anew.
//!
//! Making them takes time in proportion to the number of volumes, and what calls for it comes as
//! often as there are servers. A budget that fills up by a part of the time that passes lets a
//! cluster of any usual size have them at once, and keeps a very large one from doing nothing else.

use std::time::Duration;

use dulse_shared::clock::BootTime;

/// One part in so many of a processor.
const SHARE: u32 = 10;
/// What gathers at most.
const MAX_SAVED: Duration = Duration::from_millis(100);

/// The time that is left.
#[derive(Debug, Default)]
pub(crate) struct RebuildBudget {
    /// What was spent beyond what has come back since.
    owed: Duration,
    counted_to: BootTime,
}

impl RebuildBudget {
    /// Whether any is left at `now`.
    pub(crate) fn is_left(&mut self, now: BootTime) -> bool {
        self.owed = self.owed.saturating_sub(now.since(self.counted_to) / SHARE);
        self.counted_to = now;
        self.owed < MAX_SAVED
    }

    /// Spends some, even if none is left.
    pub(crate) fn spend(&mut self, time: Duration) {
        self.owed = self.owed.saturating_add(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_time_can_be_spent_and_what_is_cheap_is_never_put_off() {
        for took in [1, 30, 250] {
            let (mut budget, mut spent) = (RebuildBudget::default(), 0);
            for ms in 0..10_000 {
                if budget.is_left(BootTime::default().plus(Duration::from_millis(ms))) {
                    budget.spend(Duration::from_millis(took));
                    spent += took;
                }
            }
            assert!((1000..=1100 + took).contains(&spent), "{took}: {spent}");
        }
        let mut budget = RebuildBudget::default();
        for ms in 0..10_000 {
            assert!(budget.is_left(BootTime::default().plus(Duration::from_millis(ms))));
            budget.spend(Duration::from_micros(90));
        }
    }
}
