//! The bounds on what uploads under way take: memory, and room on disks for large ones.
//!
//! A body of known length is counted before its first byte is read, another one as it grows.
//! Whoever finds no room waits, for a while. The two are counted apart, so that small uploads never
//! wait for large ones.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    size::ByteSize,
    wire::{Code, Problem},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::disk::DataDir;

/// An upload up to this is kept in memory: about as much as a large one holds there anyway.
pub(super) const SPOOLED_ABOVE_BYTES: u64 = 1 << 20;
/// Bytes of small uploads in memory at a time: hundreds of the longest, many thousands of usual
/// ones.
const MEMORY_BYTES: u64 = 256 << 20;
/// Bytes of large uploads in spool files at a time, unless a single needle may be larger: eight of
/// the largest by default. They lie in the page cache, which has to hold their copies as well.
const SPOOL_BYTES: u64 = 2 << 30;
/// A large upload counts as this much at least: it holds up to two megabytes of memory however
/// short it is, so 64 at a time are 128 MiB.
const MIN_SPOOL_BYTES: u64 = 32 << 20;
/// What a body may have beside the needle: the other parts of a form and their headers.
pub(super) const MAX_OVERHEAD_BYTES: u64 = 1 << 20;
/// How long an upload waits for room.
const WAIT: Duration = Duration::from_secs(60);
/// Bytes are counted in units of this, so that the semaphore's numbers suffice.
const UNIT_BYTES: u64 = 1 << 10;
/// A body of unknown length grows by this at least.
const GROWTH_BYTES: u64 = 256 << 10;

/// The bounds.
#[derive(Debug)]
pub(in crate::http) struct UploadBudget {
    memory: Arc<Semaphore>,
    spool: Arc<Semaphore>,
    wait: Duration,
    /// The largest needle, in bytes of data.
    pub(super) max_needle_bytes: u64,
}

impl UploadBudget {
    /// Bounds that admit at least one needle of the largest size.
    pub(in crate::http) fn new(max_needle_bytes: u64) -> Self {
        let largest = max_needle_bytes.saturating_add(MAX_OVERHEAD_BYTES);
        Self {
            memory: semaphore(MEMORY_BYTES),
            spool: semaphore(SPOOL_BYTES.max(largest)),
            wait: WAIT,
            max_needle_bytes,
        }
    }

    /// Room for a body: of `len` bytes, or of a length that shows later. A large one will lie in
    /// `dir`.
    pub(super) async fn reserve<'a>(
        &'a self,
        len: Option<u64>,
        dir: &'a DataDir,
    ) -> Result<Reservation<'a>, Problem> {
        let room = Room { memory: None, spool: None };
        let mut reservation = Reservation { budget: self, dir, room, bytes: 0 };
        reservation.grow_to(len.unwrap_or(GROWTH_BYTES).max(1)).await?;
        Ok(reservation)
    }

    async fn acquire(
        &self,
        from: &Arc<Semaphore>,
        bytes: u64,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if let Ok(permit) = from.clone().try_acquire_many_owned(units) {
            return Ok(permit);
        }
        let waited = tokio::time::timeout(self.wait, from.clone().acquire_many_owned(units)).await;
        waited.ok().and_then(Result::ok).ok_or_else(|| {
            let text =
                "too many uploads are under way on this server; nothing was stored: try again";
            Problem::new(Code::Overloaded, text)
        })
    }

    /// The answer to a needle that is too large.
    pub(super) fn too_large(&self) -> Problem {
        let text = format!(
            "a needle has at most {}: store larger files in chunks, as `dulse put` does",
            ByteSize(self.max_needle_bytes)
        );
        Problem::new(Code::TooLarge, text)
    }
}

fn semaphore(bytes: u64) -> Arc<Semaphore> {
    let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
}

/// A large upload is on the disk twice until it is stored.
fn check_disk(dir: &DataDir, bytes: u64) -> Result<(), Problem> {
    if dir.has_room_for(bytes.saturating_mul(2)) {
        return Ok(());
    }
    let text = format!(
        "the disk of {} is too short of room for an upload of this length; nothing was stored: \
         free space or ask the master for another fid",
        dir.path().display()
    );
    Err(Problem::new(Code::VolumeFull, text))
}

/// Room whose bytes are somewhere else now; given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Room {
    memory: Option<OwnedSemaphorePermit>,
    spool: Option<OwnedSemaphorePermit>,
}

/// Room taken by one upload, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reservation<'a> {
    budget: &'a UploadBudget,
    dir: &'a DataDir,
    room: Room,
    bytes: u64,
}

impl Reservation<'_> {
    /// The room alone, for whoever holds the bytes on.
    pub(in crate::http) fn into_room(self) -> Room {
        self.room
    }

    /// Makes it room for `bytes` in all.
    pub(super) async fn grow_to(&mut self, bytes: u64) -> Result<(), Problem> {
        if bytes <= self.bytes {
            return Ok(());
        }
        // In large steps: each may wait.
        let doubled = bytes.max(self.bytes.saturating_mul(2));
        if bytes <= SPOOLED_ABOVE_BYTES {
            let target = doubled.min(SPOOLED_ABOVE_BYTES);
            let more = self.budget.acquire(&self.budget.memory, target - self.bytes).await?;
            merge(&mut self.room.memory, more);
            self.bytes = target;
            return Ok(());
        }
        check_disk(self.dir, bytes)?;
        let target = doubled.max(MIN_SPOOL_BYTES);
        let held = if self.room.spool.is_some() { self.bytes } else { 0 };
        let more = self.budget.acquire(&self.budget.spool, target - held).await?;
        merge(&mut self.room.spool, more);
        self.bytes = target;
        Ok(())
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_dir::test_dir, *};

    fn impatient() -> UploadBudget {
        UploadBudget { wait: Duration::from_millis(20), ..UploadBudget::new(SPOOL_BYTES) }
    }

    #[tokio::test]
    async fn uploads_wait_for_room_and_give_up_after_a_while() {
        let (_, dir) = test_dir();
        let budget = impatient();
        let all = SPOOL_BYTES + MAX_OVERHEAD_BYTES;
        let held = budget.reserve(Some(all - MIN_SPOOL_BYTES), &dir).await.unwrap();
        let short = budget.reserve(Some(SPOOLED_ABOVE_BYTES + 1), &dir).await.unwrap();
        let refused = budget.reserve(Some(SPOOLED_ABOVE_BYTES + 1), &dir).await.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        drop(short);
        let room = held.into_room();
        let mut growing = budget.reserve(None, &dir).await.unwrap();
        growing.grow_to(MIN_SPOOL_BYTES).await.unwrap();
        assert!(growing.grow_to(MIN_SPOOL_BYTES + 1).await.is_err(), "the other one is held on");
        drop(room);
        growing.grow_to(MIN_SPOOL_BYTES + 1).await.unwrap();
        assert!(
            budget.reserve(Some(all - MIN_SPOOL_BYTES), &dir).await.is_err(),
            "it took twice that"
        );
        drop(growing);
        assert!(budget.reserve(Some(all), &dir).await.is_ok());
    }

    #[tokio::test]
    async fn small_uploads_are_counted_apart_from_large_ones() {
        let (_, dir) = test_dir();
        let budget = impatient();
        let _large = budget.reserve(Some(SPOOL_BYTES + MAX_OVERHEAD_BYTES), &dir).await.unwrap();
        let mut small = Vec::new();
        for _ in 0..MEMORY_BYTES / SPOOLED_ABOVE_BYTES {
            small.push(budget.reserve(Some(SPOOLED_ABOVE_BYTES), &dir).await.unwrap());
        }
        assert!(budget.reserve(Some(1), &dir).await.is_err());
        small.pop();
        budget.reserve(Some(SPOOLED_ABOVE_BYTES), &dir).await.unwrap();
    }

    #[tokio::test]
    async fn a_large_upload_needs_room_for_two_copies_above_the_second_mark() {
        let (disk, dir) = test_dir();
        let budget = UploadBudget::new(SPOOL_BYTES);
        // The second mark is a quarter of the first, which is 4 MiB.
        disk.limit_free_bytes(9 << 20);
        dir.measure(&dulse_shared::clock::Clock::System);
        assert!(budget.reserve(Some(4 << 20), &dir).await.is_ok());
        let refused = budget.reserve(Some((4 << 20) + 1), &dir).await.unwrap_err();
        assert_eq!(refused.code, Code::VolumeFull);
    }
}
