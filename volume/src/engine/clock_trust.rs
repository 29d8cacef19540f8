//! Whether this server deletes by its clock: what holds for its own running, and what masters say.
//!
//! A needle that has expired is hidden by whatever the clock says, since that can be undone. It is
//! deleted, and a volume ended, only while the clock has run evenly for as long as the needle lives
//! ([`dulse_shared::steady_clock`]) and no master's clock contradicts. A master that says nothing
//! contradicts nothing: a server whose masters are away still reclaims what has expired.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    steady_clock::{SteadyClock, SteadyTime, TOLERANCE},
};

/// A master that contradicted agrees again below this: it is not worth a line in the log each time
/// that two clocks drift past each other's limit.
const AGREES_BELOW: Duration = TOLERANCE.saturating_sub(Duration::from_secs(10));
/// For how long a master's word holds after it was heard. One that cannot be reached may be the one
/// whose clock is right; one that is gone for good must not keep everything for ever.
const WORD_HOLDS: Duration = Duration::from_secs(24 * 3600);

/// A master's clock as it was compared last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Compared {
    /// By how much it is ahead of ours; negative if it is behind.
    ahead_ns: i128,
    contradicts: bool,
    at: BootTime,
}

/// Masters that are remembered: those that are reported to, and some that contradicted and are gone.
const MAX_MASTERS: usize = 128;

/// What masters' clocks say: pure.
#[derive(Debug, Default)]
struct Masters(BTreeMap<String, Compared>);

/// What changed with a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    None,
    Contradicts,
    AgreesAgain,
}

impl Masters {
    /// Takes in that a master's clock is ahead of ours by so much, give or take `doubt`.
    fn heard(&mut self, master: &str, ahead_ns: i128, doubt: Duration, at: BootTime) -> Change {
        let contradicted = self.0.get(master).is_some_and(|before| before.contradicts);
        let limit = if contradicted { AGREES_BELOW } else { TOLERANCE };
        let contradicts = ahead_ns.unsigned_abs() > (limit + doubt).as_nanos();
        if self.0.len() >= MAX_MASTERS {
            self.0.retain(|_, word| at.since(word.at) < WORD_HOLDS);
        }
        if self.0.len() >= MAX_MASTERS && !self.0.contains_key(master) {
            // Far more than are asked: most of them are gone, contradicted, and one of those is enough.
            return Change::None;
        }
        self.0.insert(master.to_owned(), Compared { ahead_ns, contradicts, at });
        match (contradicted, contradicts) {
            (false, true) => Change::Contradicts,
            (true, false) => Change::AgreesAgain,
            (true, true) | (false, false) => Change::None,
        }
    }

    /// A master is not asked any more; that it contradicted holds for as long as if it were silent.
    fn forget(&mut self, master: &str) {
        if self.0.get(master).is_some_and(|word| !word.contradicts) {
            self.0.remove(master);
        }
    }

    fn contradict(&self, now: BootTime) -> bool {
        self.0.values().any(|word| word.contradicts && now.since(word.at) < WORD_HOLDS)
    }
}

/// A server's clock, and whether it deletes by it.
#[derive(Debug)]
pub struct ClockTrust {
    clock: SteadyClock,
    masters: Mutex<Masters>,
}

impl ClockTrust {
    /// Looks at the clock for the first time; no master was heard yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock: SteadyClock::new(clock), masters: Mutex::default() }
    }

    /// Looks at the clock; somebody has to at least once a minute. The log hears of a jump.
    pub fn look(&self) -> SteadyTime {
        let (time, jump) = self.clock.look();
        if let Some(jump) = jump {
            tracing::warn!(
                "the clock of this volume server jumped {jump}: what has expired is hidden, but not \
                 deleted until the clock was steady for as long as it lived, an hour at most"
            );
        }
        time
    }

    /// Seconds since 1970, if that may be believed for deleting what lives as long as `lifetime`.
    pub fn secs_to_delete_by(&self, lifetime: Duration) -> Option<u64> {
        let time = self.look();
        let is_contradicted = self.masters().contradict(self.clock.clock().boot());
        time.secs_to_delete_by(lifetime).filter(|_| !is_contradicted)
    }

    /// When a request to a master begins.
    pub fn begin(&self) -> BootTime {
        self.clock.clock().boot()
    }

    /// Compares a master's wall time, from its answer to the request that began at `began`, with
    /// ours in the middle of that; 0 is a master that does not say. The log hears when it begins to
    /// contradict and when it no longer does.
    pub fn heard(&self, master: &str, wall_ns: u64, began: BootTime) {
        if wall_ns == 0 {
            return;
        }
        let now = self.clock.clock().read();
        let doubt = now.boot.since(began) / 2;
        let ours_ns = i128::from(now.wall_ns) - nanoseconds(doubt);
        let ahead_ns = i128::from(wall_ns) - ours_ns;
        let change = self.masters().heard(master, ahead_ns, doubt, now.boot);
        match change {
            Change::None => {}
            Change::Contradicts => tracing::warn!(
                "the clock of the master {master} is {} of this server's: set the wrong one right; \
                 until they agree, what has expired is hidden, but not deleted",
                in_words(ahead_ns)
            ),
            Change::AgreesAgain => tracing::info!(
                "the clock of the master {master} agrees with this server's again ({})",
                in_words(ahead_ns)
            ),
        }
    }

    /// A master is not asked any more.
    pub fn forget(&self, master: &str) {
        self.masters().forget(master);
    }

    /// By how many seconds each master's clock was ahead of ours when it was compared last.
    pub fn differences(&self) -> Vec<(String, f64)> {
        let masters = self.masters();
        let seconds = |word: &Compared| {
            let whole_ms = i64::try_from(word.ahead_ns / 1_000_000).unwrap_or(i64::MAX);
            #[expect(clippy::cast_precision_loss, reason = "exact for 285 thousand years")]
            let ms = whole_ms as f64;
            ms / 1000.0
        };
        masters.0.iter().map(|(master, word)| (master.clone(), seconds(word))).collect()
    }

    fn masters(&self) -> MutexGuard<'_, Masters> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn in_words(ahead_ns: i128) -> String {
    let direction = if ahead_ns < 0 { "behind" } else { "ahead" };
    format!("{} s {direction}", ahead_ns.unsigned_abs() / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW_SECS: u64 = 1_795_305_600;

    /// A trust whose clock was watched for an hour.
    fn steady() -> (ClockTrust, Clock) {
        let clock = Clock::manual(NOW_SECS * 1_000_000_000);
        let trust = ClockTrust::new(clock.clone());
        watch(&trust, &clock, 60);
        (trust, clock)
    }

    fn watch(trust: &ClockTrust, clock: &Clock, minutes: u64) {
        for _ in 0..minutes {
            clock.advance(60 * SECOND);
            trust.look();
        }
    }

    fn believes(trust: &ClockTrust) -> bool {
        trust.secs_to_delete_by(24 * 3600 * SECOND).is_some()
    }

    /// A master answers at once whose clock is ahead of ours by so many seconds.
    fn hear(trust: &ClockTrust, clock: &Clock, master: &str, ahead_secs: i64) {
        let wall_ns = clock.wall_ns().strict_add_signed(ahead_secs * 1_000_000_000);
        trust.heard(master, wall_ns, clock.boot());
    }

    #[test]
    fn a_steady_clock_is_believed_while_no_master_contradicts() {
        let (trust, clock) = steady();
        assert_eq!(trust.secs_to_delete_by(SECOND), Some(NOW_SECS + 3600), "nobody was heard");
        hear(&trust, &clock, "one", 60);
        hear(&trust, &clock, "two", -60);
        trust.heard("three", 0, clock.boot());
        assert!(believes(&trust), "one does not say, the others agree");
        for ahead in [61, -61, 86_400 * 365] {
            hear(&trust, &clock, "two", ahead);
            assert!(!believes(&trust), "{ahead}");
            hear(&trust, &clock, "one", 0);
            assert!(!believes(&trust), "one that agrees does not outweigh it");
            hear(&trust, &clock, "two", 51);
            assert!(!believes(&trust), "nearly");
            hear(&trust, &clock, "two", -50);
            assert!(believes(&trust), "it agrees again");
        }
        assert_eq!(trust.differences(), [("one".to_owned(), 0.0), ("two".to_owned(), -50.0)]);
    }

    #[test]
    fn a_master_that_agrees_makes_no_clock_steady() {
        let (trust, clock) = steady();
        clock.jump_ahead(3600 * SECOND);
        hear(&trust, &clock, "one", 0);
        assert!(!believes(&trust));
    }

    #[test]
    fn the_time_of_a_request_is_no_difference() {
        let (trust, clock) = steady();
        let began = clock.boot();
        let wall_ns = clock.wall_ns() + 63 * 1_000_000_000;
        clock.advance(4 * SECOND);
        trust.heard("one", wall_ns, began);
        assert_eq!(trust.differences(), [("one".to_owned(), 61.0)]);
        assert!(believes(&trust), "61 s, by 2 s more or less");
        let began = clock.boot();
        let wall_ns = clock.wall_ns() + 65 * 1_000_000_000;
        clock.advance(4 * SECOND);
        trust.heard("one", wall_ns, began);
        assert!(!believes(&trust), "63 s at the middle, by 2 s more or less");
    }

    #[test]
    fn a_master_that_contradicted_and_fell_silent_counts_for_a_day() {
        let (trust, clock) = steady();
        hear(&trust, &clock, "one", 100);
        watch(&trust, &clock, 24 * 60 - 1);
        assert!(!believes(&trust));
        watch(&trust, &clock, 1);
        assert!(believes(&trust));
    }

    #[test]
    fn each_change_of_a_masters_mind_is_told_once() {
        let mut masters = Masters::default();
        let mut heard = |secs: i128| {
            let at = BootTime::default();
            masters.heard("one", secs * 1_000_000_000, Duration::ZERO, at)
        };
        let changes = [0, 61, 59, 61, 51, 50, 59, -61].map(&mut heard);
        use Change::{AgreesAgain, Contradicts, None};
        assert_eq!(changes, [None, Contradicts, None, None, None, AgreesAgain, None, Contradicts]);
    }
}
