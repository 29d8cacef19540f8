//! Whether the wall clock may be believed for deleting what has expired.
//!
//! A clock that is wrong hides what it takes for expired, which ends when it is set right; what was
//! deleted meanwhile is gone. So a deletion asks for more: that wall time has run evenly, held
//! against boot time, for as long as the thing lives, an hour at most. A machine that starts with a
//! wrong clock and has it set right within the hour deletes nothing by the wrong one. Time in which
//! nobody looked counts little: a machine that slept had nobody who could have set its clock.
//!
//! A clock that stays wrong for longer is not found out here: that takes another machine's clock.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::{BootTime, Clock, Reading};

/// The longest that a clock has to be watched. Time synchronisation sets a clock right within
/// minutes of finding its servers.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(3600);
/// How far wall time may be from where it is expected: more than any correction of a clock that is
/// right, and little beside the shortest ttl there is.
pub const TOLERANCE: Duration = Duration::from_secs(60);
/// What a stretch counts at most in which nobody looked at the clock.
const LONGEST_GAP: Duration = Duration::from_secs(60);
/// What is expected moves towards what is found by this part of the time that passes, so by a minute
/// an hour. A clock is slewed by 0.05 % as a rule, which therefore never adds up to a jump. One that
/// some daemons slew by 8 %, because it is far off, runs away from it, and is a jump again and again
/// until it is right. Holding each reading against the last alone would miss that.
const FOLLOWED_PART: i128 = 60;

/// How evenly wall time has run: pure.
#[derive(Clone, Debug)]
pub struct Steadiness {
    /// By how much wall time is expected to be ahead of boot time.
    expected_ahead_ns: i128,
    looked_at: BootTime,
    steady_for: Duration,
}

/// A leap of the wall clock: nanoseconds, negative if it went back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jump(i128);

/// Wall time, and for how long it has run evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SteadyTime {
    /// Nanoseconds since 1970.
    pub wall_ns: u64,
    /// Watched time since the last jump, or since the process looked first.
    pub steady_for: Duration,
}

impl Steadiness {
    /// That of a clock that is seen for the first time.
    pub fn beginning_at(reading: Reading) -> Self {
        let expected_ahead_ns = ahead_ns(reading);
        Self { expected_ahead_ns, looked_at: reading.boot, steady_for: Duration::ZERO }
    }

    /// Takes in what the clocks say, and whether that is a jump.
    pub fn observe(&mut self, reading: Reading) -> (SteadyTime, Option<Jump>) {
        let passed = reading.boot.since(self.looked_at);
        self.looked_at = self.looked_at.max(reading.boot);
        let off = ahead_ns(reading) - self.expected_ahead_ns;
        let has_jumped = off.unsigned_abs() > TOLERANCE.as_nanos();
        if has_jumped {
            self.expected_ahead_ns += off;
            self.steady_for = Duration::ZERO;
        } else {
            let most = nanoseconds(passed) / FOLLOWED_PART;
            self.expected_ahead_ns += off.clamp(-most, most);
            self.steady_for = self.steady_for.saturating_add(passed.min(LONGEST_GAP));
        }
        let time = SteadyTime { wall_ns: reading.wall_ns, steady_for: self.steady_for };
        (time, has_jumped.then_some(Jump(off)))
    }
}

impl SteadyTime {
    /// Seconds since 1970, if that may be believed for deleting what lives as long as `lifetime`.
    pub fn secs_to_delete_by(self, lifetime: Duration) -> Option<u64> {
        let is_believed = self.steady_for >= lifetime.min(LONGEST_PERIOD);
        is_believed.then_some(self.wall_ns / 1_000_000_000)
    }
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.0 < 0 { "back" } else { "ahead" };
        write!(f, "{direction} by {} s", self.0.unsigned_abs() / 1_000_000_000)
    }
}

fn ahead_ns(reading: Reading) -> i128 {
    i128::from(reading.wall_ns) - nanoseconds(reading.boot.since(BootTime::default()))
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// A clock whose steadiness is kept. Somebody has to look at it at least once a minute.
#[derive(Debug)]
pub struct SteadyClock {
    clock: Clock,
    /// Held while the clock is read, so that readings come in their order.
    steadiness: Mutex<Steadiness>,
}

impl SteadyClock {
    /// Looks at `clock` for the first time.
    pub fn new(clock: Clock) -> Self {
        let steadiness = Mutex::new(Steadiness::beginning_at(clock.read()));
        Self { clock, steadiness }
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Looks at the clock: its time, and whether it has jumped since somebody looked.
    pub fn look(&self) -> (SteadyTime, Option<Jump>) {
        let mut steadiness = self.steadiness.lock().unwrap_or_else(PoisonError::into_inner);
        steadiness.observe(self.clock.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW_NS: u64 = 1_795_305_600_000_000_000;

    /// A clock that is looked at every ten seconds while time passes.
    struct Watched(SteadyClock);

    impl Watched {
        fn new() -> Self {
            Self(SteadyClock::new(Clock::manual(NOW_NS)))
        }

        /// Lets time pass while the wall clock gains so much every second; how often it jumped.
        fn pass(&self, length: Duration, gain: Duration) -> usize {
            let steps = length.as_secs() / 10;
            let jumps = (0..steps).filter(|_| {
                self.0.clock().advance(10 * SECOND);
                self.0.clock().jump_ahead(10 * gain);
                self.0.look().1.is_some()
            });
            jumps.count()
        }

        fn believes(&self, lifetime: Duration) -> bool {
            self.0.look().0.secs_to_delete_by(lifetime).is_some()
        }
    }

    #[test]
    fn a_clock_is_believed_for_what_lives_as_long_as_it_was_steady_an_hour_at_most() {
        let watched = Watched::new();
        assert!(!watched.believes(SECOND) && watched.believes(Duration::ZERO));
        watched.pass(5 * MINUTE, Duration::ZERO);
        assert!(watched.believes(5 * MINUTE) && !watched.believes(5 * MINUTE + SECOND));
        watched.pass(54 * MINUTE, Duration::ZERO);
        assert!(!watched.believes(HOUR));
        watched.pass(MINUTE, Duration::ZERO);
        assert!(watched.believes(HOUR) && watched.believes(400 * DAY));
        let now_secs = watched.0.look().0.secs_to_delete_by(DAY);
        assert_eq!(now_secs, Some(NOW_NS / 1_000_000_000 + 3600));
    }

    #[test]
    fn a_clock_that_starts_ahead_and_is_set_back_within_the_hour_is_believed_by_nobody_meanwhile() {
        let watched = Watched::new();
        watched.0.clock().jump_ahead(30 * DAY);
        let (_, jump) = watched.0.look();
        assert_eq!(jump.unwrap().to_string(), "ahead by 2592000 s");
        watched.pass(59 * MINUTE, Duration::ZERO);
        assert!(!watched.believes(DAY));
        watched.0.clock().jump_back(30 * DAY);
        // Asking is looking: nothing was observed between the jump and the question.
        assert!(!watched.believes(SECOND));
        watched.pass(59 * MINUTE, Duration::ZERO);
        assert!(!watched.believes(DAY));
        watched.pass(MINUTE, Duration::ZERO);
        assert!(watched.believes(DAY));
        watched.0.clock().jump_back(61 * SECOND);
        assert_eq!(watched.0.look().1.unwrap().to_string(), "back by 61 s");
        assert!(!watched.believes(SECOND));
    }

    #[test]
    fn a_correction_of_less_than_a_minute_changes_nothing_but_several_in_a_row_do() {
        let watched = Watched::new();
        watched.pass(HOUR, Duration::ZERO);
        watched.0.clock().jump_ahead(MINUTE);
        assert!(watched.believes(DAY));
        watched.pass(10 * MINUTE, Duration::ZERO);
        watched.0.clock().jump_ahead(30 * SECOND);
        assert!(!watched.believes(SECOND), "80 s ahead of what it was ten minutes ago");
    }

    #[test]
    fn slow_slewing_never_restarts_the_period_and_fast_slewing_does_for_as_long_as_it_lasts() {
        let watched = Watched::new();
        assert_eq!(watched.pass(100 * DAY, Duration::from_micros(500)), 0);
        assert!(watched.believes(DAY));
        let jumps = watched.pass(6 * HOUR, Duration::from_micros(83_333));
        assert!((20..30).contains(&jumps), "{jumps}");
        assert!(!watched.believes(HOUR));
        assert!(watched.pass(2 * HOUR, Duration::ZERO) <= 1);
        assert!(watched.believes(DAY));
    }

    #[test]
    fn time_in_which_nobody_looked_counts_a_minute() {
        let watched = Watched::new();
        watched.0.clock().advance(DAY);
        assert!(watched.believes(MINUTE) && !watched.believes(MINUTE + SECOND));
        watched.pass(HOUR, Duration::ZERO);
        watched.0.clock().advance(DAY);
        watched.0.clock().jump_ahead(61 * SECOND);
        assert!(!watched.believes(SECOND), "however long it was, nothing is followed unseen");
    }
}
