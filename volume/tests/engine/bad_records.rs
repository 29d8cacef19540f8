//! Compaction of a file with bad records: garbage may be as bad as it likes, needles may not, and a
//! deleted needle does not come back for want of the record of its delete.

use std::{
    ops::{ControlFlow, Range},
    sync::{Arc, atomic::Ordering},
};

use dulse_shared::{
    clock::Clock,
    id::ServerId,
    wire::{Member, VolumeConfig},
};
use dulse_volume::{
    disk::simulated::SimulatedDisk,
    engine::compaction::{Compacted, CompactionError},
};

use crate::{
    compaction::{Pauses, compact, data_of, half_deleted, verify_half_deleted},
    complaints::Complaints,
    harness::{NOW_NS, Rig, SIMULATED_DIR, key},
    troubled_disk::TroubledDisk,
};

/// The first byte of a volume's first record.
const FIRST: u64 = 8;

fn end(rig: &Rig) -> u64 {
    rig.volume.report().size_bytes
}

fn offset(rig: &Rig, k: u64) -> u64 {
    rig.volume.locate(key(k)).unwrap().offset
}

fn troubled() -> (TroubledDisk, Rig) {
    let disk = TroubledDisk::new();
    let rig = Rig::over(Arc::new(disk.clone()));
    (disk, rig)
}

/// Needles 1 to 20 as [`half_deleted`] leaves them, without the records of deletes.
fn overwritten(rig: &Rig) {
    for k in 1..=20 {
        rig.put(k, &[1; 100]).unwrap();
    }
    for k in 1..=20 {
        rig.put(k, &data_of(k)).unwrap();
    }
}

fn verify_overwritten(rig: &Rig) {
    for k in 1..=20 {
        assert_eq!(rig.data(k), Some(data_of(k)), "needle {k}");
    }
    let findings = rig.volume.check().unwrap();
    assert!(findings.is_empty(), "{:?}", findings.as_slice());
}

/// Deletes needle 7 of [`half_deleted`], whose record is copied; where the record of the delete is.
fn deleted(rig: &Rig) -> Range<u64> {
    half_deleted(rig);
    rig.put(7, b"for a moment").unwrap();
    let start = end(rig);
    rig.delete(7).unwrap();
    let range = start..end(rig);
    rig.put(2, &data_of(2)).unwrap();
    range
}

#[test]
fn garbage_that_the_disk_does_not_give_is_passed_by_and_its_neighbours_are_copied() {
    let record = {
        let (_, rig) = troubled();
        rig.put(1, &[1; 100]).unwrap();
        end(&rig) - FIRST
    };
    // The garbage of needle 10 alone lies between that of 9 and 11; all of it lies before the needles.
    for silent in [0..1, 4..24, 30..31, record - 1..record, 0..record, 0..record + 1] {
        let (disk, rig) = troubled();
        rig.put(100, b"before").unwrap();
        let first = end(&rig);
        overwritten(&rig);
        *disk.silent.lock().unwrap() = first + silent.start..first + silent.end;
        let compacted = compact(&rig).unwrap_or_else(|error| panic!("{silent:?}: {error}"));
        assert_eq!(compacted.bad_stretches, 1, "{silent:?}");
        assert_eq!(rig.data(100).as_deref(), Some(&b"before"[..]));
        verify_overwritten(&rig);
    }
}

/// Each refusal may take a disk seconds.
#[test]
fn a_disk_is_asked_few_times_for_what_it_does_not_give() {
    let (disk, rig) = troubled();
    for k in 1..=500 {
        rig.put(k, &data_of(k)).unwrap();
    }
    let bad_at = end(&rig);
    rig.put(501, &[1; 100]).unwrap();
    rig.put(501, &data_of(501)).unwrap();
    *disk.silent.lock().unwrap() = bad_at + 30..bad_at + 31;
    assert_eq!(compact(&rig).unwrap().bad_stretches, 1);
    assert_eq!(disk.refused.load(Ordering::Relaxed), 2, "with the others, and by itself");
    for k in 1..=501 {
        assert_eq!(rig.data(k), Some(data_of(k)), "needle {k}");
    }
}

/// Larger than what is read at once, and so are its neighbours.
#[test]
fn garbage_that_the_disk_does_not_give_may_be_large() {
    let large = |n: u8| vec![n; 700 << 10];
    for silent_at in [0, 300 << 10, (700 << 10) - 1] {
        let (disk, rig) = troubled();
        rig.put(1, &large(1)).unwrap();
        let start = end(&rig);
        rig.put(2, &large(2)).unwrap();
        rig.put(3, &large(3)).unwrap();
        rig.put(4, b"small").unwrap();
        rig.put(2, b"small as well").unwrap();
        *disk.silent.lock().unwrap() = start + silent_at..start + silent_at + 1;
        assert_eq!(compact(&rig).unwrap().bad_stretches, 1, "{silent_at}");
        assert_eq!((rig.data(1), rig.data(3)), (Some(large(1)), Some(large(3))));
        assert_eq!(rig.data(2).as_deref(), Some(&b"small as well"[..]));
        assert!(rig.volume.check().unwrap().is_empty());
    }
}

/// What was not read must not pass for bytes of the file, wherever a bad header points.
#[test]
fn garbage_whose_length_is_bad_and_that_the_disk_does_not_give_is_passed_by() {
    for bit in 0..32 {
        let (disk, rig) = troubled();
        overwritten(&rig);
        disk.disk.flip(&rig.dat(), (FIRST as usize + 12) * 8 + bit);
        *disk.silent.lock().unwrap() = FIRST + 40..FIRST + 41;
        compact(&rig).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        verify_overwritten(&rig);
    }
}

#[test]
fn a_needle_that_the_disk_does_not_give_ends_it_and_is_named() {
    for at in [0, 50, 200] {
        let (disk, rig) = troubled();
        half_deleted(&rig);
        let bad_at = offset(&rig, 10);
        *disk.silent.lock().unwrap() = bad_at + at..bad_at + at + 1;
        let before = disk.disk.contents(&rig.dat());
        match compact(&rig) {
            Err(CompactionError::Damaged { key: named, offset, reason }) => {
                assert_eq!((named, offset), (key(10), bad_at));
                assert!(reason.contains("the disk does not give its bytes"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(disk.disk.contents(&rig.dat()), before);
        *disk.silent.lock().unwrap() = 0..0;
        assert_eq!(compact(&rig).unwrap().bad_stretches, 0);
        verify_half_deleted(&rig);
    }
}

/// Many bad records all over the file, each on its own between needles that are copied.
#[test]
fn all_garbage_may_be_bad_and_the_log_stays_short() {
    for (bad, lines) in [(3, 3), (20, 20), (21, 21), (2000, 21)] {
        let disk = SimulatedDisk::new(1);
        let rig = Rig::on(&disk);
        let mut garbage = Vec::new();
        for k in 1..=bad {
            garbage.push(end(&rig));
            rig.put(k, &[1; 100]).unwrap();
            rig.put(bad + k, &data_of(bad + k)).unwrap();
        }
        for k in 1..=bad {
            rig.put(k, &data_of(k)).unwrap();
        }
        for at in garbage {
            disk.flip(&rig.dat(), (at as usize + 30) * 8);
        }
        let complaints = Complaints::default();
        let compacted = tracing::subscriber::with_default(complaints.clone(), || compact(&rig));
        assert_eq!((compacted.unwrap().bad_stretches, complaints.count()), (bad, lines));
        for k in 1..=2 * bad {
            assert_eq!(rig.data(k), Some(data_of(k)), "needle {k}");
        }
        assert!(rig.volume.check().unwrap().is_empty());
    }
}

/// Reads go wrong while the volume is written to: what was listed as pointed at may be no longer.
#[test]
fn a_bad_needle_that_is_written_over_meanwhile_is_garbage() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    rig.put(1, &[1; 100]).unwrap();
    rig.put(2, &vec![2; 600 << 10]).unwrap();
    rig.put(3, &[3; 100]).unwrap();
    rig.put(1, &data_of(1)).unwrap();
    disk.flip(&rig.dat(), (FIRST as usize + 30) * 8);
    disk.flip(&rig.dat(), (offset(&rig, 3) as usize + 30) * 8);
    let mut is_written = false;
    let write_over = || {
        if !std::mem::replace(&mut is_written, true) {
            rig.put(3, &data_of(3)).unwrap();
        }
        ControlFlow::Continue(())
    };
    assert_eq!(rig.volume.compact(&mut Pauses(write_over)).unwrap().bad_stretches, 2);
    assert_eq!((rig.data(1), rig.data(3)), (Some(data_of(1)), Some(data_of(3))));
    assert!(rig.volume.check().unwrap().is_empty());
}

fn verify_deleted(mut rig: Rig, disk: &SimulatedDisk, compacted: &Compacted) {
    assert_eq!(compacted.bad_stretches, 1);
    verify_half_deleted(&rig);
    assert_eq!(rig.volume.keys().0, 19, "ten needles, and nine deletes that are young");
    // What the file says by itself, without index and checkpoint.
    rig.reopen(true);
    disk.erase(&rig.idx());
    rig.reopen(false);
    verify_half_deleted(&rig);
    rig.put(7, b"again").unwrap();
    assert_eq!(rig.data(7).as_deref(), Some(&b"again"[..]));
}

#[test]
fn the_bad_record_of_a_delete_is_dropped_and_nothing_of_its_needle_comes_back() {
    for bit in 0..8 * 32 {
        let disk = SimulatedDisk::new(1);
        let rig = Rig::on(&disk);
        let record = deleted(&rig);
        assert_eq!(record.end - record.start, 32);
        disk.flip(&rig.dat(), record.start as usize * 8 + bit);
        let compacted = compact(&rig).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        verify_deleted(rig, &disk, &compacted);
    }
}

#[test]
fn the_record_of_a_delete_that_the_disk_does_not_give_is_dropped() {
    let (disk, rig) = troubled();
    *disk.silent.lock().unwrap() = deleted(&rig);
    let compacted = compact(&rig).unwrap();
    verify_deleted(rig, &disk.disk, &compacted);
}

/// Its needle was copied before.
#[test]
fn the_bad_record_of_a_delete_of_just_now_is_not_dropped_before_the_next_time() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    half_deleted(&rig);
    let mut deleted_at = None;
    let delete = || {
        if deleted_at.is_none() {
            deleted_at = Some(end(&rig));
            rig.delete(2).unwrap();
            disk.flip(&rig.dat(), (end(&rig) as usize - 8) * 8);
        }
        ControlFlow::Continue(())
    };
    let refused = rig.volume.compact(&mut Pauses(delete));
    assert!(
        matches!(refused, Err(CompactionError::DamagedDelete { key: named, offset, .. })
            if named == key(2) && Some(offset) == deleted_at),
        "{refused:?}"
    );
    assert_eq!(rig.data(2), None);
    assert_eq!(compact(&rig).unwrap().bad_stretches, 1);
    assert_eq!(rig.data(2), None);
    rig.put(2, &data_of(2)).unwrap();
    verify_half_deleted(&rig);
}

/// A copy of what was deleted may be on its way from there.
#[test]
fn the_bad_record_of_a_delete_is_not_dropped_where_there_is_another_member() {
    let disk = SimulatedDisk::new(1);
    let clock = Clock::manual(NOW_NS);
    let other = Member { server: ServerId::from(77), slot: 1 };
    let rig = Rig::create_with(Arc::new(disk.clone()), SIMULATED_DIR.into(), clock, |config| {
        let members = config.members.into_iter().chain([other]).collect();
        VolumeConfig { members, ..config }
    });
    let record = deleted(&rig);
    disk.flip(&rig.dat(), record.start as usize * 8);
    let refused = compact(&rig);
    assert!(
        matches!(refused, Err(CompactionError::DamagedDelete { key: named, .. }) if named == key(7)),
        "{refused:?}"
    );
    rig.put(7, b"as the message says").unwrap();
    rig.delete(7).unwrap();
    compact(&rig).unwrap();
    verify_half_deleted(&rig);
}
