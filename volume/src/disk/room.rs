//! The room of a disk, between two measurements of it.
//!
//! It is measured twice a second, in which a fast disk takes gigabytes. So what is written since is
//! counted against what was free, and what a measurement may have seen or not is counted once more:
//! the room is never overestimated. Directories on one disk share a count.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::file::Room;

/// What is known of a disk's room.
#[derive(Debug, Default)]
pub(super) struct DiskRoom {
    total_bytes: AtomicU64,
    measured_free_bytes: AtomicU64,
    /// Written, or about to be, since the last measurement began.
    taken_bytes: AtomicU64,
    /// One measurement at a time.
    measuring: Mutex<()>,
}

impl DiskRoom {
    /// Takes in what `look` finds, if it finds anything.
    pub(super) fn measure(&self, look: impl FnOnce() -> io::Result<Room>) -> io::Result<Room> {
        let _measuring = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.taken_bytes.load(Ordering::Acquire);
        let room = look()?;
        self.total_bytes.store(room.total_bytes, Ordering::Relaxed);
        self.measured_free_bytes.store(room.free_bytes, Ordering::Release);
        self.taken_bytes.fetch_sub(before, Ordering::AcqRel);
        Ok(room)
    }

    /// Size of the disk.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// What is free at least.
    pub(super) fn free_bytes(&self) -> u64 {
        let taken = self.taken_bytes.load(Ordering::Acquire);
        self.measured_free_bytes.load(Ordering::Acquire).saturating_sub(taken)
    }

    /// Counts `bytes` as written.
    pub(super) fn take(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts `bytes` as written if `kept_bytes` stay free after them.
    pub(super) fn try_take(&self, bytes: u64, kept_bytes: u64) -> bool {
        let count = |taken: u64| {
            let taken = taken.saturating_add(bytes);
            let free = self.measured_free_bytes.load(Ordering::Acquire);
            (taken.saturating_add(kept_bytes) <= free).then_some(taken)
        };
        self.taken_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, count).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(free_bytes: u64) -> DiskRoom {
        let room = DiskRoom::default();
        let found = Room { total_bytes: 1000, free_bytes, ..Room::default() };
        room.measure(|| Ok(found)).unwrap();
        room
    }

    #[test]
    fn what_was_written_since_the_measurement_is_not_free() {
        let room = measured(100);
        assert!(room.try_take(60, 20));
        assert_eq!(room.free_bytes(), 40);
        assert!(!room.try_take(21, 20), "it would leave 19");
        assert_eq!(room.free_bytes(), 40, "what was refused is not counted");
        assert!(room.try_take(20, 20));
        room.take(50);
        assert_eq!(room.free_bytes(), 0);
    }

    #[test]
    fn a_measurement_forgets_only_what_was_written_before_it_began() {
        let room = measured(100);
        room.take(30);
        let found = Room { total_bytes: 1000, free_bytes: 70, ..Room::default() };
        let looked = room.measure(|| {
            room.take(5);
            Ok(found)
        });
        looked.unwrap();
        assert_eq!(room.free_bytes(), 65);
        room.measure(|| Err(io::ErrorKind::Other.into())).unwrap_err();
        assert_eq!(room.free_bytes(), 65);
    }
}
