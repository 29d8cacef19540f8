//! The bounds on what uploads under way take: memory, and room on disks for large ones.
//!
//! A body of known length is counted before its first byte is read. One of unknown length is
//! counted as long as a small one may be, and once it outgrows that as long as any may be: nobody
//! who holds room waits for more of the same, so no two uploads wait for each other. Whoever finds
//! no room waits, for a while. The two are counted apart, so that small uploads never wait for
//! large ones.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    net::incoming::PATIENCE,
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
/// the largest by default, and so many of unknown length. They lie in the page cache, which has to
/// hold their copies as well.
const SPOOL_BYTES: u64 = 2 << 30;
/// A large upload counts as this much at least: it holds up to two megabytes of memory however
/// short it is, so 64 at a time are 128 MiB.
const MIN_SPOOL_BYTES: u64 = 32 << 20;
/// What a body may have beside the needle: the other parts of a form and their headers.
pub(super) const MAX_OVERHEAD_BYTES: u64 = 1 << 20;
/// Uploads that outgrew memory and wait for room on a disk with their first megabyte still in it:
/// a quarter of the memory, so that small uploads keep the rest. One more is refused at once.
const MAX_OUTGROWN: usize = 64;
/// How long an upload waits for room.
const WAIT: Duration = Duration::from_secs(60);
/// Bytes are counted in units of this, so that the semaphore's numbers suffice.
const UNIT_BYTES: u64 = 1 << 10;

/// The bounds.
#[derive(Debug)]
pub(in crate::http) struct UploadBudget {
    memory: Arc<Semaphore>,
    spool: Arc<Semaphore>,
    outgrown: Semaphore,
    wait: Duration,
    /// The largest needle, in bytes of data.
    pub(super) max_needle_bytes: u64,
    /// How far a sender may fall behind the lowest speed.
    pub(super) patience: Duration,
}

impl UploadBudget {
    /// Bounds that admit at least one needle of the largest size.
    pub(in crate::http) fn new(max_needle_bytes: u64) -> Self {
        let largest = max_needle_bytes.saturating_add(MAX_OVERHEAD_BYTES);
        Self {
            memory: semaphore(MEMORY_BYTES),
            spool: semaphore(SPOOL_BYTES.max(largest)),
            outgrown: Semaphore::new(MAX_OUTGROWN),
            wait: WAIT,
            max_needle_bytes,
            patience: PATIENCE,
        }
    }

    /// Room for a body: of `len` bytes, or of a length that shows later. A large one will lie in
    /// `dir`.
    pub(super) async fn reserve<'a>(
        &'a self,
        len: Option<u64>,
        dir: &'a DataDir,
    ) -> Result<Reservation<'a>, Problem> {
        let admitted_bytes = len.unwrap_or(SPOOLED_ABOVE_BYTES);
        let room = if admitted_bytes <= SPOOLED_ABOVE_BYTES {
            Room(self.acquire(&self.memory, admitted_bytes.max(1)).await?)
        } else {
            // It is on the disk twice until it is stored.
            check_disk(dir, admitted_bytes.saturating_mul(2))?;
            self.spool_room(admitted_bytes).await?
        };
        Ok(Reservation { budget: self, dir, room, admitted_bytes, is_open_ended: len.is_none() })
    }

    async fn spool_room(&self, bytes: u64) -> Result<Room, Problem> {
        self.acquire(&self.spool, bytes.max(MIN_SPOOL_BYTES)).await.map(Room)
    }

    async fn acquire(
        &self,
        from: &Arc<Semaphore>,
        bytes: u64,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        let units = units(bytes);
        if let Ok(permit) = from.clone().try_acquire_many_owned(units) {
            return Ok(permit);
        }
        let waited = tokio::time::timeout(self.wait, from.clone().acquire_many_owned(units)).await;
        waited.ok().and_then(Result::ok).ok_or_else(too_many)
    }

    #[cfg(test)]
    pub(super) fn free_memory(&self) -> usize {
        self.memory.available_permits()
    }

    /// The answer to a needle that is too large.
    pub(super) fn too_large(&self) -> Problem {
        let text = format!(
            "a needle has at most {}, and no setting raises that: split the file and store its \
             parts; nothing was stored",
            ByteSize(self.max_needle_bytes)
        );
        Problem::new(Code::TooLarge, text)
    }
}

fn too_many() -> Problem {
    let text = "too many uploads are under way on this server; nothing was stored: try again";
    Problem::new(Code::Overloaded, text)
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

fn semaphore(bytes: u64) -> Arc<Semaphore> {
    let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
}

fn check_disk(dir: &DataDir, bytes: u64) -> Result<(), Problem> {
    if dir.has_room_for(bytes) {
        return Ok(());
    }
    let text = format!(
        "the disk of {} is too short of room for an upload of this length; nothing was stored: \
         free space or ask the master for another fid",
        dir.path().display()
    );
    Err(Problem::new(Code::VolumeFull, text))
}

/// Room in memory or in spool files, whose bytes are somewhere else now; given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Room(OwnedSemaphorePermit);

/// Room taken by one upload, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reservation<'a> {
    budget: &'a UploadBudget,
    dir: &'a DataDir,
    /// In memory for up to a megabyte of data, else in spool files.
    room: Room,
    /// Bytes of data that the room is enough for; the room itself may count more.
    admitted_bytes: u64,
    /// Nobody said how long it will be.
    is_open_ended: bool,
}

impl Reservation<'_> {
    /// The room alone, for whoever holds the bytes on.
    pub(in crate::http) fn into_room(self) -> Room {
        self.room
    }

    /// Makes it room for `bytes` of data in all, if a needle may have so many. It is asked before
    /// each chunk is kept.
    pub(super) async fn grow_to(&mut self, bytes: u64) -> Result<(), Problem> {
        let at_most = self.budget.max_needle_bytes;
        if bytes > at_most {
            return Err(self.budget.too_large());
        }
        if self.is_open_ended && bytes > SPOOLED_ABOVE_BYTES {
            // What is in the spool file has its room; the volume's copy will need as much again.
            check_disk(self.dir, bytes)?;
        }
        if bytes <= self.admitted_bytes {
            return Ok(());
        }
        // All it may ever need: if each took as it grew, several would hold half of what they need
        // and wait for each other until all are given up.
        let Ok(_outgrown) = self.budget.outgrown.try_acquire() else {
            return Err(too_many());
        };
        // The room in memory is given back, which its bytes are about to leave.
        self.room = self.budget.spool_room(at_most).await?;
        self.admitted_bytes = at_most;
        Ok(())
    }

    /// Gives back what is not needed: the whole of the data is here.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let least = if self.admitted_bytes > SPOOLED_ABOVE_BYTES { MIN_SPOOL_BYTES } else { 1 };
        let Room(permit) = &mut self.room;
        let surplus = permit.num_permits().saturating_sub(units(bytes.max(least)) as usize);
        drop(permit.split(surplus));
        self.admitted_bytes = self.admitted_bytes.min(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_dir::test_dir, *};

    fn impatient() -> UploadBudget {
        UploadBudget { wait: Duration::from_millis(20), ..UploadBudget::new(SPOOL_BYTES) }
    }

    const LONG: Option<u64> = Some(SPOOLED_ABOVE_BYTES + 1);

    #[tokio::test]
    async fn uploads_wait_for_room_and_give_up_after_a_while() {
        let (_, dir) = test_dir();
        let budget = impatient();
        let all = SPOOL_BYTES + MAX_OVERHEAD_BYTES;
        let held = budget.reserve(Some(all - MIN_SPOOL_BYTES), &dir).await.unwrap();
        let short = budget.reserve(LONG, &dir).await.unwrap();
        let refused = budget.reserve(LONG, &dir).await.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        drop(short);
        let room = held.into_room();
        budget.reserve(LONG, &dir).await.unwrap();
        assert!(budget.reserve(Some(all), &dir).await.is_err(), "the other one is held on");
        drop(room);
        assert!(budget.reserve(Some(all), &dir).await.is_ok());
    }

    /// A body of unknown length that has come to be `bytes` long.
    async fn grown<'a>(
        budget: &'a UploadBudget,
        dir: &'a DataDir,
        bytes: u64,
    ) -> Result<Reservation<'a>, Problem> {
        let mut growing = budget.reserve(None, dir).await?;
        growing.grow_to(bytes).await?;
        Ok(growing)
    }

    #[tokio::test]
    async fn an_upload_that_outgrew_memory_gives_it_back_and_takes_all_it_may_need() {
        let (_, dir) = test_dir();
        let largest = SPOOL_BYTES / 8;
        let budget = UploadBudget { wait: Duration::from_millis(20), ..UploadBudget::new(largest) };
        let all = budget.memory.available_permits();
        let mut eight = Vec::new();
        for _ in 0..8 {
            eight.push(grown(&budget, &dir, SPOOLED_ABOVE_BYTES + 1).await.unwrap());
        }
        assert_eq!(budget.memory.available_permits(), all);
        let ninth = grown(&budget, &dir, SPOOLED_ABOVE_BYTES + 1).await.unwrap_err();
        assert_eq!(ninth.code, Code::Overloaded);
        for upload in &mut eight {
            upload.grow_to(largest).await.unwrap();
        }
        eight[0].shrink_to(SPOOLED_ABOVE_BYTES + 1);
        budget.reserve(Some(largest - MIN_SPOOL_BYTES), &dir).await.unwrap();
        drop(eight);
        let mut small = grown(&budget, &dir, 3).await.unwrap();
        small.shrink_to(3);
        assert_eq!(budget.memory.available_permits(), all - 1);
    }

    #[tokio::test]
    async fn uploads_that_wait_for_a_disk_leave_memory_to_small_ones() {
        let (_, dir) = test_dir();
        let budget = UploadBudget::new(SPOOL_BYTES);
        let _all = budget.reserve(Some(SPOOL_BYTES + MAX_OVERHEAD_BYTES), &dir).await.unwrap();
        let waiting = (0..MAX_OUTGROWN).map(|_| grown(&budget, &dir, SPOOLED_ABOVE_BYTES + 1));
        let waiting = futures_util::future::join_all(waiting);
        let others = async {
            // Before anything else could end: one more is refused at once.
            let refused = grown(&budget, &dir, SPOOLED_ABOVE_BYTES + 1).await.unwrap_err();
            assert_eq!(refused.code, Code::Overloaded);
            for _ in 0..MEMORY_BYTES / SPOOLED_ABOVE_BYTES - MAX_OUTGROWN as u64 {
                std::mem::forget(budget.reserve(Some(SPOOLED_ABOVE_BYTES), &dir).await.unwrap());
            }
        };
        tokio::select! {
            biased;
            _ = waiting => panic!("there is no room on the disk"),
            () = others => {}
        }
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
        let mut growing = budget.reserve(None, &dir).await.unwrap();
        growing.grow_to(8 << 20).await.unwrap();
        assert_eq!(growing.grow_to((8 << 20) + 1).await.unwrap_err().code, Code::VolumeFull);
    }
}
