//! The only place that reads a clock.
//!
//! Wall time stamps writes and decides expiry. Boot time measures leases, timeouts and latencies:
//! unlike `std::time::Instant` it goes on while the machine sleeps. Both are injected, so that a
//! test can hold them still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A source of time, cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// One that moves when told to.
    Manual(Arc<ManualClock>),
}

/// The clock of a test. Wall time is kept as what it is ahead of boot time, so that either changes
/// by one store, and nobody who looks meanwhile sees a jump that was none.
#[derive(Debug, Default)]
pub struct ManualClock {
    boot_ns: AtomicU64,
    wall_ahead_ns: AtomicU64,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Nanoseconds since 1970.
    pub wall_ns: u64,
    /// Boot time.
    pub boot: BootTime,
}

/// A point on the boot-time clock of this machine; meaningless on another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BootTime(Duration);

impl Clock {
    /// A clock that stands at `wall_ns` since 1970 until it is advanced.
    pub fn manual(wall_ns: u64) -> Self {
        let clock = ManualClock::default();
        clock.wall_ahead_ns.store(wall_ns, Ordering::Relaxed);
        Self::Manual(Arc::new(clock))
    }

    /// Moves a manual clock; does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(clock) = self {
            clock.boot_ns.fetch_add(whole_ns(by), Ordering::Relaxed);
        }
    }

    /// Sets the wall time of a manual clock ahead, as if no time had passed; does nothing to the
    /// machine's.
    pub fn jump_ahead(&self, by: Duration) {
        if let Self::Manual(clock) = self {
            clock.wall_ahead_ns.fetch_add(whole_ns(by), Ordering::Relaxed);
        }
    }

    /// Sets the wall time of a manual clock back, as if no time had passed; does nothing to the
    /// machine's.
    pub fn jump_back(&self, by: Duration) {
        if let Self::Manual(clock) = self {
            clock.wall_ahead_ns.fetch_sub(whole_ns(by), Ordering::Relaxed);
        }
    }

    /// Both clocks now.
    pub fn read(&self) -> Reading {
        match self {
            Self::System => Reading { wall_ns: self.wall_ns(), boot: self.boot() },
            Self::Manual(clock) => clock.read(),
        }
    }

    /// Nanoseconds since 1970; 0 if the machine's clock stands before that.
    pub fn wall_ns(&self) -> u64 {
        match self {
            Self::System => nanoseconds(clock_gettime(ClockId::Realtime)),
            Self::Manual(clock) => clock.read().wall_ns,
        }
    }

    /// Seconds since 1970.
    pub fn wall_secs(&self) -> u64 {
        self.wall_ns() / 1_000_000_000
    }

    /// Now, on the boot-time clock.
    pub fn boot(&self) -> BootTime {
        BootTime(Duration::from_nanos(match self {
            Self::System => nanoseconds(clock_gettime(ClockId::Boottime)),
            Self::Manual(clock) => clock.boot_ns.load(Ordering::Relaxed),
        }))
    }

    /// Time since `start`; zero if that lies ahead.
    pub fn since(&self, start: BootTime) -> Duration {
        self.boot().since(start)
    }
}

impl ManualClock {
    fn read(&self) -> Reading {
        let boot_ns = self.boot_ns.load(Ordering::Relaxed);
        let wall_ns = boot_ns.wrapping_add(self.wall_ahead_ns.load(Ordering::Relaxed));
        Reading { wall_ns, boot: BootTime(Duration::from_nanos(boot_ns)) }
    }
}

impl BootTime {
    /// Time from `earlier` to this; zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This, `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

fn whole_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(5_000_000_000);
        let start = clock.boot();
        assert_eq!(clock.wall_secs(), 5);
        clock.advance(Duration::from_secs(2));
        assert_eq!((clock.wall_secs(), clock.since(start)), (7, Duration::from_secs(2)));
    }

    #[test]
    fn a_jump_moves_wall_time_alone() {
        let clock = Clock::manual(5_000_000_000);
        clock.advance(Duration::from_secs(1));
        clock.jump_ahead(Duration::from_secs(60));
        clock.jump_back(Duration::from_secs(62));
        let boot = BootTime::default().plus(Duration::from_secs(1));
        assert_eq!(clock.read(), Reading { wall_ns: 4_000_000_000, boot });
        assert_eq!((clock.wall_secs(), clock.boot()), (4, boot));
    }

    #[test]
    fn the_machines_clocks_run() {
        let clock = Clock::default();
        assert!(clock.wall_secs() > 1_700_000_000);
        assert!(clock.boot() > BootTime::default());
    }
}
