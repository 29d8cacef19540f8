//! Needle keys handed out from memory, without asking the other masters each time.
//!
//! Invariant: a key is handed out at most once in the life of the cluster, whatever clocks, pauses
//! or mistaken leaders do. A range comes from a `GrantKeys` that this master itself committed, is
//! used in the term in which it was committed and no other, and is never written down: what is
//! left of it when the process or the term ends is lost, as is a range whose grant was committed
//! but not heard of. Keys are 64 bits wide; grants are small all the same, because some clients
//! can only handle keys below 2³².

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dulse_shared::{
    clock::{BootTime, Clock},
    net::tasks::Tasks,
};
use tokio::sync::{Mutex, Notify};

use crate::{
    cluster_state::{Command, Outcome, Refusal},
    raft::{ProposeError, Raft},
};

/// What a range holds at first: seconds of assigns, and little to lose at a restart.
const FIRST_GRANT: u64 = 10_000;
/// What a range holds at most when keys go fast, and the most that one caller can have.
pub const MAX_GRANT: u64 = 1 << 20;
/// A grant that lasted less than this is followed by one twice as large.
const FAST: Duration = Duration::from_secs(10);
/// A grant that lasted longer than this is followed by one half as large.
const SLOW: Duration = Duration::from_secs(100);
/// A key at most this far above all granted ones was invented by a client that counts on; keys
/// go on above it. One further away is an accident, and would waste most of the key space.
const MAX_JUMP: u64 = 1 << 24;
/// Waiting for keys takes no longer than this; the callers ahead may each wait for a grant.
const DRAW_LIMIT: Duration = Duration::from_secs(5);
/// Fresh ranges that others may snatch away before a caller gives up.
const DRAW_TRIES: u32 = 4;
/// After a grant failed in the background, the next is tried this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// Hands out needle keys while this master leads. Cheap to clone; all clones share the range.
#[derive(Clone, Debug)]
pub struct KeyRange {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    raft: Raft,
    clock: Clock,
    range: RwLock<Option<Range>>,
    /// Keys below this were seen on volume servers.
    at_least: AtomicU64,
    /// Rung when the range runs low.
    low: Notify,
    /// Held by whoever asks for the next grant, so that one is asked for at a time.
    pace: Mutex<Pace>,
}

/// Why there are no keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DrawError {
    /// They could not be granted.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The cluster has none left.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More than are given at once.
    #[error("{count} keys are too many: at most {MAX_GRANT} are given at once")]
    TooMany {
        /// What was asked for.
        count: u64,
    },
}

impl KeyRange {
    /// An empty range that fills itself, in one of `tasks`, as soon as this master leads.
    pub fn start(raft: Raft, clock: Clock, tasks: &Tasks) -> Self {
        let inner = Inner {
            raft,
            clock,
            range: RwLock::new(None),
            at_least: AtomicU64::new(0),
            low: Notify::new(),
            pace: Mutex::new(Pace::default()),
        };
        let keys = Self { inner: Arc::new(inner) };
        let (filling, stop) = (keys.clone(), tasks.clone());
        tasks.spawn("key range", async move {
            tokio::select! {
                () = filling.keep_filled() => {}
                () = stop.stopped() => {}
            }
        });
        keys
    }

    /// The first of `count` consecutive keys that are nobody else's. None when this master does
    /// not lead for certain, or the range has run out; [`KeyRange::draw`] then says which.
    pub fn take(&self, count: u64) -> Option<u64> {
        let term = self.inner.raft.confirmed_term()?;
        let taken = self.with_range(|range| {
            let range = range.filter(|range| range.term == term)?;
            let first = range.take(count, self.inner.at_least.load(Ordering::Relaxed))?;
            Some((first, range.is_low()))
        });
        if taken.is_none_or(|(_, is_low)| is_low) {
            self.inner.low.notify_one();
        }
        taken.map(|(first, _)| first)
    }

    /// The same, and waits for the next range when this one has run out.
    pub async fn draw(&self, count: u64) -> Result<u64, DrawError> {
        if let Some(first) = self.take(count) {
            return Ok(first);
        }
        if count > MAX_GRANT {
            return Err(DrawError::TooMany { count });
        }
        let drawn = tokio::time::timeout(DRAW_LIMIT, self.draw_in_turn(count)).await;
        drawn.unwrap_or_else(|_| {
            let reason = format!("no keys were granted within {} s", DRAW_LIMIT.as_secs());
            Err(ProposeError::Unknown { reason }.into())
        })
    }

    async fn draw_in_turn(&self, count: u64) -> Result<u64, DrawError> {
        let mut pace = self.inner.pace.lock().await;
        for _ in 0..DRAW_TRIES {
            if let Some(first) = self.take(count) {
                return Ok(first);
            }
            self.grant(&mut pace, count).await?;
        }
        let leader = self.inner.raft.leadership().leader;
        Err(ProposeError::NotLeader { leader }.into())
    }

    /// Keeps all keys handed out from now on above `key`, which a volume server has on its disk.
    /// `false` when it is too far above the granted ones to be followed.
    pub fn keep_above(&self, key: u64) -> bool {
        let granted = self.inner.raft.read(|state| state.next_key);
        if key > granted.saturating_add(MAX_JUMP) {
            return false;
        }
        let at_least = key.saturating_add(1);
        self.inner.at_least.fetch_max(at_least, Ordering::Relaxed);
        true
    }

    /// Asks for the next range ahead of need, for ever.
    async fn keep_filled(&self) {
        let raft = &self.inner.raft;
        loop {
            let term = raft.confirmed_term();
            if term.is_some_and(|term| self.is_low(term)) {
                let mut pace = self.inner.pace.lock().await;
                // Somebody may have filled it while this waited for its turn.
                if term.is_some_and(|term| self.is_low(term))
                    && let Err(error) = self.grant(&mut pace, 0).await
                {
                    tracing::warn!("cannot get needle keys: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
            tokio::select! {
                () = self.inner.low.notified() => {}
                runs = raft.leadership_changed(term) => if !runs { return },
            }
        }
    }

    fn is_low(&self, term: u64) -> bool {
        self.with_range(|range| range.filter(|range| range.term == term).is_none_or(Range::is_low))
    }

    /// Commits a grant of at least `count` keys and puts them into the range.
    async fn grant(&self, pace: &mut Pace, count: u64) -> Result<(), DrawError> {
        let raft = &self.inner.raft;
        if raft.confirmed_term().is_none() {
            let leader = raft.leadership().leader;
            return Err(ProposeError::NotLeader { leader }.into());
        }
        let count = pace.next(self.inner.clock.boot()).max(count);
        let at_least = self.inner.at_least.load(Ordering::Relaxed);
        let command = Command::GrantKeys { count, at_least };
        match raft.propose_in_term(command).await? {
            (Outcome::Keys { first, count }, term) => {
                self.put(Range::new(term, first, count));
                Ok(())
            }
            (Outcome::Refused { refusal }, _) => Err(refusal.into()),
            (other, _) => Err(DrawError::Propose(ProposeError::Unknown {
                reason: format!("granting keys gave {other:?}"),
            })),
        }
    }

    /// Adds to the range if the new one continues it, so that nothing is lost, else replaces it.
    fn put(&self, granted: Range) {
        let mut range = self.inner.range.write().unwrap_or_else(PoisonError::into_inner);
        match range.as_mut() {
            Some(range) if range.continues_with(&granted) => {
                range.end = granted.end;
                range.low = granted.low;
            }
            _ => *range = Some(granted),
        }
    }

    fn with_range<R>(&self, look: impl FnOnce(Option<&Range>) -> R) -> R {
        let range = self.inner.range.read().unwrap_or_else(PoisonError::into_inner);
        look(range.as_ref())
    }
}

/// Keys of one or more grants of one term.
#[derive(Debug)]
struct Range {
    term: u64,
    /// The next to be handed out.
    next: AtomicU64,
    /// One past the last.
    end: u64,
    /// Past this it is time for another grant: half of the last one is left.
    low: u64,
}

impl Range {
    fn new(term: u64, first: u64, count: u64) -> Self {
        let end = first.saturating_add(count);
        Self { term, next: AtomicU64::new(first), end, low: end.saturating_sub(count / 2) }
    }

    /// The first of `count` keys, none of them below `at_least`.
    fn take(&self, count: u64, at_least: u64) -> Option<u64> {
        let after = |next: u64| {
            let end = next.max(at_least).checked_add(count)?;
            (count > 0 && end <= self.end).then_some(end)
        };
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        taken.ok().map(|next| next.max(at_least))
    }

    fn is_low(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.low
    }

    fn continues_with(&self, other: &Self) -> bool {
        self.term == other.term && self.end == other.next.load(Ordering::Relaxed)
    }
}

/// How large grants are: more while they go fast, fewer again when they do not.
#[derive(Debug)]
struct Pace {
    size: u64,
    granted_at: Option<BootTime>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: FIRST_GRANT, granted_at: None }
    }
}

impl Pace {
    /// The size of the grant asked for at `now`.
    fn next(&mut self, now: BootTime) -> u64 {
        if let Some(granted_at) = self.granted_at {
            let lasted = now.since(granted_at);
            if lasted < FAST {
                self.size = (self.size * 2).min(MAX_GRANT);
            } else if lasted > SLOW {
                self.size = (self.size / 2).max(FIRST_GRANT);
            }
        }
        self.granted_at = Some(now);
        self.size
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dulse_shared::net::peer::PeerClient;
    use futures_util::FutureExt;

    use super::*;
    use crate::raft::RaftConfig;

    #[test]
    fn a_range_hands_out_each_key_once_and_none_below_what_was_seen() {
        let range = Range::new(1, 100, 20);
        assert_eq!(range.take(5, 0), Some(100));
        assert_eq!(range.take(1, 0), Some(105));
        assert_eq!(range.take(2, 110), Some(110));
        assert_eq!(range.take(9, 110), None, "120 is not its key");
        assert_eq!(range.take(0, 0), None);
        assert_eq!(range.take(8, 0), Some(112));
        assert_eq!(range.take(1, 0), None);
        assert_eq!(Range::new(1, 1, 9).take(1, u64::MAX), None);
    }

    #[test]
    fn a_range_is_low_when_half_of_the_last_grant_is_left() {
        let range = Range::new(1, 1, 10);
        range.take(4, 0);
        assert!(!range.is_low());
        range.take(1, 0);
        assert!(range.is_low());
    }

    #[test]
    fn grants_grow_while_they_go_fast_and_shrink_again() {
        let clock = Clock::manual(0);
        let mut pace = Pace::default();
        assert_eq!(pace.next(clock.boot()), FIRST_GRANT);
        assert_eq!(pace.next(clock.boot()), 2 * FIRST_GRANT);
        clock.advance(FAST);
        assert_eq!(pace.next(clock.boot()), 2 * FIRST_GRANT);
        for _ in 0..20 {
            assert!(pace.next(clock.boot()) <= MAX_GRANT);
        }
        assert_eq!(pace.next(clock.boot()), MAX_GRANT);
        for _ in 0..20 {
            clock.advance(SLOW + FAST);
            pace.next(clock.boot());
        }
        assert_eq!(pace.size, FIRST_GRANT);
    }

    struct Master {
        _dir: tempfile::TempDir,
        raft: Raft,
        keys: KeyRange,
        tasks: Tasks,
    }

    impl Master {
        async fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let tasks = Tasks::new();
            let config = RaftConfig {
                dir: dir.path().to_owned(),
                address: "127.0.0.1:9333".parse().unwrap(),
                peers: Vec::new(),
                client: PeerClient::new(None),
                beside: None,
            };
            let raft = Raft::start(config, &tasks).await.unwrap();
            let keys = KeyRange::start(raft.clone(), Clock::default(), &tasks);
            Self { _dir: dir, raft, keys, tasks }
        }

        async fn stop(self) {
            self.tasks.stop();
            assert!(self.tasks.drain(DRAW_LIMIT).await);
            self.raft.stop().await;
            assert_eq!(self.keys.take(1), None);
            assert!(self.keys.draw(1).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_new_leader_fills_its_range_before_anybody_asks() {
        let master = Master::start().await;
        while master.keys.take(1).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(master.raft.read(|state| state.next_key), FIRST_GRANT + 1);
        master.stop().await;
    }

    #[tokio::test]
    async fn the_next_grant_comes_before_the_range_has_run_out_and_no_key_is_lost() {
        let master = Master::start().await;
        assert_eq!(master.keys.draw(1).await, Ok(1));
        let half = FIRST_GRANT / 2;
        assert_eq!(master.keys.take(half), Some(2));
        let applied = master.raft.applied();
        master.raft.applied_after(applied - 1).await;
        while master.raft.read(|state| state.next_key) == FIRST_GRANT + 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let first = loop {
            // Spans the old grant's end and the new one's beginning.
            if let Some(first) = master.keys.take(FIRST_GRANT) {
                break first;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(first, half + 2);
        master.stop().await;
    }

    #[tokio::test]
    async fn many_callers_at_once_never_get_a_key_twice() {
        let master = Master::start().await;
        let caller = |n: u64| {
            let keys = master.keys.clone();
            async move {
                let mut taken = Vec::new();
                for round in 0..400 {
                    let count = 1 + (n * 7 + round) % 90;
                    let first = keys.draw(count).await.unwrap();
                    taken.extend(first..first + count);
                    tokio::task::yield_now().await;
                }
                taken
            }
        };
        let taken = futures_util::future::join_all((0..8).map(caller)).await;
        let taken: Vec<u64> = taken.into_iter().flatten().collect();
        let distinct: BTreeSet<u64> = taken.iter().copied().collect();
        assert_eq!(distinct.len(), taken.len());
        assert!(taken.len() > 4 * usize::try_from(FIRST_GRANT).unwrap());
        master.stop().await;
    }

    #[tokio::test]
    async fn a_grant_that_nobody_hears_of_is_lost_and_not_granted_again() {
        let master = Master::start().await;
        let first = master.keys.draw(1).await.unwrap();
        let before = master.raft.read(|state| state.next_key);
        while master.raft.read(|state| state.next_key) == before {
            // Gone after it proposed, before it could hear of it.
            assert_eq!(master.keys.draw(MAX_GRANT).now_or_never(), None);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let next = master.keys.draw(FIRST_GRANT).await.unwrap();
        assert_eq!(first, 1);
        assert!(next > before && (next - before).is_multiple_of(MAX_GRANT));
        master.stop().await;
    }

    #[tokio::test]
    async fn keys_go_on_above_one_that_a_client_invented_unless_it_is_far_away() {
        let master = Master::start().await;
        assert_eq!(master.keys.draw(1).await, Ok(1));
        assert!(master.keys.keep_above(5_000));
        assert_eq!(master.keys.draw(1).await, Ok(5_001));
        assert!(master.keys.keep_above(3_000));
        assert!(master.keys.keep_above(1_000_000));
        assert!(!master.keys.keep_above(1 << 40));
        assert_eq!(master.keys.draw(1).await, Ok(1_000_001));
        master.stop().await;
    }

    #[tokio::test]
    async fn a_range_of_another_term_is_not_used() {
        let master = Master::start().await;
        let first = master.keys.draw(1).await.unwrap();
        let term = master.raft.leadership().term;
        master.keys.put(Range::new(term - 1, 1_000_000, 10));
        assert_eq!(master.keys.take(1), None);
        let next = master.keys.draw(1).await.unwrap();
        assert!(next > first && next < 1_000_000);
        master.stop().await;
    }

    #[tokio::test]
    async fn more_keys_than_a_grant_holds_are_refused() {
        let master = Master::start().await;
        let many = master.keys.draw(MAX_GRANT).await.unwrap();
        assert!(many > 0);
        let count = MAX_GRANT + 1;
        let error = master.keys.draw(count).await.unwrap_err();
        assert_eq!(error, DrawError::TooMany { count });
        master.stop().await;
    }
}
