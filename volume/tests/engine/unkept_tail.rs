//! A torn end that the trash cannot take: the volume is read, nothing is cut or written, and the next
//! start with room cuts it off.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use dulse_shared::{clock::Clock, wire::LocalState};
use dulse_volume::{
    disk::{
        Disk,
        simulated::{EIO, Fault, Operation, SimulatedDisk},
    },
    engine::{
        compaction::{CompactionError, Pace},
        expiry::Expiry,
        write::WriteError,
    },
    offline::check::{Repairs, check_dir},
};

use crate::harness::{NOW_NS, Rig, SIMULATED_DIR};

struct AtOnce;

impl Pace for AtOnce {
    fn after(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A volume of three needles, its last record torn, and what is left of that.
fn torn(disk: &SimulatedDisk, ttl: &str) -> (Rig, Vec<u8>) {
    let rig = Rig::with_ttl(disk, ttl);
    let mut ends = Vec::new();
    for key in 1..=3 {
        rig.put(key, format!("data of needle {key}").as_bytes()).unwrap();
        ends.push(rig.volume.report().size_bytes as usize);
    }
    let (dat, idx) = (disk.contents(&rig.dat()).unwrap(), disk.contents(&rig.idx()).unwrap());
    let tail = dat[ends[1]..ends[2] - 20].to_vec();
    disk.put(&rig.dat(), dat[..ends[2] - 20].to_vec());
    disk.put(&rig.idx(), idx[..2 * 16].to_vec());
    (rig, tail)
}

fn torn_copies(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let is_torn = |path: &PathBuf| path.extension().is_some_and(|end| end == "torn");
    disk.paths().into_iter().filter(is_torn).collect()
}

/// It is read and not written, whatever is tried, and says why.
#[track_caller]
fn assert_left_alone(rig: &Rig, disk: &SimulatedDisk, before: &[u8], tail: &[u8], advice: &str) {
    let report = rig.volume.report();
    assert_eq!(report.local, LocalState::Damaged);
    let trouble = report.trouble.unwrap();
    let expected = format!("its torn end of {} bytes cannot be kept in the trash: ", tail.len());
    assert!(trouble.starts_with(&expected), "{trouble}");
    let advised = format!("; {advice} and start the server again");
    assert!(trouble.ends_with(&advised), "{trouble}");
    assert_eq!(rig.data(1).unwrap(), b"data of needle 1");
    assert_eq!(rig.data(2).unwrap(), b"data of needle 2");
    assert_eq!(rig.data(3), None, "no write was answered for it");
    assert!(matches!(rig.put(4, b"more"), Err(WriteError::Refused(_))));
    assert!(matches!(rig.delete(1), Err(WriteError::Refused(_))));
    let compacted = rig.volume.compact(&mut AtOnce);
    assert!(matches!(compacted, Err(CompactionError::Refused(_))), "{compacted:?}");
    rig.volume.rest().unwrap();
    assert!(disk.contents(&rig.dat()).unwrap() == before, "its file is as it was");
    assert_eq!(torn_copies(disk), Vec::<PathBuf>::new(), "nor is half a copy left");
}

/// With room it is cut, kept and written on.
#[track_caller]
fn assert_cut_at_the_next_start(rig: &mut Rig, tail: &[u8]) {
    rig.restart();
    rig.reopen(false);
    let report = rig.volume.report();
    assert_eq!((report.local, report.trouble), (LocalState::Ready, None));
    assert_eq!(rig.trash(), [tail.to_vec()]);
    rig.put(3, b"anew").unwrap();
    rig.reopen(true);
    assert_eq!(rig.data(2).unwrap(), b"data of needle 2");
    assert_eq!(rig.data(3).unwrap(), b"anew");
    let findings = rig.volume.check().unwrap();
    assert!(findings.is_empty(), "{:?}", findings.as_slice());
}

#[test]
fn on_a_full_disk_a_torn_end_stays_until_a_start_has_room_for_it() {
    for free_bytes in [0, 5] {
        let disk = SimulatedDisk::new(1);
        let (mut rig, tail) = torn(&disk, "");
        let before = disk.contents(&rig.dat()).unwrap();
        disk.limit_free_bytes(free_bytes);
        // The second after a clean end, which writes no checkpoint over what was not cut.
        for is_clean in [false, true] {
            rig.reopen(is_clean);
            assert_left_alone(&rig, &disk, &before, &tail, "make room");
        }
        disk.limit_free_bytes(1 << 30);
        assert_cut_at_the_next_start(&mut rig, &tail);
    }
}

#[test]
fn whatever_fails_while_it_is_kept_leaves_the_volume_readable_and_no_half_copy() {
    let faults = [
        (Operation::Create, Some("torn"), Fault::Fails(EIO)),
        (Operation::Write, Some("torn"), Fault::Tears),
        (Operation::Sync, Some("torn"), Fault::Fails(EIO)),
        (Operation::SyncDir, None, Fault::Fails(EIO)),
    ];
    for (operation, extension, fault) in faults {
        for has_index in [true, false] {
            let disk = SimulatedDisk::new(1);
            let (mut rig, tail) = torn(&disk, "");
            let before = disk.contents(&rig.dat()).unwrap();
            if !has_index {
                disk.erase(&rig.idx());
            }
            disk.plan(operation, extension, 0, fault);
            rig.reopen(false);
            assert!(disk.forgive(), "{operation:?} came to pass");
            // A torn write is what a full disk leaves.
            let advice = if fault == Fault::Tears { "make room" } else { "see to the disk" };
            assert_left_alone(&rig, &disk, &before, &tail, advice);
            assert_cut_at_the_next_start(&mut rig, &tail);
        }
    }
}

#[test]
fn with_an_uncut_end_a_volume_does_not_expire() {
    let disk = SimulatedDisk::new(1);
    let (mut rig, _) = torn(&disk, "1h");
    disk.plan(Operation::Write, Some("torn"), 0, Fault::Tears);
    rig.reopen(false);
    rig.opener.shared.stamps.clock().advance(std::time::Duration::from_secs(7200));
    assert_eq!(rig.volume.expire_if_due().unwrap(), Expiry::Unchanged);
    assert_eq!(rig.volume.report().local, LocalState::Damaged);
}

#[test]
fn a_repair_that_cannot_keep_it_says_so_and_cuts_nothing() {
    let disk = SimulatedDisk::new(1);
    let (rig, tail) = torn(&disk, "");
    let before = disk.contents(&rig.dat()).unwrap();
    let files: Arc<dyn Disk> = Arc::new(disk.clone());
    let path = std::path::Path::new(SIMULATED_DIR);
    let dat = rig.dat();
    drop(rig);
    let mut outcomes = Vec::new();
    for is_failing in [true, false] {
        // A crash releases the lock.
        disk.crash();
        if is_failing {
            disk.plan(Operation::Write, Some("torn"), 0, Fault::Tears);
        }
        let clock = Clock::manual(NOW_NS);
        let report = check_dir(&files, path, Repairs::Safe, &clock, &mut |_| {}).unwrap();
        let found = report.volumes[0].findings.as_slice().iter().map(ToString::to_string);
        outcomes.push((found.collect::<Vec<_>>().join("\n"), disk.contents(&dat).unwrap()));
    }
    let [(said, after), (said_then, then)] = outcomes.try_into().unwrap();
    assert!(said.contains("cannot be kept in the trash"), "{said}");
    assert!(after == before && said_then.is_empty(), "{said_then}");
    assert!(then == before[..before.len() - tail.len()]);
}
