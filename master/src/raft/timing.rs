//! How fast this master's Raft is, by how fast its disk syncs.
//!
//! A vote and an entry are durable before they are answered, so an election takes some syncs. With
//! timers that are short beside a sync masters would stand against each other again and again.
//! Measured once at start; a lone master elects nobody and measures nothing.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use dulse_shared::clock::Clock;

/// How often a leader shows itself.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// The shortest silence after which a follower stands for election.
const ELECTION_MIN: Duration = Duration::from_millis(150);
/// The longest.
const ELECTION_MAX: Duration = Duration::from_millis(300);

/// Syncs that are measured: the slowest but one says what happens now and then.
const SYNCS: usize = 20;
/// What a sync writes: a page, as the database does.
const PAGE: [u8; 4096] = [0x64; 4096];
/// A disk whose syncs take no longer than this has the timers above.
const QUICK_SYNC: Duration = Duration::from_millis(30);
/// The timers get longer by this factor at most. A disk that is slower yet needs replacing, and a
/// cluster that elects for ten seconds has no use of it.
const MAX_FACTOR: u32 = 10;
/// The file that is written to and removed.
const PROBE_FILE: &str = "sync-probe";

/// The timers of one master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timing {
    /// How often a leader shows itself.
    pub(super) heartbeat: Duration,
    /// The shortest silence after which a follower stands for election.
    pub(super) election_min: Duration,
    /// The longest. A leader that no quorum answered for this long is not believed in.
    pub(super) election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat: HEARTBEAT, election_min: ELECTION_MIN, election_max: ELECTION_MAX }
    }
}

impl Timing {
    /// The timers for a disk one of whose syncs takes this long now and then.
    pub(super) fn of(sync: Duration) -> Self {
        let factor = sync.as_millis().div_ceil(QUICK_SYNC.as_millis());
        let factor = u32::try_from(factor).unwrap_or(MAX_FACTOR).clamp(1, MAX_FACTOR);
        Self {
            heartbeat: HEARTBEAT * factor,
            election_min: ELECTION_MIN * factor,
            election_max: ELECTION_MAX * factor,
        }
    }

    /// Measures the disk under `dir`, and says so in the log if it is slow. Blocks for 20 syncs.
    pub(super) fn measure(dir: &Path) -> io::Result<Self> {
        let sync = slow_sync(dir)?;
        let timing = Self::of(sync);
        if timing != Self::default() {
            tracing::warn!(
                "a sync in {} takes up to {} ms: elections wait {} to {} ms instead of {} to {} ms, \
                 so that a new leader takes longer to come; put the master's directory on a \
                 quicker disk",
                dir.display(),
                sync.as_millis(),
                timing.election_min.as_millis(),
                timing.election_max.as_millis(),
                ELECTION_MIN.as_millis(),
                ELECTION_MAX.as_millis(),
            );
        }
        Ok(timing)
    }
}

/// The slowest but one of some syncs.
fn slow_sync(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(PROBE_FILE);
    let mut file = File::create(&path)?;
    let clock = Clock::default();
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = clock.boot();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&PAGE)?;
        file.sync_data()?;
        times.push(clock.since(begin));
    }
    std::fs::remove_file(&path)?;
    times.sort();
    Ok(times.iter().rev().nth(1).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_follow_a_slow_disk_up_to_a_limit() {
        let election_max = |ms| Timing::of(Duration::from_millis(ms)).election_max.as_millis();
        assert_eq!((election_max(0), election_max(30)), (300, 300));
        assert_eq!((election_max(31), election_max(90)), (600, 900));
        assert_eq!(election_max(60_000), 3_000);
        for ms in [1, 40, 200, 5_000] {
            let Timing { heartbeat, election_min, election_max } =
                Timing::of(Duration::from_millis(ms));
            assert!(heartbeat * 3 <= election_min && election_min * 2 <= election_max);
        }
    }

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        Timing::measure(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Timing::measure(&dir.path().join("missing")).is_err());
    }
}
