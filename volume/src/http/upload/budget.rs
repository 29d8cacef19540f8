//! The bound on bytes of uploads that are in memory at a time.
//!
//! A body of known length is counted before its first byte is read, another one as it grows.
//! Whoever finds no room waits, for a while.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    size::ByteSize,
    wire::{Code, Problem},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of uploads in memory at a time, unless a single needle may be larger: enough for
/// thousands of small ones or two of the largest by default.
const IN_FLIGHT_BYTES: u64 = 512 << 20;
/// What a body may have beside the needle: the other parts of a form and their headers.
pub(super) const MAX_OVERHEAD_BYTES: u64 = 1 << 20;
/// How long an upload waits for room.
const WAIT: Duration = Duration::from_secs(60);
/// Bytes are counted in units of this, so that the semaphore's numbers suffice.
const UNIT_BYTES: u64 = 1 << 10;
/// A body of unknown length grows by this at least.
const GROWTH_BYTES: u64 = 256 << 10;

/// The bound.
#[derive(Debug)]
pub(in crate::http) struct UploadBudget {
    units: Arc<Semaphore>,
    wait: Duration,
    /// The largest needle, in bytes of data.
    pub(super) max_needle_bytes: u64,
}

impl UploadBudget {
    /// A bound that admits at least one needle of the largest size.
    pub(in crate::http) fn new(max_needle_bytes: u64) -> Self {
        let largest = max_needle_bytes.saturating_add(MAX_OVERHEAD_BYTES);
        let units = IN_FLIGHT_BYTES.max(largest) / UNIT_BYTES;
        let units = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), wait: WAIT, max_needle_bytes }
    }

    /// Room for a body: of `len` bytes, or of a length that shows later.
    pub(super) async fn reserve(&self, len: Option<u64>) -> Result<Reservation<'_>, Problem> {
        let bytes = len.unwrap_or(GROWTH_BYTES);
        let permit = self.acquire(units_of(bytes)).await?;
        Ok(Reservation { budget: self, permit, bytes })
    }

    async fn acquire(&self, units: u32) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(permit) = self.units.clone().try_acquire_many_owned(units) {
            return Ok(permit);
        }
        let waited =
            tokio::time::timeout(self.wait, self.units.clone().acquire_many_owned(units)).await;
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

fn units_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Room whose bytes are somewhere else now; given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Room(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// Room taken by one upload, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reservation<'a> {
    budget: &'a UploadBudget,
    permit: OwnedSemaphorePermit,
    bytes: u64,
}

impl Reservation<'_> {
    /// The room alone, for whoever holds the bytes on.
    pub(in crate::http) fn into_room(self) -> Room {
        Room(self.permit)
    }

    /// Makes it room for `bytes` in all.
    pub(super) async fn grow_to(&mut self, bytes: u64) -> Result<(), Problem> {
        if bytes <= self.bytes {
            return Ok(());
        }
        // In large steps: each may wait.
        let target = bytes.max(self.bytes.saturating_mul(2));
        let more = self.budget.acquire(units_of(target - self.bytes)).await?;
        self.permit.merge(more);
        self.bytes = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uploads_wait_for_room_and_give_up_after_a_while() {
        let mut budget = UploadBudget::new(IN_FLIGHT_BYTES);
        budget.wait = Duration::from_millis(20);
        let all = IN_FLIGHT_BYTES + MAX_OVERHEAD_BYTES;
        let mut held = budget.reserve(Some(all - GROWTH_BYTES)).await.unwrap();
        held.grow_to(all - GROWTH_BYTES).await.unwrap();
        let small = budget.reserve(None).await.unwrap();
        let refused = budget.reserve(Some(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        drop(small);
        budget.reserve(Some(GROWTH_BYTES)).await.unwrap();
        drop(held);
        let mut growing = budget.reserve(None).await.unwrap();
        growing.grow_to(GROWTH_BYTES + 1).await.unwrap();
        assert!(budget.reserve(Some(all - GROWTH_BYTES)).await.is_err(), "it took twice that");
        let room = growing.into_room();
        assert!(budget.reserve(Some(all - GROWTH_BYTES)).await.is_err(), "it is held on");
        drop(room);
        assert!(budget.reserve(Some(all)).await.is_ok());
    }
}
