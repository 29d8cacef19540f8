//! A disk that fails at the n-th operation.

use dulse_shared::wire::LocalState;
use dulse_volume::{
    disk::simulated::{EIO, Fault, Operation, SimulatedDisk},
    engine::write::{Write, WriteError},
    format::NewNeedle,
};

use crate::harness::{COOKIE, Rig, key, needle, spooled};

fn rig_with_one_needle() -> (SimulatedDisk, Rig) {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::on(&disk);
    rig.put(1, b"before").unwrap();
    (disk, rig)
}

#[test]
fn a_full_disk_is_taken_back_and_the_volume_goes_on() {
    let (disk, mut rig) = rig_with_one_needle();
    let len = rig.volume.report().size_bytes;
    disk.plan(Operation::Write, Some("dat"), 0, Fault::Tears);
    assert!(matches!(rig.put(2, b"no room"), Err(WriteError::Refused(_))));
    assert_eq!(disk.contents(&rig.dat()).unwrap().len() as u64, len);
    assert_eq!(rig.data(2), None);
    rig.put(3, b"room again").unwrap();
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert_eq!(rig.data(3).unwrap(), b"room again");
}

#[test]
fn a_short_write_goes_on_where_it_stopped() {
    let (disk, rig) = rig_with_one_needle();
    for nth in 0..3 {
        disk.plan(Operation::Write, Some("dat"), nth, Fault::WritesShort);
    }
    rig.put(2, b"in pieces").unwrap();
    assert_eq!(rig.data(2).unwrap(), b"in pieces");
}

#[test]
fn a_failed_sync_is_never_retried() {
    for keeps_cache in [false, true] {
        let (disk, rig) = rig_with_one_needle();
        disk.plan(Operation::Sync, Some("dat"), 0, Fault::LosesPages { keeps_cache });
        assert!(matches!(rig.put(2, b"perhaps"), Err(WriteError::Unknown(_))));
        assert_eq!(rig.data(2), None, "what was not made durable is not visible");
        assert!(matches!(rig.put(3, b"never"), Err(WriteError::Refused(_))));
        assert_eq!(rig.volume.report().local, LocalState::Failed);
        assert_eq!(rig.data(1).unwrap(), b"before");
    }
}

#[test]
fn a_write_that_cannot_be_taken_back_fails_the_volume() {
    let (disk, mut rig) = rig_with_one_needle();
    disk.plan(Operation::Write, Some("dat"), 0, Fault::Tears);
    disk.plan(Operation::Truncate, Some("dat"), 0, Fault::Fails(EIO));
    assert!(matches!(rig.put(2, b"half"), Err(WriteError::Unknown(_))));
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert_eq!(rig.data(2), None);
    rig.put(2, b"after the restart").unwrap();
}

#[test]
fn an_index_that_cannot_be_written_loses_nothing() {
    let (disk, mut rig) = rig_with_one_needle();
    disk.plan(Operation::Write, Some("idx"), 0, Fault::Tears);
    rig.put(2, b"durable").unwrap();
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    assert_eq!(rig.data(2).unwrap(), b"durable");
    rig.reopen(true);
    assert_eq!(rig.data(2).unwrap(), b"durable");
    assert_eq!(rig.volume.report().local, LocalState::Ready);
}

#[test]
fn what_a_failed_batch_did_not_do_no_answer_of_it_builds_on() {
    let (disk, mut rig) = rig_with_one_needle();
    disk.plan(Operation::Write, Some("dat"), 0, Fault::Tears);
    let delete = || Write::Delete { key: key(1), cookie: COOKIE };
    for answer in rig.commit(vec![delete(), delete()]) {
        assert!(matches!(answer, Err(WriteError::Refused(_))), "{answer:?}");
    }
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert!(rig.volume.check().unwrap().is_empty());
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
}

#[test]
fn an_index_whose_sync_failed_is_not_synced_again_but_made_anew() {
    let (disk, mut rig) = rig_with_one_needle();
    disk.plan(Operation::Sync, Some("idx"), 0, Fault::LosesPages { keeps_cache: true });
    rig.volume.checkpoint().unwrap_err();
    assert_eq!(rig.volume.report().local, LocalState::Failed);
    rig.volume.checkpoint().unwrap();
    disk.crash();
    rig.reopen(false);
    assert_eq!(rig.data(1).unwrap(), b"before");
    assert!(rig.volume.check().unwrap().is_empty());
}

#[test]
fn a_sidecar_whose_replacement_failed_is_written_again() {
    let (disk, rig) = rig_with_one_needle();
    for operation in [Operation::Write, Operation::Rename, Operation::SyncDir] {
        rig.put(1, format!("{operation:?}").as_bytes()).unwrap();
        disk.plan(operation, None, 0, Fault::Fails(EIO));
        rig.volume.checkpoint().unwrap_err();
        assert!(rig.volume.check().unwrap().is_empty(), "{operation:?}");
        let before = disk.operations().len();
        rig.volume.checkpoint().unwrap();
        assert!(disk.operations().len() > before, "{operation:?}");
        assert!(rig.volume.check().unwrap().is_empty(), "{operation:?}");
    }
}

/// Longer than what is copied at a time.
fn long() -> Vec<u8> {
    (0..700_001_u32).map(|at| (at / 5 % 251) as u8).collect()
}

#[test]
fn a_spooled_needle_is_that_which_the_same_bytes_in_memory_make() {
    let (a, in_memory) = rig_with_one_needle();
    let (b, in_file) = rig_with_one_needle();
    for data in [b"short".to_vec(), Vec::new(), long()] {
        let small = || Write::Put(needle(3, b"a neighbour"));
        let answers = in_memory.commit(vec![small(), Write::Put(needle(2, &data)), small()]);
        assert!(answers.iter().all(Result::is_ok));
        let put = spooled(&b, 2, &data).unwrap();
        let answers = in_file.commit(vec![small(), Write::Put(put), small()]);
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(in_file.data(2).unwrap(), data);
        assert_eq!(in_file.volume.report().size_bytes, in_memory.volume.report().size_bytes);
    }
    in_memory.volume.rest().unwrap();
    in_file.volume.rest().unwrap();
    let [a, b] = [a.contents(&in_memory.dat()), b.contents(&in_file.dat())].map(Option::unwrap);
    assert!(a == b, "byte for byte");
}

#[test]
fn a_copy_that_fails_or_is_cut_short_is_taken_back() {
    for (fault, nth) in [(Fault::Tears, 1), (Fault::Fails(EIO), 2), (Fault::Fails(EIO), 0)] {
        let (disk, mut rig) = rig_with_one_needle();
        let len = rig.volume.report().size_bytes;
        let put = spooled(&disk, 2, &long()).unwrap();
        disk.plan(Operation::Write, Some("dat"), nth, fault);
        let answer = rig.commit(vec![Write::Put(put.clone())]).remove(0);
        assert!(matches!(answer, Err(WriteError::Refused(_))), "{answer:?}");
        assert_eq!(disk.contents(&rig.dat()).unwrap().len() as u64, len);
        disk.plan(Operation::Write, Some("dat"), nth, Fault::WritesShort);
        rig.commit(vec![Write::Put(put)]).remove(0).unwrap();
        rig.reopen(false);
        assert_eq!(rig.data(2).unwrap(), long());
    }
}

#[test]
fn a_spool_that_does_not_hold_what_was_received_is_not_stored() {
    let (disk, rig) = rig_with_one_needle();
    let len = rig.volume.report().size_bytes;
    let put = spooled(&disk, 2, &long()).unwrap();
    let mangled = Write::Put(NewNeedle { checksum: put.checksum ^ 1, ..put.clone() });
    let refused = |answer| matches!(answer, Err(WriteError::Mangled(_)));
    assert!(refused(rig.commit(vec![mangled]).remove(0)));
    disk.plan(Operation::Read, None, 1, Fault::Fails(EIO));
    assert!(refused(rig.commit(vec![Write::Put(put.clone())]).remove(0)));
    assert_eq!(disk.contents(&rig.dat()).unwrap().len() as u64, len);
    assert_eq!(rig.data(2), None);
    rig.commit(vec![Write::Put(put)]).remove(0).unwrap();
    assert_eq!(rig.data(2).unwrap(), long());
}
