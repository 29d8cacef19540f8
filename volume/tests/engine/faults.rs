//! A disk that fails at the n-th operation.

use dulse_shared::wire::LocalState;
use dulse_volume::{
    disk::simulated::{EIO, Fault, Operation, SimulatedDisk},
    engine::write::{Write, WriteError},
};

use crate::harness::{COOKIE, Rig, key};

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
