//! Compaction: what it keeps, what it drops, and what it never loses.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use dulse_shared::{clock::Clock, wire::LocalState};
use dulse_volume::{
    disk::simulated::{EIO, Fault, Operation, SimulatedDisk},
    engine::{
        compaction::{Compacted, CompactionError, Pace},
        write::Write,
    },
    format::{CURRENT_VERSION, NewNeedle, record_len},
    needle_data::NeedleData,
};

use crate::harness::{COOKIE, NOW_NS, Rig, key, needle, opener_at, read_of};

/// Does something at each pause.
pub struct Pauses<F>(pub F);

impl<F: FnMut() -> ControlFlow<()>> Pace for Pauses<F> {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        (self.0)()
    }
}

pub fn compact(rig: &Rig) -> Result<Compacted, CompactionError> {
    rig.volume.compact(&mut Pauses(|| ControlFlow::Continue(())))
}

/// Twenty needles, the odd ones deleted, the even ones overwritten once.
pub fn half_deleted(rig: &Rig) {
    for k in 1..=20 {
        rig.put(k, &[1; 100]).unwrap();
    }
    for k in (1..=20).step_by(2) {
        rig.delete(k).unwrap();
        rig.put(k + 1, &data_of(k + 1)).unwrap();
    }
}

pub fn data_of(k: u64) -> Vec<u8> {
    k.to_le_bytes().repeat(30)
}

pub fn verify_half_deleted(rig: &Rig) {
    for k in (1..=20).step_by(2) {
        assert_eq!(rig.data(k), None, "needle {k}");
        assert_eq!(rig.data(k + 1), Some(data_of(k + 1)), "needle {}", k + 1);
    }
    let findings = rig.volume.check().unwrap();
    assert!(findings.is_empty(), "{:?}", findings.as_slice());
}

fn strays(disk: &SimulatedDisk) -> Vec<String> {
    let names = disk.paths().into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        [".cpd", ".cpx", ".cpc"].iter().any(|end| name.ends_with(end)).then_some(name)
    });
    names.collect()
}

fn advance(rig: &Rig, by: Duration) {
    rig.opener.shared.stamps.clock().advance(by);
}

#[test]
fn garbage_goes_and_needles_stay_also_over_a_restart() {
    let disk = SimulatedDisk::new(1);
    let mut rig = Rig::on(&disk);
    half_deleted(&rig);
    advance(&rig, Duration::from_secs(601));
    let before = rig.volume.report();
    let compacted = compact(&rig).unwrap();
    let after = rig.volume.report();
    assert_eq!(
        (compacted.before_bytes, compacted.after_bytes),
        (before.size_bytes, after.size_bytes)
    );
    assert_eq!((before.live_needles, before.live_bytes), (after.live_needles, after.live_bytes));
    assert_eq!((after.garbage_bytes, after.garbage_needles), (0, 0));
    assert_eq!(after.compaction_revision, 1);
    assert_eq!(after.modified_at_secs, before.modified_at_secs);
    verify_half_deleted(&rig);
    assert_eq!(strays(&disk), Vec::<String>::new());
    rig.put(1, b"again").unwrap();
    disk.crash();
    rig.restart();
    rig.reopen(false);
    assert_eq!(rig.data(1).as_deref(), Some(&b"again"[..]));
    rig.delete(1).unwrap();
    verify_half_deleted(&rig);
    compact(&rig).unwrap();
    assert_eq!(rig.volume.report().compaction_revision, 2);
    verify_half_deleted(&rig);
}

#[test]
fn a_young_tombstone_is_kept_and_an_old_one_is_not() {
    let rig = Rig::on(&SimulatedDisk::new(2));
    rig.put(1, b"one").unwrap();
    rig.put(2, b"two").unwrap();
    rig.delete(1).unwrap();
    advance(&rig, Duration::from_secs(599));
    compact(&rig).unwrap();
    assert_eq!(rig.volume.keys().0, 2, "the tombstone is there");
    advance(&rig, Duration::from_secs(2));
    compact(&rig).unwrap();
    assert_eq!(rig.volume.keys().0, 1, "the tombstone is gone");
    assert_eq!(rig.data(1), None);
}

/// The highest stamp may have been a tombstone's.
#[test]
fn stamps_stay_above_that_of_a_dropped_tombstone() {
    let disk = SimulatedDisk::new(3);
    let mut rig = Rig::on(&disk);
    rig.put(1, b"one").unwrap();
    rig.delete(1).unwrap();
    let clock = rig.opener.shared.stamps.clock().clone();
    clock.advance(Duration::from_secs(700));
    compact(&rig).unwrap();
    assert_eq!(rig.volume.keys().0, 0);
    let findings = rig.volume.check().unwrap();
    assert!(findings.is_empty(), "{:?}", findings.as_slice());
    disk.crash();
    rig.opener = opener_at(Clock::manual(1));
    rig.reopen(false);
    rig.put(2, b"two").unwrap();
    assert!(rig.read(2).unwrap().ts.0 > NOW_NS, "a stamp from before the delete");
}

#[test]
fn what_is_written_and_deleted_while_it_copies_stands() {
    let rig = Rig::on(&SimulatedDisk::new(4));
    half_deleted(&rig);
    let mut pauses = 0;
    let during = || {
        pauses += 1;
        rig.put(2, b"overwritten").unwrap();
        rig.put(100 + pauses, b"new").unwrap();
        if pauses == 1 {
            rig.delete(4).unwrap();
            rig.put(200, b"short-lived").unwrap();
            rig.delete(200).unwrap();
        }
        ControlFlow::Continue(())
    };
    rig.volume.compact(&mut Pauses(during)).unwrap();
    assert!(pauses >= 2);
    assert_eq!(rig.data(2).as_deref(), Some(&b"overwritten"[..]));
    assert_eq!((rig.data(4), rig.data(200)), (None, None));
    assert_eq!(rig.data(6), Some(data_of(6)));
    for pause in 1..=pauses {
        assert_eq!(rig.data(100 + pause).as_deref(), Some(&b"new"[..]));
    }
    assert!(rig.volume.check().unwrap().is_empty());
}

fn expiring(k: u64, data: &[u8]) -> NewNeedle<NeedleData> {
    let mut needle = needle(k, data);
    needle.meta.ttl = "1m".parse().unwrap();
    needle
}

#[test]
fn the_expired_are_deleted_but_not_what_was_written_over_them_meanwhile() {
    let rig = Rig::on(&SimulatedDisk::new(5));
    rig.commit(vec![Write::Put(expiring(1, b"one")), Write::Put(expiring(2, b"two"))]);
    rig.put(3, b"three").unwrap();
    rig.watch(Duration::from_secs(61));
    let renew = || {
        rig.put(2, b"renewed").unwrap();
        ControlFlow::Continue(())
    };
    let compacted = rig.volume.compact(&mut Pauses(renew)).unwrap();
    assert_eq!(compacted.expired, 1);
    assert_eq!(rig.data(1), None);
    assert_eq!(rig.data(2).as_deref(), Some(&b"renewed"[..]));
    assert_eq!(rig.data(3).as_deref(), Some(&b"three"[..]));
    assert_eq!(rig.volume.report().live_needles, 2);
    assert!(rig.volume.check().unwrap().is_empty());
}

#[test]
fn a_clock_that_is_not_believed_hides_what_expired_by_it_and_deletes_nothing() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let rig = Rig::on(&SimulatedDisk::new(5));
    let mut daily = needle(1, b"for a day");
    daily.meta.ttl = "1d".parse().unwrap();
    rig.put(2, b"lasting").unwrap();
    rig.commit(vec![Write::Put(daily)]);
    rig.put(3, b"garbage").unwrap();
    rig.delete(3).unwrap();
    let outcome = || {
        let compacted = compact(&rig).unwrap();
        assert!(rig.volume.check().unwrap().is_empty());
        assert_eq!(rig.data(2).as_deref(), Some(&b"lasting"[..]));
        (compacted.expired, compacted.doubted)
    };
    rig.clock().jump_ahead(30 * DAY);
    assert_eq!((outcome(), rig.data(1)), ((0, 1), None));
    rig.watch(Duration::from_secs(59 * 60));
    assert_eq!((outcome(), rig.data(1)), ((0, 1), None));
    rig.clock().jump_back(30 * DAY);
    assert_eq!((outcome(), rig.data(1).as_deref()), ((0, 0), Some(&b"for a day"[..])));
    rig.watch(DAY);
    let trust = &rig.opener.shared.clock_trust;
    let hear = |wall_ns| trust.heard("the master", wall_ns, rig.clock().boot());
    hear(rig.clock().wall_ns() - 61_000_000_000);
    assert_eq!((outcome(), rig.data(1)), ((0, 1), None));
    hear(rig.clock().wall_ns());
    let live = rig.volume.report().live_needles;
    assert_eq!((outcome(), rig.data(1)), ((1, 0), None));
    assert_eq!(rig.volume.report().live_needles, live - 1);
}

#[test]
fn a_needle_that_is_not_the_one_that_was_looked_at_does_not_expire() {
    let rig = Rig::on(&SimulatedDisk::new(6));
    rig.put(1, b"one").unwrap();
    let written = rig.read(1).unwrap().ts;
    rig.put(1, b"two").unwrap();
    let expire = || rig.commit(vec![Write::Expire { key: key(1), cookie: COOKIE, written }]);
    assert!(expire().remove(0).is_err());
    assert_eq!(rig.data(1).as_deref(), Some(&b"two"[..]));
    let written = rig.read(1).unwrap().ts;
    let expired = rig.commit(vec![Write::Expire { key: key(1), cookie: COOKIE, written }]);
    assert!(expired[0].is_ok());
    assert_eq!(rig.data(1), None);
}

#[test]
fn a_stop_or_no_room_leaves_everything_as_it_was() {
    let disk = SimulatedDisk::new(7);
    let rig = Rig::on(&disk);
    half_deleted(&rig);
    let before = disk.contents(&rig.dat());
    let stopped = rig.volume.compact(&mut Pauses(|| ControlFlow::Break(())));
    assert!(matches!(stopped, Err(CompactionError::Stopped)));
    disk.limit_free_bytes(32 << 20);
    let refused = compact(&rig);
    assert!(matches!(refused, Err(CompactionError::NoRoom { .. })), "{refused:?}");
    assert_eq!(disk.contents(&rig.dat()), before);
    assert_eq!(strays(&disk), Vec::<String>::new());
    verify_half_deleted(&rig);
    disk.limit_free_bytes(1 << 40);
    compact(&rig).unwrap();
    verify_half_deleted(&rig);
}

#[test]
fn only_one_compaction_of_a_volume_runs_at_a_time() {
    let rig = Rig::on(&SimulatedDisk::new(8));
    half_deleted(&rig);
    let mut second = None;
    let try_second = || {
        second.get_or_insert_with(|| compact(&rig));
        ControlFlow::Continue(())
    };
    rig.volume.compact(&mut Pauses(try_second)).unwrap();
    assert!(matches!(second, Some(Err(CompactionError::Busy))));
}

#[test]
fn a_record_that_does_not_verify_is_not_left_behind() {
    let disk = SimulatedDisk::new(9);
    let rig = Rig::on(&disk);
    half_deleted(&rig);
    let live_at = rig.volume.locate(key(10)).unwrap().offset;
    disk.flip(&rig.dat(), 8 * (live_at as usize + 60));
    let before = disk.contents(&rig.dat());
    let refused = compact(&rig);
    assert!(
        matches!(refused, Err(CompactionError::Damaged { offset, .. }) if offset == live_at),
        "{refused:?}"
    );
    assert_eq!(disk.contents(&rig.dat()), before);
    assert_eq!(strays(&disk), Vec::<String>::new());
    rig.put(10, &data_of(10)).unwrap();
    compact(&rig).unwrap();
    verify_half_deleted(&rig);
}

#[test]
fn garbage_that_does_not_verify_is_dropped() {
    let record_len = record_len(100 + 6, CURRENT_VERSION) as usize;
    for bit in 0..8 * record_len {
        let disk = SimulatedDisk::new(9);
        let rig = Rig::on(&disk);
        half_deleted(&rig);
        let before = rig.volume.report();
        // The first record is that of needle 1, which was deleted.
        disk.flip(&rig.dat(), 64 + bit);
        compact(&rig).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert!(rig.volume.report().size_bytes < before.size_bytes);
        verify_half_deleted(&rig);
    }
}

/// A copy that the disk spoils is noticed before it takes the place of the original.
#[test]
fn a_spoilt_copy_is_not_swapped_in() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let rig = Rig::on(&disk);
        half_deleted(&rig);
        // The first write is that of the superblock.
        disk.plan(Operation::Write, Some("cpd"), 1, Fault::Misdirects);
        let spoilt = compact(&rig);
        assert!(disk.forgive(), "the write went astray");
        assert!(matches!(spoilt, Err(CompactionError::Differs)), "seed {seed}: {spoilt:?}");
        assert_eq!(strays(&disk), Vec::<String>::new());
        verify_half_deleted(&rig);
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_files_or_the_new_ones() {
    let operations = {
        let disk = SimulatedDisk::new(11);
        let rig = Rig::on(&disk);
        half_deleted(&rig);
        let before = disk.operations().len();
        compact(&rig).unwrap();
        (disk.operations().len() - before) as u64
    };
    assert!(operations > 20, "{operations} operations");
    let mut revisions = [0, 0];
    for seed in 0..8 {
        for after in 0..=operations {
            let disk = SimulatedDisk::new(seed);
            let mut rig = Rig::on(&disk);
            half_deleted(&rig);
            if seed % 2 == 1 {
                compact(&rig).unwrap();
            }
            let revision = rig.volume.report().compaction_revision;
            disk.stop_after(after);
            let _ = compact(&rig);
            disk.crash();
            rig.restart();
            rig.reopen(false);
            verify_half_deleted(&rig);
            let report = rig.volume.report();
            assert_eq!(report.local, LocalState::Ready, "after {after} operations");
            revisions[usize::from(report.compaction_revision - revision)] += 1;
            assert_eq!(strays(&disk), Vec::<String>::new(), "after {after} operations");
            rig.put(1, b"goes on").unwrap();
            disk.crash();
            rig.restart();
            rig.reopen(false);
            assert_eq!(rig.data(1).as_deref(), Some(&b"goes on"[..]));
        }
    }
    assert!(revisions.iter().all(|count| *count > 50), "{revisions:?}");
}

#[test]
fn whatever_operation_fails_nothing_is_lost() {
    for operation in [
        Operation::Write,
        Operation::Sync,
        Operation::Create,
        Operation::Rename,
        Operation::SyncDir,
        Operation::Remove,
        Operation::Truncate,
        Operation::Read,
    ] {
        for nth in 0..12 {
            let disk = SimulatedDisk::new(nth);
            let mut rig = Rig::on(&disk);
            half_deleted(&rig);
            disk.plan(operation, None, nth, Fault::Fails(EIO));
            let compacted = compact(&rig);
            let came_to_pass = disk.forgive();
            let context = format!("{operation:?} {nth}: {compacted:?}");
            assert!(came_to_pass || compacted.is_ok(), "{context}");
            let is_ready = rig.volume.report().local == LocalState::Ready;
            let written = rig.put(1, b"one");
            assert_eq!(written.is_ok(), is_ready, "{context}");
            disk.crash();
            rig.restart();
            rig.reopen(false);
            assert_eq!(rig.volume.report().local, LocalState::Ready, "{context}");
            if is_ready {
                assert_eq!(rig.data(1).as_deref(), Some(&b"one"[..]), "{context}");
                rig.delete(1).unwrap();
            }
            verify_half_deleted(&rig);
            compact(&rig).unwrap();
            verify_half_deleted(&rig);
        }
    }
}

#[test]
fn readers_and_writers_go_on_while_a_volume_is_compacted_again_and_again() {
    const KEYS: u64 = 400;
    let rig = Rig::new();
    for k in 1..=KEYS {
        rig.put(k, &data_of(k)).unwrap();
    }
    let (is_over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let volume = &rig.volume;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                let k = round % (KEYS / 2) + 1;
                let writes = vec![
                    Write::Put(needle(k, &data_of(k))),
                    Write::Put(needle(KEYS + round, &[7; 3000])),
                    Write::Delete { key: key(KEYS + round), cookie: COOKIE },
                ];
                assert!(volume.commit(writes).iter().all(Result::is_ok));
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for k in 1..=KEYS {
                    assert_eq!(read_of(volume, k).unwrap().data, data_of(k), "needle {k}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..20 {
            compact(&rig).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > KEYS);
    assert_eq!(rig.volume.report().compaction_revision, 20);
    let findings = rig.volume.check().unwrap();
    assert!(findings.is_empty(), "{:?}", findings.as_slice());
}
